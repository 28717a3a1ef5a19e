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
            f"A model can't be called {name[:80]!r}; take letters, digits, dots, dashes and underscores: at"
            " most 64, a letter or digit first."
        )
    return name


def _check_alias_name(alias: str) -> str:
    """The alias. Raises ValueError for one that could be taken for a number or is no plain word."""
    if not ALIAS.fullmatch(alias):
        raise ValueError(
            f"An alias can't be called {alias[:80]!r}; take small letters, digits, dashes and underscores: at"
            " most 32, a letter first."
        )
    return alias


ModelName = Annotated[Line, Field(max_length=200), AfterValidator(_check_model_name)]
AliasName = Annotated[Line, Field(max_length=200), AfterValidator(_check_alias_name)]


class RegisterConfig(Config):
    """A new version of a registered model: what a run left, or a folder as it is."""

    name: ModelName = Field(description="Of the registered model; it is made where there is none yet")
    run: Line = Field("", max_length=120, description="Id or name of a run; or else a folder")
    checkpoint: Literal["tuned", "best", "newest"] = Field(
        "tuned", description="Of a run: as it ended, or its best or newest checkpoint"
    )
    path: FolderSource = Field(
        "", max_length=2_000, description="Folder with safetensors: a whole model or an adapter"
    )
    base: ModelSource = Field(
        "", max_length=500, description="Of an adapter's folder: the model it belongs to"
    )
    notes: str = Field("", max_length=10_000, description="What there is to know of the version")

    @model_validator(mode="after")
    def _of_one(self) -> Self:
        if bool(self.run) == bool(self.path):
            raise ValueError("run: give a run or the path of a folder, one of the two")
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
    reason: str = Field(min_length=1, max_length=2_000, description="Why; it stays in the log")
    seen: AliasSnapshot | None = None


class AliasSnapshot(Config):
    """Where a person saw an alias."""

    version: int | None


class Promote(Config):
    """Give a version an alias."""

    version: Line = Field(min_length=1, max_length=200, description="NAME@NUMBER or NAME@ALIAS")
    alias: AliasName = Field("production", description="production, staging, candidate or your own")
    reason: str = Field(min_length=1, max_length=2_000, description="Why; it stays in the log")
    override: bool = Field(False, description="Though the gate is not passed: for admins, the reason is kept")
    seen: AliasSnapshot | None = None


class GateReference(Config):
    """A version at the gate of an alias."""

    version: Line = Field(min_length=1, max_length=200, description="NAME@NUMBER or NAME@ALIAS")
    alias: AliasName = Field("production", description="production, staging, candidate or your own")
