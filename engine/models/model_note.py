"""`tunebench.json` as it is read: beside a model from elsewhere it says whatever its maker liked, and that
becomes part of cards and settings that are published, and names what is fetched."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from engine.models.base_names import HUB_ID, REVISION
from store.catalog.methods import METHODS
from store.contract.jobdir import read_json
from store.documents.models.saved_model import ModelNote

NOTE = "tunebench.json"
MAX_NAME = 255  # characters of a folder's name


class _StatedBase(BaseModel):
    """A reference as `base_names.reference` makes them."""

    model_config = ConfigDict(strict=True)

    name: str = Field(min_length=1, max_length=MAX_NAME)
    hub_id: str | None = None
    revision: str | None = None

    @model_validator(mode="after")
    def _has_its_form(self) -> Self:
        if self.hub_id is not None:
            right = self.name == self.hub_id and HUB_ID.fullmatch(self.hub_id) is not None
        else:
            right = self.name.isprintable() and not {"/", "\\"} & {*self.name}
        if not right or (self.revision is not None and not REVISION.fullmatch(self.revision)):
            raise ValueError("It isn't a reference to a base model.")
        return self


class _StatedNote(BaseModel):
    """What is read of a note, as far as a wrong value would go anywhere."""

    model_config = ConfigDict(strict=True)

    base_model: str = Field(min_length=1, max_length=MAX_NAME)
    method: str
    held: Literal["", "nf4", "int8"]
    labels: list[str] | None = None

    @field_validator("method")
    @classmethod
    def _is_one(cls, method: str) -> str:
        if method not in METHODS:
            raise ValueError("There is no such method.")
        return method


def read(folder: Path) -> ModelNote | None:
    """The note beside a model, without a base that is none; None where there is no note, or it isn't one that
    Tunebench would write."""
    try:
        note = read_json(folder / NOTE)
    except (ValueError, RecursionError):
        return None
    if not _fits(_StatedNote, note):
        return None
    if not _fits(_StatedBase, note.get("base")):
        note = {name: value for name, value in note.items() if name != "base"}
    return cast(ModelNote, note)


def _fits(kind: type[BaseModel], document: Any) -> bool:
    try:
        kind.model_validate(document)
    except ValidationError:
        return False
    return True
