"""Definition of a tool: arguments, answer as JSON Schema, and effect.

pydantic builds schemas of `typing.TypedDict` only from Python 3.12 on, so they are built here.
"""

from __future__ import annotations

import datetime
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from functools import cached_property
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    NotRequired,
    Required,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from mcp.types import Tool, ToolAnnotations
from pydantic import create_model

from store.core.config import Config
from store.core.documents import list_optional_fields
from store.http.client import Client

Schema = dict[str, Any]
PLAIN: Mapping[Any, Schema] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": ["number", "null"]},  # non-finite values are sent as null
    bool: {"type": "boolean"},
    NoneType: {"type": "null"},
    None: {"type": "null"},
    datetime.datetime: {"type": "string"},
    Any: {},
    object: {},
}
CUT_SCHEMA: Schema = {
    "type": "array",
    "items": {"type": "string"},
    "description": "What was truncated in this answer, with counts",
}


def build_schema(document: type) -> Schema:
    """Build the schema of a whole answer, with its parts under `$defs`.

    Raises: TypeError for a type that is no document, or has a field without a JSON type.
    """
    if not _is_document(document):
        raise TypeError(f"{document} is not a document.")
    parts: dict[str, Schema] = {}
    whole = _build_object_schema(document, parts)
    whole["properties"]["cut"] = CUT_SCHEMA
    return whole | ({"$defs": parts} if parts else {})


def _is_document(hint: Any) -> bool:
    return is_typeddict(hint) or is_dataclass(hint)


def _build_object_schema(document: Any, parts: dict[str, Schema]) -> Schema:
    properties, required = {}, []
    may_lack = document.__optional_keys__ if is_typeddict(document) else list_optional_fields(document)
    for name, hint in get_type_hints(document, include_extras=True).items():
        optional = get_origin(hint) is NotRequired or name in may_lack
        properties[name] = _build_type_schema(
            get_args(hint)[0] if get_origin(hint) in (NotRequired, Required) else hint, parts
        )
        if not optional:
            required.append(name)
    meaning = " ".join((inspect.getdoc(document) or "").split())
    return {"type": "object", "description": meaning, "properties": properties, "required": required}


def _build_type_schema(hint: Any, parts: dict[str, Schema]) -> Schema:
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _build_type_schema(inner[0], parts)
    if hint in PLAIN:
        return dict(PLAIN[hint])
    if _is_document(hint):
        if hint.__name__ not in parts:
            parts[hint.__name__] = {}  # set before its fields, which may refer to it
            parts[hint.__name__] = _build_object_schema(hint, parts)
        return {"$ref": f"#/$defs/{hint.__name__}"}
    if origin in (Union, UnionType):
        return {"anyOf": [_build_type_schema(option, parts) for option in inner]}
    if origin is Literal:
        return {"enum": list(inner)}
    if origin is tuple or _is_origin(origin, Sequence):
        kinds = [_build_type_schema(entry, parts) for entry in dict.fromkeys(inner) if entry is not Ellipsis]
        return {"type": "array", "items": kinds[0] if len(kinds) == 1 else {"anyOf": kinds}}
    if _is_origin(origin, Mapping):
        return {"type": "object", "additionalProperties": _build_type_schema(inner[1], parts)}
    raise TypeError(f"{hint} is not a type that an answer may contain.")


def _is_origin(origin: Any, kind: type) -> bool:
    return isinstance(origin, type) and issubclass(origin, kind)


Connect = Callable[[], Client]  # returns a client of the engine, or raises


@dataclass(frozen=True)
class Effect:
    """Effect of a call, as declared to clients.

    reads: read-only; destroys: something existing ends or is replaced; repeatable: repeating the call
    changes nothing more; leaves: it may reach other machines, such as the model hub.
    """

    reads: bool = False
    destroys: bool = False
    repeatable: bool = False
    leaves: bool = False


READS = Effect(reads=True, repeatable=True)
READS_REMOTE = Effect(reads=True, repeatable=True, leaves=True)
ADDS = Effect()
ADDS_REMOTE = Effect(leaves=True)
REPLACES = Effect(destroys=True, repeatable=True)
STARTS = Effect(repeatable=True)


@dataclass(frozen=True)
class AgentTool:
    """One tool.

    arguments: model of the call's arguments; spread: these are passed to the function one by one, not as
    one config.
    """

    function: Callable[..., object]
    effect: Effect
    arguments: type[Config]
    answer: type
    spread: bool

    @classmethod
    def of(cls, function: Callable[..., object], effect: Effect) -> AgentTool:
        """Create a tool from the function's annotations: either one config, or an argument for each field."""
        hints = get_type_hints(function, include_extras=True)
        answer = hints.pop("return")
        only = next(iter(hints.values())) if len(hints) == 1 else None
        if isinstance(only, type) and issubclass(only, Config):
            return cls(function, effect, only, answer, spread=False)
        return cls(function, effect, _build_arguments_model(function, hints), answer, spread=True)

    @property
    def name(self) -> str:
        """Return the name of its function."""
        return self.function.__name__

    def call(self, asked: Config) -> object:
        """Call the function with validated arguments; return its answer, a document."""
        if not self.spread:
            return self.function(asked)
        return self.function(**{name: getattr(asked, name) for name in type(asked).model_fields})

    @cached_property
    def described(self) -> Tool:
        """Return the tool's description for clients."""
        title = self.name.replace("_", " ").capitalize()
        return Tool(
            name=self.name,
            title=title,
            description=" ".join((inspect.getdoc(self.function) or "").split()),
            input_schema=_remove_titles(self.arguments.model_json_schema()),
            output_schema=build_schema(self.answer),
            annotations=ToolAnnotations(
                title=title,
                read_only_hint=self.effect.reads,
                destructive_hint=self.effect.destroys,
                idempotent_hint=self.effect.repeatable,
                open_world_hint=self.effect.leaves,
            ),
        )


def _build_arguments_model(function: Callable[..., Any], hints: Mapping[str, Any]) -> type[Config]:
    defaults = {name: each.default for name, each in inspect.signature(function).parameters.items()}
    fields: dict[str, Any] = {
        name: (hint, ... if defaults[name] is inspect.Parameter.empty else defaults[name])
        for name, hint in hints.items()
    }
    return create_model(f"ArgumentsOf{function.__name__}", __base__=Config, **fields)


def _remove_titles(schema: Any) -> Any:
    """Remove pydantic's titles, which only repeat the names of fields."""
    if isinstance(schema, list):
        return [_remove_titles(entry) for entry in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: _remove_titles(entry)
        for key, entry in schema.items()
        if key != "title" or not isinstance(entry, str)
    }
