"""What all configs have in common: documents of fields and values that are checked whole, read from YAML and
written to it.

An unknown field is an error that names the field, its value and what is accepted. Fields that name
something of the engine's machine say so by their type, and no field runs code that comes with a model.
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

# Documents as YAML that reads back as what it was, white space and line ends of any script included.
#
# A key that stands twice in one mapping is an error: YAML forbids it, and PyYAML would silently take the
# last. What YAML 1.1 reads as a number or a truth and YAML 1.2 as text is text here: 1:30, 010, yes, off.
# How deep a document is nested, and how much its aliases stand for, is counted while it is read, so that a
# few lines never take the memory or the stack of whoever reads them.

MAX_DEPTH = 64  # brackets or indents in one another; configs have six
MAX_VALUES = 100_000  # values, those that aliases repeat counted each time
MAX_CHARACTERS = 2**20
BREAKS = ("\x85", "\u2028", "\u2029")  # YAML 1.1 folds them like line ends unless they are escaped


class _Dumper(yaml.SafeDumper):
    pass


def _represent_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    style = '"' if any(sign in text for sign in BREAKS) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)


def to_yaml(document: Any) -> str:
    """The document as YAML, its fields in their order."""
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


_EXPONENT = r"(?:[eE][-+][0-9]+)?"
_READ_AS = {  # plain scalars that are no text: how each kind is written, and its first characters
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
        self._sizes: dict[int, int] = {}  # of each node that is whole, by its id: the values in it

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
                    f"has an alias at line {line} that stands for what it is in", "Write it out."
                )
            self._values += self._sizes[id(node)]
        else:
            self._sizes[id(node)] = self._values - before
        if self._values > MAX_VALUES:
            why = f"stands for more than {MAX_VALUES:,} values at line {line}"
            raise _make_config_error(why, "Give a smaller one, with fewer aliases.")
        return node

    def compose_mapping_node(self, anchor: Any) -> MappingNode:
        """Looked at before << merges other mappings in, whose keys may be given anew."""
        node: MappingNode = super().compose_mapping_node(anchor)
        seen: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if not isinstance(key, ScalarNode):
                continue
            name, line = (key.tag, key.value), key.start_mark.line + 1
            if (first := seen.get(name)) is not None:
                raise ConfigError(
                    f"{key.value} stands twice in this YAML, at line {first} and at line {line}.",
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
    """The document that the YAML describes. Raises ConfigError (field config) with the line at fault."""
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
            fix="Put quotes around what is meant as text.",
            field="config",
        ) from error


# What all documents of fields and values have in common: checked whole, read from YAML, written to it.
#
# An unknown field is an error, never ignored; a bad value raises `ConfigError` that names the field, its
# value and what is accepted, however deep or large the value is. True and false are no numbers, in no
# field.

_QUOTE = "'"
_SHORT = reprlib.Repr()  # a few lines of YAML with aliases can stand for gigabytes
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 200
_SHORT.maxlevel = 3


_UNION_MEMBER = re.compile(r"constrained-\w+|str|int|float|bool|[\w-]+\[.*\]")  # in the place of an error
_NO_SCHEMA = {"metadata", "serialization", "default", "function", "cls", "config", "expected", "ref"}
_TURNS_TEXT = {*"\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"}


def check_single_line(value: str) -> str:
    """The text. Raises ValueError where a character breaks the line, can't be seen or turns the text."""
    for place, sign in enumerate(value, start=1):
        if unicodedata.category(sign) in ("Cc", "Zl", "Zp") or sign in _TURNS_TEXT:
            raise ValueError(
                f"its character {place} is {_describe_character(sign)}; give one line of plain text"
            )
    return value


def _describe_character(sign: str) -> str:
    if sign in "\n\r\x85\u2028\u2029":
        return "a line break"
    return f"a control character (U+{ord(sign):04X})"


Line = Annotated[str, AfterValidator(check_single_line)]  # a name


def _reject_boolean(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("it takes a number, not true or false")
    return value


def _forbid_booleans(schema: Any) -> Any:
    """The schema of a model in which every number, at any depth, refuses true and false. Python takes them as
    1 and 0, and so does pydantic."""
    if isinstance(schema, list | tuple):
        return type(schema)(_forbid_booleans(entry) for entry in schema)
    if not isinstance(schema, dict):
        return schema
    if schema.get("type") == "function-before" and schema["function"].get("function") is _reject_boolean:
        return schema  # of a model within a model, which has been here before
    inner = {key: entry if key in _NO_SCHEMA else _forbid_booleans(entry) for key, entry in schema.items()}
    if schema.get("type") in ("int", "float"):
        return core_schema.no_info_before_validator_function(_reject_boolean, inner)
    return inner


class Config(BaseModel):
    """A document in which an unknown field is an error, never ignored."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True, str_strip_whitespace=True)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        schema: CoreSchema = _forbid_booleans(handler(source))
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
            raise describe_validation_error(error, list(cls.model_fields)) from error

    @classmethod
    def from_yaml(cls, text: str) -> Self:
        """Like `parse`, from YAML. Raises ConfigError with the line where the YAML breaks off."""
        return cls.parse(read_yaml(text))

    def document(self) -> Mapping[str, Any]:
        """As it is stored and sent."""
        return self.model_dump()

    def to_yaml(self) -> str:
        """The fields that are set, as YAML that `from_yaml` reads back."""
        return to_yaml(self.model_dump(exclude_none=True))


def split_commas(value: Any) -> Any:
    """Names with commas between them, as a form and a command line give them, as a list, each once; what is
    no such list stays as it is, for validation to refuse."""
    names = value.split(",") if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return value
    return list(dict.fromkeys(name.strip() for name in names if name.strip()))


def describe_validation_error(error: ValidationError, fields: list[str]) -> ConfigError:
    """The first problem of a pydantic error as a sentence that names field and value."""
    return _describe_problem(error.errors()[0], fields)


def describe_validation_errors(error: ValidationError, fields: list[str]) -> list[ConfigError]:
    """All problems of a pydantic error, in the order of the fields."""
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


# Fields that name something of the engine's machine by a name or a path: models, files, folders.
#
# Each such field of a config has one of these types, so that whoever is to decide whether a person may name
# it (`engine.server.machine_access`) finds it in any body, however deep, and no new field is forgotten.

# model: a name of the home folder, NAME@3, a hub id or a path; subject: one of these, a run or an address;
# file and folder: a path
SourceKind = Literal["model", "subject", "file", "folder"]


@dataclass(frozen=True)
class SourceMark:
    """Marks a field by what it names."""

    kind: SourceKind


ModelSource = Annotated[Line, SourceMark("model")]
SubjectSource = Annotated[Line, SourceMark("subject")]
FileSource = Annotated[str, SourceMark("file")]
FolderSource = Annotated[Line, SourceMark("folder")]


class SourceReference(NamedTuple):
    """What a body names, and in which of its fields: "source.path"."""

    field: str
    kind: SourceKind
    value: str


def can_be_path(name: str, *, of_run: bool) -> bool:
    """Whether anybody who resolves the name could take it for a path. of_run: it may be the name of a run, in
    which there may be slashes; ids of a hub have one at most."""
    if name.startswith(("/", "\\", ".", "~")) or ".." in Path(name).parts:
        return True
    if of_run and "/" not in name:
        return False
    return os.path.lexists(name) or (not of_run and name.count("/") > 1)


def list_sources(body: BaseModel) -> Iterator[SourceReference]:
    """All that a body names, however deep."""
    yield from _iterate_sources(body, None, "")


def list_partial_sources(
    config: type[BaseModel], document: Mapping[str, Any], at: str
) -> Iterator[SourceReference]:
    """What a document names that may lack fields of its config, or have bad ones. at: where it stands."""
    for name, field in config.model_fields.items():
        kind, value = get_source_kind(field), document.get(name)
        if kind and isinstance(value, str):
            yield SourceReference(f"{at}.{name}", kind, value.strip())


def get_source_kind(field: FieldInfo) -> SourceKind | None:
    """What a field names; None where it names nothing of the machine."""
    marks = [*field.metadata, *_iterate_marks(field.annotation)]
    return next((mark.kind for mark in marks if isinstance(mark, SourceMark)), None)


def _iterate_marks(annotation: Any) -> Iterator[Any]:
    """Those of what a list holds, or a field that may be null."""
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


# Tunebench runs no code that comes with a model or lies in a repository of a hub: said here, once.
#
# Every loader of a library gets `NO_CODE`, as transformers asks on the terminal where nothing is said. Before
# 0.3 configs had a field for it, which documents and files of users may still have.

CODE_FIELD = "trust_remote_code"
_NO = ("false", "no", "off", "0", "")  # as YAML files of before have it
CODE_INSTEAD = (
    "Convert it to an architecture that transformers has itself (a config.json without auto_map), and save it"
    " with save_pretrained()."
)


class NoRemoteCodeArguments(TypedDict):
    """An argument of from_pretrained() and its like."""

    trust_remote_code: bool


NO_CODE: NoRemoteCodeArguments = {"trust_remote_code": False}


def drop_code_field(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document without the old field, whatever it said."""
    return {field: value for field, value in document.items() if field != CODE_FIELD}


def drop_false_code_field(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document without the old field where it is false, which says what holds now."""
    said_no = str(document.get(CODE_FIELD) or "").strip().lower() in _NO
    return drop_code_field(document) if said_no else dict(document)


def check_no_remote_code(document: Mapping[str, Any]) -> None:
    """Raise ConfigError where a document asks for code to be run; false says what holds now."""
    value = document.get(CODE_FIELD)
    if value is not None and str(value).strip().lower() not in _NO:
        raise ConfigError(
            f"Tunebench runs no code that comes with a model: {CODE_FIELD} is {str(value)[:40]!r}.",
            fix=f"Leave the field out. {CODE_INSTEAD}",
            field=CODE_FIELD,
        )


class NoRemoteCodeConfig(Config):
    """One of them: the field is dropped where it is false, and refused where it is true."""

    @model_validator(mode="before")
    @classmethod
    def _asks_for_no_code(cls, document: Any) -> Any:
        """Raises ConfigError, which names the field."""
        if not isinstance(document, Mapping) or CODE_FIELD not in document:
            return document
        check_no_remote_code(document)
        return drop_code_field(document)

    @classmethod
    def of_past(cls, document: Any) -> Self:
        """Like `parse`, for what was kept and is looked at: whatever it said of code is left out."""
        return cls.parse(drop_code_field(document) if isinstance(document, Mapping) else document)
