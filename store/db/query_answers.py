"""How answers of query functions travel: JSON beside Arrow tables, and back into their types.

An answer is a line that says where its parts begin, a JSON document, and the tables that the document holds,
as Arrow IPC streams. Values that JSON lacks (times, decimals, bytes, tables) stand in it as an object with
one key, which is drawn at random for each answer, so that no text of a user can be taken for one. What JSON
has no type for but Python does (tuples, named tuples, dataclasses, configs, keys that are no texts) is made
again from the return type of the function.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime
import functools
import json
import os
import secrets
import threading
import types
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import (
    Annotated,
    Any,
    NotRequired,
    Required,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

import pyarrow as pa

from store.core.config import Config

Convert = Callable[[Any], Any]  # a value of JSON -> the value of the type
MEDIA_TYPE = "application/vnd.tunebench.answer"
LISTS = (list, Sequence, Collection, Iterable)
DICTS = (dict, Mapping)


def encode(value: Any) -> bytes:
    """An answer as bytes. Raises TypeError for what can't travel."""
    try:
        return _encode(value)
    except TypeError:  # a key that JSON lacks: rare, and this takes ten times as long
        return _encode(_encode_as_pairs(value))


def _encode(value: Any) -> bytes:
    tag, tables, tagged = f"${secrets.token_hex(8)}", [], False

    def spell(part: Any) -> Any:
        nonlocal tagged
        if isinstance(part, pa.Table):
            tables.append(_encode_table(part))
            tagged = True
            return {tag: ["table", len(tables) - 1]}
        if (spelled := _encode_special_value(part)) is not None:
            tagged = True
            return {tag: spelled}
        return as_json(part)

    document = json.dumps(value, default=spell, ensure_ascii=False, separators=(",", ":")).encode()
    head = {"tag": tag if tagged else None, "sizes": [len(document), *map(len, tables)]}
    return b"".join((json.dumps(head).encode(), b"\n", document, *tables))


def decode(content: bytes, returns: Any) -> Any:
    """The value of an answer, of the type `returns`. Raises ValueError where bytes are missing."""
    head_line, separator, rest = content.partition(b"\n")
    head = json.loads(head_line)
    if not separator or len(rest) != sum(head["sizes"]):
        raise ValueError("the answer broke off")
    parts, begin = [], 0
    for size in head["sizes"]:
        parts.append(rest[begin : begin + size])
        begin += size
    tag = head["tag"]

    def read(part: dict[str, Any]) -> Any:
        if len(part) == 1 and tag in part:
            kind, text = part[tag]
            return pa.ipc.open_stream(parts[text + 1]).read_all() if kind == "table" else _READ[kind](text)
        return part

    value = json.loads(parts[0], object_hook=read if tag else None)
    convert = get_reviver(returns)
    return convert(value) if convert else value


def as_json(value: Any) -> Any:
    """JSON for a value that stands for one. Raises TypeError for what has no such form."""
    if isinstance(value, Config):
        return value.model_dump(mode="json")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, datetime.date):  # a datetime is one
        return value.isoformat()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, set | frozenset | range):
        return list(value)
    if hasattr(value, "tolist"):  # numpy's
        return value.tolist()
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _encode_as_pairs(value: Any) -> Any:
    """The value with dicts whose keys are tuples or sets as lists of pairs."""
    if isinstance(value, dict):
        pairs = [(key, _encode_as_pairs(part)) for key, part in value.items()]
        odd = any(isinstance(key, tuple | frozenset) for key in value)
        return pairs if odd else dict(pairs)
    if isinstance(value, list | tuple):
        return [_encode_as_pairs(part) for part in value]
    return _encode_as_pairs(as_json(value)) if dataclasses.is_dataclass(value) else value


def _encode_special_value(value: Any) -> list[Any] | None:
    """A value that JSON lacks as its kind and a text; None for any other."""
    if isinstance(value, datetime.datetime):
        return ["datetime", value.isoformat()]
    if isinstance(value, datetime.date):
        return ["date", value.isoformat()]
    if isinstance(value, datetime.time):
        return ["time", value.isoformat()]
    if isinstance(value, datetime.timedelta):
        return ["timedelta", value.total_seconds()]
    if isinstance(value, Decimal):
        return ["decimal", str(value)]
    if isinstance(value, bytes):
        return ["bytes", base64.b64encode(value).decode()]
    return None


_READ: Mapping[str, Callable[[Any], Any]] = {
    "datetime": datetime.datetime.fromisoformat,
    "date": datetime.date.fromisoformat,
    "time": datetime.time.fromisoformat,
    "timedelta": lambda seconds: datetime.timedelta(seconds=seconds),
    "decimal": Decimal,
    "bytes": base64.b64decode,
}


def _encode_table(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


@functools.cache
def get_reviver(hint: Any) -> Convert | None:
    """What makes a value of a type out of its JSON; None where they are the same."""
    with _BUILDING:
        if hint in _UNDER_WAY:
            return None  # a type that holds itself: none of ours has anything to make again within
        _UNDER_WAY.add(hint)
        try:
            return _build_reviver(strip_annotations(hint))
        finally:
            _UNDER_WAY.discard(hint)


_BUILDING = threading.RLock()
_UNDER_WAY: set[Any] = set()


def _build_reviver(hint: Any) -> Convert | None:
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        members = [revive for part in args if (revive := get_reviver(part))]
        if len(members) > 1:
            raise TypeError(f"{hint} can't be told from its JSON")
        only = members[0] if members else None
        return only and (lambda value: None if value is None else only(value))
    if origin in LISTS and args:
        return _revive_each(list, get_reviver(args[0]))
    if origin is tuple or hint is tuple:
        return _revive_tuple(args)
    if origin in (set, frozenset):
        return lambda value: origin(value)
    if origin in DICTS and len(args) == 2:
        return _revive_dict(args[0], get_reviver(args[1]))
    fields = get_type_fields(hint)
    if fields is None:
        return None
    revivers = {name: revive for name, kind in fields.items() if (revive := get_reviver(kind))}
    if dataclasses.is_dataclass(hint):
        return _revive_dataclass(hint, fields, revivers)
    return _revive_fields(hint, revivers)


def _revive_each(kind: type, inner: Convert | None) -> Convert | None:
    return inner and (lambda value: kind(inner(each) for each in value))


def _revive_tuple(args: tuple[Any, ...]) -> Convert:
    if len(args) == 2 and args[1] is ...:
        return _revive_each(tuple, get_reviver(args[0])) or (lambda value: tuple(value))
    inner = [get_reviver(part) for part in args]
    if not any(inner):
        return lambda value: tuple(value)
    return lambda value: tuple(
        convert(each) if convert else each for convert, each in zip(inner, value, strict=True)
    )


def _revive_dict(key: Any, inner: Convert | None) -> Convert | None:
    if get_origin(strip_annotations(key)) in (tuple, frozenset):
        make_key = get_reviver(key)
        assert make_key is not None
        return lambda pairs: {make_key(text): inner(each) if inner else each for text, each in pairs}
    spelled = strip_annotations(key) in (int, float)
    if not spelled and inner is None:
        return None
    make = strip_annotations(key) if spelled else lambda text: text
    return lambda value: {make(text): inner(each) if inner else each for text, each in value.items()}


def _revive_fields(hint: Any, revivers: Mapping[str, Convert]) -> Convert | None:
    def revived(value: Mapping[str, Any]) -> dict[str, Any]:
        return {
            key: revivers[key](part) if key in revivers and part is not None else part
            for key, part in value.items()
        }

    if is_typeddict(hint):
        return (lambda value: revived(value)) if revivers else None
    if issubclass(hint, Config):
        return lambda value: hint.model_validate(value)
    names = hint._fields  # of a named tuple
    return lambda value: hint(**revived(dict(zip(names, value, strict=True))))


def _revive_dataclass(hint: Any, kinds: Mapping[str, Any], revivers: Mapping[str, Convert]) -> Convert:
    """What is of a version before may have a field that went, and lack one that has a default or may be
    null."""
    nullable = {
        field.name: None
        for field in dataclasses.fields(hint)
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if type(None) in get_args(strip_annotations(kinds[field.name]))
    }

    def revive(value: Mapping[str, Any]) -> Any:
        present = nullable | {name: value[name] for name in kinds if name in value}
        for name, convert in revivers.items():
            if present.get(name) is not None:
                present[name] = convert(present[name])
        return hint(**present)

    return revive


def strip_annotations(hint: Any) -> Any:
    """A type without what is annotated to it."""
    while get_origin(hint) in (Annotated, Required, NotRequired):
        hint = get_args(hint)[0]
    return hint


def get_type_fields(hint: Any) -> Mapping[str, Any] | None:
    """The fields of a typed dict, a named tuple, a dataclass or a config; None for any other type."""
    if not isinstance(hint, type):
        return None
    if issubclass(hint, Config):
        return {name: field.annotation for name, field in hint.model_fields.items()}
    if is_typeddict(hint) or dataclasses.is_dataclass(hint) or hasattr(hint, "_fields"):
        hints = get_type_hints(hint, include_extras=True)
        if dataclasses.is_dataclass(hint):
            return {field.name: hints[field.name] for field in dataclasses.fields(hint)}
        return hints
    return None
