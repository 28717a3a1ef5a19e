"""What all documents of fields and values have in common: checked whole, read from YAML, written to it.

An unknown field is an error, never ignored; a bad value raises `ConfigError` that names the field, its value
and what is accepted, however deep or large the value is. True and false are no numbers, in no field.
"""

from __future__ import annotations

import difflib
import re
import reprlib
import unicodedata
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, GetCoreSchemaHandler, ValidationError
from pydantic_core import CoreSchema, core_schema

from store.contract.errors import ConfigError
from store.contract.yaml_text import read_yaml, to_yaml

_QUOTE = "'"
_SHORT = reprlib.Repr()  # a few lines of YAML with aliases can stand for gigabytes
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 200
_SHORT.maxlevel = 3


_UNION_MEMBER = re.compile(r"constrained-\w+|str|int|float|bool|[\w-]+\[.*\]")  # in the place of an error
_NO_SCHEMA = {"metadata", "serialization", "default", "function", "cls", "config", "expected", "ref"}
_TURNS_TEXT = {*"\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"}


def one_line(value: str) -> str:
    """The text. Raises ValueError where a character breaks the line, can't be seen or turns the text."""
    for place, sign in enumerate(value, start=1):
        if unicodedata.category(sign) in ("Cc", "Zl", "Zp") or sign in _TURNS_TEXT:
            raise ValueError(f"its character {place} is {_named(sign)}; give one line of plain text")
    return value


def _named(sign: str) -> str:
    if sign in "\n\r\x85\u2028\u2029":
        return "a line break"
    return f"a control character (U+{ord(sign):04X})"


Line = Annotated[str, AfterValidator(one_line)]  # a name


def _no_boolean(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("it takes a number, not true or false")
    return value


def _without_booleans(schema: Any) -> Any:
    """The schema of a model in which every number, at any depth, refuses true and false. Python takes them as
    1 and 0, and so does pydantic."""
    if isinstance(schema, list | tuple):
        return type(schema)(_without_booleans(entry) for entry in schema)
    if not isinstance(schema, dict):
        return schema
    if schema.get("type") == "function-before" and schema["function"].get("function") is _no_boolean:
        return schema  # of a model within a model, which has been here before
    inner = {key: entry if key in _NO_SCHEMA else _without_booleans(entry) for key, entry in schema.items()}
    if schema.get("type") in ("int", "float"):
        return core_schema.no_info_before_validator_function(_no_boolean, inner)
    return inner


class Config(BaseModel):
    """A document in which an unknown field is an error, never ignored."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True, str_strip_whitespace=True)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        schema: CoreSchema = _without_booleans(handler(source))
        return schema

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


def explain(error: ValidationError, fields: list[str]) -> ConfigError:
    """The first problem of a pydantic error as a sentence that names field and value."""
    first = error.errors()[0]
    parts = [str(part) for part in first["loc"]]
    field = ".".join(part for part in parts if not _UNION_MEMBER.fullmatch(part)) or "config"
    value = first.get("input")
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(field, fields, n=1)
        hint = f"Did you mean {near[0]}?" if near else "Remove it."
        return ConfigError(f"There is no field {field}.", fix=hint, field=field)
    if first["type"] == "missing":
        return ConfigError(f"{field} is missing.", fix=f"Give {field} a value.", field=field)
    if first["type"] in ("union_tag_invalid", "union_tag_not_found"):
        return _unknown_kind(field, first["ctx"])
    reason = first["msg"].removeprefix("Value error, ").partition(", unable to parse")[0]
    reason = reason[:1].lower() + reason[1:]
    given = "" if isinstance(value, dict) else f" is {_SHORT.repr(value)}"
    return ConfigError(f"{field}{given}: {reason}.".replace("..", "."), field=field)


def _unknown_kind(field: str, context: Mapping[str, Any]) -> ConfigError:
    """Of a document in a list whose discriminating field is missing, or names no kind that there is."""
    name = f"{field}.{str(context['discriminator']).strip(_QUOTE)}"
    if "tag" not in context:
        return ConfigError(f"{name} is missing.", fix=f"Give {name} a value.", field=name)
    kinds = [kind.strip(_QUOTE) for kind in str(context["expected_tags"]).split(", ")]
    close = difflib.get_close_matches(str(context["tag"]), kinds, n=1)
    fix = f"Did you mean {close[0]}?" if close else f"Give one of {', '.join(kinds)}."
    return ConfigError(
        f"{name} is {_SHORT.repr(context['tag'])}, which there is none of.", fix=fix, field=name
    )
