"""Configs for registered models: registering versions, moving aliases, and gates."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from store.core.config import Config, FolderSource, Line, ModelSource

KIND = "register"
ALIASES = ("candidate", "staging", "production")  # predefined for every model; users can add their own
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
ALIAS = re.compile(r"[a-z][a-z0-9_-]{0,31}")


def _check_model_name(name: str) -> str:
    """Return the name. Raises ValueError if it could be a path or a reference, or is too long."""
    if not NAME.fullmatch(name):
        raise ValueError(
            f"Invalid model name {name[:80]!r}. Use letters, digits, dots, dashes and underscores, at "
            "most 64, starting with a letter or digit."
        )
    return name


def _check_alias_name(alias: str) -> str:
    """Return the alias. Raises ValueError if it could be taken for a number or isn't a plain word."""
    if not ALIAS.fullmatch(alias):
        raise ValueError(
            f"Invalid alias {alias[:80]!r}. Use lowercase letters, digits, dashes and underscores, at "
            "most 32, starting with a letter."
        )
    return alias


ModelName = Annotated[Line, Field(max_length=200), AfterValidator(_check_model_name)]
AliasName = Annotated[Line, Field(max_length=200), AfterValidator(_check_alias_name)]


class RegisterConfig(Config):
    """Register a new version of a model: the result of a run, or a folder as it is."""

    name: ModelName = Field(description="Name of the registered model; created if it does not exist")
    run: Line = Field("", max_length=120, description="Id or name of a run; otherwise give a folder")
    checkpoint: Literal["tuned", "best", "newest"] = Field(
        "tuned", description="For a run: its final model, or its best or newest checkpoint"
    )
    path: FolderSource = Field(
        "", max_length=2_000, description="Folder with safetensors: a full model or an adapter"
    )
    base: ModelSource = Field("", max_length=500, description="For an adapter folder: its base model")
    notes: str = Field("", max_length=10_000, description="Notes on the version")

    @model_validator(mode="after")
    def _of_one(self) -> Self:
        if bool(self.run) == bool(self.path):
            raise ValueError("run: give either a run or the path of a folder")
        if self.path and self.checkpoint != "tuned":
            raise ValueError("checkpoint: only a run has checkpoints; leave it out")
        if self.run and self.base:
            raise ValueError("base: a run knows its own base; leave it out")
        return self


class DescribeModel(Config):
    """Set a model's intended use, which appears in its cards. seen: the text that the person last saw."""

    model: ModelName
    description: str = Field(max_length=10_000)
    seen: str | None = None


class AliasReference(Config):
    """An alias of a registered model. seen: the version that the person last saw it on, null for none; not
    checked if omitted.
    """

    model: ModelName
    alias: AliasName = Field("production", description="production, staging, candidate or your own")
    reason: str = Field(min_length=1, max_length=2_000, description="Reason, recorded in the log")
    seen: AliasSnapshot | None = None


class AliasSnapshot(Config):
    """The version on which a person last saw an alias."""

    version: int | None


class Promote(Config):
    """Assign an alias to a version."""

    version: Line = Field(min_length=1, max_length=200, description="NAME@NUMBER or NAME@ALIAS")
    alias: AliasName = Field("production", description="production, staging, candidate or your own")
    reason: str = Field(min_length=1, max_length=2_000, description="Reason, recorded in the log")
    override: bool = Field(
        False, description="Override a gate that did not pass; admins only, and the reason is recorded"
    )
    seen: AliasSnapshot | None = None


class GateReference(Config):
    """A version and the alias whose gate it has to pass."""

    version: Line = Field(min_length=1, max_length=200, description="NAME@NUMBER or NAME@ALIAS")
    alias: AliasName = Field("production", description="production, staging, candidate or your own")
