"""What all documents of fields and values have in common: checked whole, read from YAML, written to it.

An unknown field is an error, never ignored; a bad value raises `ConfigError` that names the field, its value
and what is accepted, however deep or large the value is.
"""

from __future__ import annotations

import difflib
import reprlib
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from store.errors import ConfigError
from store.yaml_text import read_yaml, to_yaml

_SHORT = reprlib.Repr()  # a few lines of YAML with aliases can stand for gigabytes
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 200
_SHORT.maxlevel = 3


class Config(BaseModel):
    """A document in which an unknown field is an error, never ignored."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True, str_strip_whitespace=True)

    @classmethod
    def parse(cls, document: Any) -> Self:
        """The config that `document` (a mapping) describes.

        Raises ConfigError that names the first bad field, its value and what is accepted.
        """
        if not isinstance(document, dict):
            raise ConfigError("The config is not a mapping of fields to values.", field="config")
        try:
            return cls.model_validate(document)
        except ValidationError as error:
            raise explain(error, list(cls.model_fields)) from error

    @classmethod
    def from_yaml(cls, text: str) -> Self:
        """Like `parse`, from YAML. Raises ConfigError with the line where the YAML breaks off."""
        return cls.parse(read_yaml(text))

    def to_yaml(self) -> str:
        """The fields that are set, as YAML that `from_yaml` reads back."""
        return to_yaml(self.model_dump(exclude_none=True))


def by_commas(value: Any) -> Any:
    """Names with commas between them, as a form and a command line give them, as a list, each once; what is
    no such list stays as it is, for validation to refuse."""
    names = value.split(",") if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return value
    return list(dict.fromkeys(name.strip() for name in names if name.strip()))


def explain(error: ValidationError, known: list[str]) -> ConfigError:
    """The first problem of a pydantic error as a sentence that names field and value."""
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"]) or "config"
    value = first.get("input")
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(field, known, n=1)
        hint = f"Did you mean {near[0]}?" if near else "Remove it."
        return ConfigError(f"There is no field {field}.", fix=hint, field=field)
    if first["type"] == "missing":
        return ConfigError(f"{field} is missing.", fix=f"Give {field} a value.", field=field)
    reason = first["msg"].removeprefix("Value error, ")
    reason = reason[:1].lower() + reason[1:]
    shown = "" if isinstance(value, dict) else f" is {_SHORT.repr(value)}"
    return ConfigError(f"{field}{shown}: {reason}.".replace("..", "."), field=field)
