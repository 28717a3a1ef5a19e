"""What is asked of registered models: to register one, to move an alias; and the gate of an alias, a list
of checks that a version has to pass.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from store.core.config import Config, FolderSource, Line, ModelSource

KIND = "register"
ALIASES = ("candidate", "staging", "production")  # those that every model may have; people add their own
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
ALIAS = re.compile(r"[a-z][a-z0-9_-]{0,31}")


def _check_model_name(name: str) -> str:
    """The name. Raises ValueError for one that could be a path, a reference, or too long."""
    if not NAME.fullmatch(name):
        raise ValueError(
            f"Invalid model name {name[:80]!r}. Use letters, digits, dots, dashes and underscores, at "
            "most 64, starting with a letter or digit."
        )
    return name


def _check_alias_name(alias: str) -> str:
    """The alias. Raises ValueError for one that could be taken for a number or is no plain word."""
    if not ALIAS.fullmatch(alias):
        raise ValueError(
            f"Invalid alias {alias[:80]!r}. Use lowercase letters, digits, dashes and underscores, at "
            "most 32, starting with a letter."
        )
    return alias


ModelName = Annotated[Line, Field(max_length=200), AfterValidator(_check_model_name)]
AliasName = Annotated[Line, Field(max_length=200), AfterValidator(_check_alias_name)]


class RegisterConfig(Config):
    """A new version of a registered model: what a run left, or a folder as it is."""

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
    """What a model is meant for, as a person writes it; it stands in its cards. seen: what was there."""

    model: ModelName
    description: str = Field(max_length=10_000)
    seen: str | None = None


class AliasReference(Config):
    """An alias of a registered model. seen: the number that it stood at when the person looked, null for
    none; left out it is not looked at."""

    model: ModelName
    alias: AliasName = Field("production", description="production, staging, candidate or your own")
    reason: str = Field(min_length=1, max_length=2_000, description="Reason, kept in the log")
    seen: AliasSnapshot | None = None


class AliasSnapshot(Config):
    """Where a person saw an alias."""

    version: int | None


class Promote(Config):
    """Give a version an alias."""

    version: Line = Field(min_length=1, max_length=200, description="NAME@NUMBER or NAME@ALIAS")
    alias: AliasName = Field("production", description="production, staging, candidate or your own")
    reason: str = Field(min_length=1, max_length=2_000, description="Reason, kept in the log")
    override: bool = Field(
        False, description="Override a gate that did not pass; admins only, and the reason is kept"
    )
    seen: AliasSnapshot | None = None


class GateReference(Config):
    """A version at the gate of an alias."""

    version: Line = Field(min_length=1, max_length=200, description="NAME@NUMBER or NAME@ALIAS")
    alias: AliasName = Field("production", description="production, staging, candidate or your own")
