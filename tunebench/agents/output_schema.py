"""The JSON Schema of what a tool answers, from its type: documents (`TypedDict`) and what lies in them.

pydantic makes one of a `typing.TypedDict` from Python 3.12 on alone.
"""

from __future__ import annotations

import datetime
import inspect
from collections.abc import Mapping, Sequence
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

Schema = dict[str, Any]
PLAIN: Mapping[Any, Schema] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": ["number", "null"]},  # one that is not finite is sent as null
    bool: {"type": "boolean"},
    NoneType: {"type": "null"},
    None: {"type": "null"},
    datetime.datetime: {"type": "string"},
    Any: {},
    object: {},
}
CUT: Schema = {
    "type": "array",
    "items": {"type": "string"},
    "description": "What was left out of this answer, and how much of it",
}


def schema_of(document: type) -> Schema:
    """Of a whole answer, with its parts under `$defs`. Raises TypeError for what is no TypedDict, or has a
    field that JSON has no word for."""
    if not is_typeddict(document):
        raise TypeError(f"{document} is no TypedDict.")
    parts: dict[str, Schema] = {}
    whole = _fields(document, parts)
    whole["properties"]["cut"] = CUT
    return whole | ({"$defs": parts} if parts else {})


def _fields(document: Any, parts: dict[str, Schema]) -> Schema:
    properties, required = {}, []
    for name, hint in get_type_hints(document, include_extras=True).items():
        optional = get_origin(hint) is NotRequired or name in document.__optional_keys__
        properties[name] = _of(
            get_args(hint)[0] if get_origin(hint) in (NotRequired, Required) else hint, parts
        )
        if not optional:
            required.append(name)
    meaning = " ".join((inspect.getdoc(document) or "").split())
    return {"type": "object", "description": meaning, "properties": properties, "required": required}


def _of(hint: Any, parts: dict[str, Schema]) -> Schema:
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _of(inner[0], parts)
    if hint in PLAIN:
        return dict(PLAIN[hint])
    if is_typeddict(hint):
        if hint.__name__ not in parts:
            parts[hint.__name__] = {}  # before its fields, which may hold it
            parts[hint.__name__] = _fields(hint, parts)
        return {"$ref": f"#/$defs/{hint.__name__}"}
    if origin in (Union, UnionType):
        return {"anyOf": [_of(option, parts) for option in inner]}
    if origin is Literal:
        return {"enum": list(inner)}
    if origin is tuple or _is(origin, Sequence):
        kinds = [_of(entry, parts) for entry in dict.fromkeys(inner) if entry is not Ellipsis]
        return {"type": "array", "items": kinds[0] if len(kinds) == 1 else {"anyOf": kinds}}
    if _is(origin, Mapping):
        return {"type": "object", "additionalProperties": _of(inner[1], parts)}
    raise TypeError(f"{hint} is nothing that an answer may hold.")


def _is(origin: Any, kind: type) -> bool:
    return isinstance(origin, type) and issubclass(origin, kind)
