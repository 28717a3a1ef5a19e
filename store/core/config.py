"""Base class of all configs: fields and values, validated as a whole, read from and written to YAML.

An unknown field is an error that names the field, its value and what is accepted. Fields that refer to
something on the engine's machine are marked by their type, and no field runs code that comes with a model.
"""

from __future__ import annotations

import difflib
import os
import re
import reprlib
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self, TypedDict, get_args

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    GetCoreSchemaHandler,
    ValidationError,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, ErrorDetails, core_schema
from yaml.events import AliasEvent
from yaml.nodes import MappingNode, Node, ScalarNode

from store.core.errors import ConfigError

# YAML that round-trips, including white space and line breaks of any script.
#
# A duplicate key in a mapping is an error: YAML forbids it, and PyYAML would silently take the last. What
# YAML 1.1 reads as a number or boolean but YAML 1.2 as text is text here: 1:30, 010, yes, off. Nesting depth
# and the number of values that aliases expand to are counted while reading, so that a few lines can't exhaust
# the memory or the stack.

MAX_DEPTH = 64  # nested brackets or indents; configs have six
MAX_VALUES = 100_000  # values, with those repeated by aliases counted each time
MAX_CHARACTERS = 2**20
BREAKS = ("\x85", "\u2028", "\u2029")  # YAML 1.1 folds them like line breaks unless escaped


class _Dumper(yaml.SafeDumper):
    pass


def _represent_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    style = '"' if any(sign in text for sign in BREAKS) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)


def to_yaml(document: Any) -> str:
    """Dump a document as YAML, with fields in their order."""
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


_EXPONENT = r"(?:[eE][-+][0-9]+)?"
_READ_AS = {  # plain scalars that are not text: pattern and first characters of each kind
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "int": (r"[-+]?(?:0|[1-9][0-9_]*|0b[01_]+|0x[0-9a-fA-F_]+)", "-+0123456789"),
    "float": (
        rf"[-+]?[0-9][0-9_]*\.[0-9_]*{_EXPONENT}|\.[0-9][0-9_]*{_EXPONENT}"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
    ),
}


class _Loader(yaml.SafeLoader):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = self._values = 0
        self._sizes: dict[int, int] = {}  # number of values in each complete node, by its id()

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        before, is_alias = self._values, self.check_event(AliasEvent)
        line = self.peek_event().start_mark.line + 1  # type: ignore[no-untyped-call]
        self._values += 1
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise _make_config_error(
                f"is nested too deeply: more than {MAX_DEPTH} deep at line {line}", "Take brackets away."
            )
        node: Node | None = super().compose_node(parent, index)
        self._depth -= 1
        if is_alias:
            if id(node) not in self._sizes:
                raise _make_config_error(
                    f"has an alias at line {line} that refers to the node that contains it", "Write it out."
                )
            self._values += self._sizes[id(node)]
        else:
            self._sizes[id(node)] = self._values - before
        if self._values > MAX_VALUES:
            why = f"stands for more than {MAX_VALUES:,} values at line {line}"
            raise _make_config_error(why, "Give a smaller one, with fewer aliases.")
        return node

    def compose_mapping_node(self, anchor: Any) -> MappingNode:
        """Check for duplicate keys, before << merges in other mappings whose keys may be overridden."""
        node: MappingNode = super().compose_mapping_node(anchor)
        seen: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if not isinstance(key, ScalarNode):
                continue
            name, line = (key.tag, key.value), key.start_mark.line + 1
            if (first := seen.get(name)) is not None:
                raise ConfigError(
                    f"{key.value} occurs twice in this YAML, at line {first} and at line {line}.",
                    fix="Take one of them away.",
                    field="config",
                )
            seen[name] = line
        return node


_Loader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if tag.rpartition(":")[2] not in (*_READ_AS, "value")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _kind, (_form, _first) in _READ_AS.items():
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(rf"(?:{_form})\Z"), list(_first))


def _make_config_error(why: str, fix: str) -> ConfigError:
    return ConfigError(f"This YAML {why}.", fix=fix, field="config")


def read_yaml(text: str) -> Any:
    """Parse YAML. Raises ConfigError (field config) with the line at fault."""
    if len(text) > MAX_CHARACTERS:
        raise _make_config_error(f"has {len(text):,} characters", f"Give one of up to {MAX_CHARACTERS:,}.")
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark else ""
        raise ConfigError(f"This is not valid YAML{where}.", field="config") from error
    except (
        ValueError,
        LookupError,
        AttributeError,
    ) as error:  # 2020-13-45, !!int '', !!bool x
        raise ConfigError(
            f"This YAML holds a value that can't be: {error}.",
            fix="Put quotes around text.",
            field="config",
        ) from error


# Validation. Error messages name field, value and what is accepted, however deep or large the value is. True
# and false are never accepted as numbers.

_QUOTE = "'"
_SHORT = reprlib.Repr()  # a few lines of YAML with aliases can expand to gigabytes
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 200
_SHORT.maxlevel = 3


_UNION_MEMBER = re.compile(r"constrained-\w+|str|int|float|bool|[\w-]+\[.*\]")  # in the `loc` of an error
_NO_SCHEMA = {"metadata", "serialization", "default", "function", "cls", "config", "expected", "ref"}
_TURNS_TEXT = {*"\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"}


def check_single_line(value: str) -> str:
    """Return the text. Raises ValueError for line breaks, control characters and characters that change the
    text direction.
    """
    for place, sign in enumerate(value, start=1):
        if unicodedata.category(sign) in ("Cc", "Zl", "Zp") or sign in _TURNS_TEXT:
            breaks = sign in "\n\r\x85\u2028\u2029"
            kind = "a line break" if breaks else f"a control character (U+{ord(sign):04X})"
            raise ValueError(f"its character {place} is {kind}; give one line of plain text")
    return value


Line = Annotated[str, AfterValidator(check_single_line)]  # a name


def _reject_boolean(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("it must be a number, not true or false")
    return value


def _forbid_booleans(schema: Any) -> Any:
    """Return the core schema of a model with every number, at any depth, rejecting true and false, which
    Python and pydantic accept as 1 and 0.
    """
    if isinstance(schema, list | tuple):
        return type(schema)(_forbid_booleans(entry) for entry in schema)
    if not isinstance(schema, dict):
        return schema
    if schema.get("type") == "function-before" and schema["function"].get("function") is _reject_boolean:
        return schema  # a nested model, which is already processed
    inner = {key: entry if key in _NO_SCHEMA else _forbid_booleans(entry) for key, entry in schema.items()}
    if schema.get("type") in ("int", "float"):
        return core_schema.no_info_before_validator_function(_reject_boolean, inner)
    return inner


class Config(BaseModel):
    """Base class of configs; an unknown field is an error, never ignored."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True, str_strip_whitespace=True)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        schema: CoreSchema = _forbid_booleans(handler(source))
        return schema

    @classmethod
    def parse(cls, document: Any) -> Self:
        """Validate `document` (a mapping) and return the config.

        Raises ConfigError that names the first invalid field, its value and what is accepted.
        """
        if not isinstance(document, dict):
            raise ConfigError("The config is not a mapping of fields to values.", field="config")
        try:
            return cls.model_validate(document)
        except ValidationError as error:
            raise describe_validation_error(error, list(cls.model_fields)) from error

    @classmethod
    def from_yaml(cls, text: str) -> Self:
        """Like `parse`, from YAML. Raises ConfigError with the line of a syntax error."""
        return cls.parse(read_yaml(text))

    def document(self) -> Mapping[str, Any]:
        """Return the config as stored and sent."""
        return self.model_dump()

    def to_yaml(self) -> str:
        """Return the fields that are set as YAML that `from_yaml` can read."""
        return to_yaml(self.model_dump(exclude_none=True))


def split_commas(value: Any) -> Any:
    """Split comma-separated names, as forms and the command line give them, into a list without duplicates.
    Any other value is returned unchanged, for validation to reject.
    """
    names = value.split(",") if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return value
    return list(dict.fromkeys(name.strip() for name in names if name.strip()))


def describe_validation_error(error: ValidationError, fields: list[str]) -> ConfigError:
    """Return the first problem of a pydantic error as a sentence that names field and value."""
    return _describe_problem(error.errors()[0], fields)


def describe_validation_errors(error: ValidationError, fields: list[str]) -> list[ConfigError]:
    """Return all problems of a pydantic error, in field order."""
    return [_describe_problem(each, fields) for each in error.errors()]


def _describe_problem(first: ErrorDetails, fields: list[str]) -> ConfigError:
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
        return _describe_unknown_kind(field, first["ctx"])
    reason = first["msg"].removeprefix("Value error, ").partition(", unable to parse")[0]
    reason = reason[:1].lower() + reason[1:]
    given = "" if isinstance(value, dict) else f" is {_SHORT.repr(value)}"
    return ConfigError(f"{field}{given}: {reason}.".replace("..", "."), field=field)


def _describe_unknown_kind(field: str, context: Mapping[str, Any]) -> ConfigError:
    """Describe a union member whose discriminator field is missing or unknown."""
    name = f"{field}.{str(context['discriminator']).strip(_QUOTE)}"
    if "tag" not in context:
        return ConfigError(f"{name} is missing.", fix=f"Give {name} a value.", field=name)
    kinds = [kind.strip(_QUOTE) for kind in str(context["expected_tags"]).split(", ")]
    close = difflib.get_close_matches(str(context["tag"]), kinds, n=1)
    fix = f"Did you mean {close[0]}?" if close else f"Give one of {', '.join(kinds)}."
    return ConfigError(
        f"{name} is {_SHORT.repr(context['tag'])}, which there is none of.", fix=fix, field=name
    )


# Fields that refer to something on the engine's machine by name or path: models, files, folders.
#
# Each such field of a config has one of these types, so that the permission check
# (`engine.server.machine_access`) finds it in any body, at any depth, and no new field is forgotten.

# model: a name in the home folder, NAME@3, a hub id or a path; subject: one of these, a run or an address;
# file and folder: a path
SourceKind = Literal["model", "subject", "file", "folder"]


@dataclass(frozen=True)
class SourceMark:
    """Marks a field by the kind of thing it refers to."""

    kind: SourceKind


ModelSource = Annotated[Line, SourceMark("model")]
SubjectSource = Annotated[Line, SourceMark("subject")]
FileSource = Annotated[str, SourceMark("file")]
FolderSource = Annotated[Line, SourceMark("folder")]


class SourceReference(NamedTuple):
    """A reference in a request body, with the path of its field, such as "source.path"."""

    field: str
    kind: SourceKind
    value: str


def can_be_path(name: str, *, of_run: bool) -> bool:
    """Return whether anything that resolves the name could take it for a path. of_run: it may be the name of
    a run, which may contain slashes; hub ids have at most one.
    """
    if name.startswith(("/", "\\", ".", "~")) or ".." in Path(name).parts:
        return True
    if of_run and "/" not in name:
        return False
    return os.path.lexists(name) or (not of_run and name.count("/") > 1)


def list_sources(body: BaseModel) -> Iterator[SourceReference]:
    """Yield all references in a body, at any depth."""
    yield from _iterate_sources(body, None, "")


def list_partial_sources(
    config: type[BaseModel], document: Mapping[str, Any], at: str
) -> Iterator[SourceReference]:
    """Yield the references in a document that may lack fields of its config or have invalid ones. at: the
    path of the document.
    """
    for name, field in config.model_fields.items():
        kind, value = get_source_kind(field), document.get(name)
        if kind and isinstance(value, str):
            yield SourceReference(f"{at}.{name}", kind, value.strip())


def get_source_kind(field: FieldInfo) -> SourceKind | None:
    """Return the kind of thing that a field refers to; None if it refers to nothing on the machine."""
    marks = [*field.metadata, *_iterate_marks(field.annotation)]
    return next((mark.kind for mark in marks if isinstance(mark, SourceMark)), None)


def _iterate_marks(annotation: Any) -> Iterator[Any]:
    """Yield the metadata of an annotation, including those inside lists and optional types."""
    yield from getattr(annotation, "__metadata__", ())
    for part in get_args(annotation):
        yield from _iterate_marks(part)


def _iterate_sources(part: Any, kind: SourceKind | None, at: str) -> Iterator[SourceReference]:
    if isinstance(part, str):
        if kind:
            yield SourceReference(at, kind, part)
    elif isinstance(part, BaseModel):
        for name, field in type(part).model_fields.items():
            yield from _iterate_sources(
                getattr(part, name), get_source_kind(field), f"{at}.{name}".lstrip(".")
            )
    elif isinstance(part, Mapping):
        for key, entry in part.items():
            yield from _iterate_sources(entry, kind, f"{at}.{key}")
    elif isinstance(part, list | tuple):
        for place, entry in enumerate(part):
            yield from _iterate_sources(entry, kind, f"{at}.{place}")


# Tunebench does not run custom code of models or from a hub repository. This is the only place that decides
# it.
#
# Every library loader gets `NO_CODE`, since transformers asks on the terminal if nothing is passed. Before
# 0.3 configs had a field for it, which users' documents and files may still contain.

CODE_FIELD = "trust_remote_code"
_NO = ("false", "no", "off", "0", "")  # as in older YAML files
CODE_INSTEAD = (
    "Convert it to an architecture that transformers has itself (a config.json without auto_map), and save it"
    " with save_pretrained()."
)


class NoRemoteCodeArguments(TypedDict):
    """Arguments for from_pretrained() and similar functions."""

    trust_remote_code: bool


NO_CODE: NoRemoteCodeArguments = {"trust_remote_code": False}


def drop_code_field(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the document without the obsolete field, whatever its value."""
    return {field: value for field, value in document.items() if field != CODE_FIELD}


def drop_false_code_field(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the document without the obsolete field if it is false, which is the only behavior now."""
    said_no = str(document.get(CODE_FIELD) or "").strip().lower() in _NO
    return drop_code_field(document) if said_no else dict(document)


def check_no_remote_code(document: Mapping[str, Any]) -> None:
    """Raise ConfigError if a document asks for remote code to be run; false is accepted, as the only behavior
    now.
    """
    value = document.get(CODE_FIELD)
    if value is not None and str(value).strip().lower() not in _NO:
        raise ConfigError(
            f"Tunebench does not run custom code of models: {CODE_FIELD} is {str(value)[:40]!r}.",
            fix=f"Leave the field out. {CODE_INSTEAD}",
            field=CODE_FIELD,
        )


class NoRemoteCodeConfig(Config):
    """Config that once had the field: it is dropped if false and rejected if true."""

    @model_validator(mode="before")
    @classmethod
    def _asks_for_no_code(cls, document: Any) -> Any:
        """Reject or drop the obsolete field. Raises ConfigError that names it."""
        if not isinstance(document, Mapping) or CODE_FIELD not in document:
            return document
        check_no_remote_code(document)
        return drop_code_field(document)

    @classmethod
    def of_past(cls, document: Any) -> Self:
        """Like `parse`, for displaying stored configs: the obsolete field is dropped whatever its value."""
        return cls.parse(drop_code_field(document) if isinstance(document, Mapping) else document)
