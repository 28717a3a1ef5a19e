"""Documents: values of any type to JSON, and back to their types.

Types that Python has but JSON lacks (dataclasses, named tuples, tuples, configs, non-string keys) are
restored from a type: that of a field, of a query function's result, or of a file's content. A typed
dictionary stays as read, except for such values in it.
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
import os
import threading
import types
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import (
    Annotated,
    Any,
    NotRequired,
    Required,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from pydantic import BaseModel

Document = TypeVar("Document")
Convert = Callable[[Any], Any]  # JSON value -> value of the type
LISTS = (list, Sequence, Collection, Iterable)
DICTS = (dict, Mapping)


def as_json(value: Any) -> Any:
    """Return the JSON form of a value. Raises TypeError if it has none."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            name: part
            for name, part in vars(value).items()
            if part is not None or name not in list_optional_fields(type(value))
        }
    if isinstance(value, datetime.date):  # includes datetime
        return value.isoformat()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, set | frozenset | range):
        return list(value)
    if hasattr(value, "tolist"):  # numpy
        return value.tolist()
    raise TypeError(f"{type(value).__name__} has no JSON form")


@functools.cache
def list_optional_fields(kind: Any) -> frozenset[str]:
    """Return the fields that are omitted if null, and are null if a document lacks them."""
    return frozenset(field.name for field in dataclasses.fields(kind) if field.default is None)


def parse_document(kind: type[Document], value: Any) -> Document:
    """Convert JSON to a document of type `kind`. Raises TypeError if it lacks a field that has no default and
    is not nullable.
    """
    hint: Any = kind  # mypy doubts that a TypeVar's type is hashable
    revive = get_reviver(hint)
    return cast(Document, revive(value) if revive and value is not None else value)


def parse_optional_document(kind: type[Document], value: Any) -> Document | None:
    """Like `parse_document`, for a file that may not exist: None for null."""
    return None if value is None else parse_document(kind, value)


@functools.cache
def get_reviver(hint: Any) -> Convert | None:
    """Return the function that converts JSON to a value of the type; None if no conversion is needed."""
    with _BUILDING:
        if hint in _UNDER_WAY:
            return None  # a recursive type: none of ours contains anything to convert
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
        members = [part for part in args if get_reviver(part)]
        if len(members) > 1:
            return _revive_one_of(hint, members)
        only = get_reviver(members[0]) if members else None
        return only and (lambda value: value if value is None or isinstance(value, str) else only(value))
    if origin in LISTS and args:
        return _revive_each(list, get_reviver(args[0]))
    if origin is tuple or hint is tuple:
        return _revive_tuple(args)
    if origin in (set, frozenset):
        return lambda value: origin(value)
    if origin in DICTS and len(args) == 2:
        return _revive_dict(args[0], get_reviver(args[1]))
    if isinstance(hint, type) and issubclass(hint, BaseModel):
        return lambda value: hint.model_validate(value)  # including its fields
    fields = get_type_fields(hint)
    if fields is None:
        return None
    revivers = {name: revive for name, kind in fields.items() if (revive := get_reviver(kind))}
    if dataclasses.is_dataclass(hint):
        return _revive_dataclass(hint, fields, revivers)
    return _revive_fields(hint, revivers)


def _revive_one_of(hint: Any, kinds: Sequence[Any]) -> Convert:
    """Convert to the first type whose required fields are all present. Types with more required fields are
    tried first, so that a type that extends another precedes it, whatever their order in the union.
    """
    if not all(dataclasses.is_dataclass(kind) or is_typeddict(kind) for kind in kinds):
        raise TypeError(f"{hint} can't be told from its JSON")
    needs = [(_list_needed(kind), get_reviver(kind)) for kind in kinds]
    needs.sort(key=lambda need: -len(need[0]))
    if any(names == later for place, (names, _) in enumerate(needs) for later, _ in needs[place + 1 :]):
        raise TypeError(f"{hint} can't be told from its JSON: two need the same fields")

    def revive(value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        for names, convert in needs:
            if convert and names <= value.keys():
                return convert(value)
        raise TypeError(f"{sorted(value)} are the fields of no {hint}")

    return revive


def _list_needed(kind: Any) -> set[str]:
    if is_typeddict(kind):
        return set(kind.__required_keys__)
    hints = get_type_fields(kind) or {}
    return {
        field.name
        for field in dataclasses.fields(kind)
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if type(None) not in get_args(strip_annotations(hints[field.name]))
    }


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
    names = hint._fields  # named tuple
    return lambda value: hint(**revived(dict(zip(names, value, strict=True))))


def _revive_dataclass(hint: Any, kinds: Mapping[str, Any], revivers: Mapping[str, Convert]) -> Convert:
    """Convert to a dataclass. A document of an earlier version may have a removed field, and may lack one
    that has a default or is nullable.
    """
    nullable = {
        field.name: None
        for field in dataclasses.fields(hint)
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if type(None) in get_args(strip_annotations(kinds[field.name]))
    }

    def revive(value: Mapping[str, Any]) -> Any:
        if isinstance(value, hint):
            return value
        present = nullable | {name: value[name] for name in kinds if name in value}
        for name, convert in revivers.items():
            if present.get(name) is not None:
                present[name] = convert(present[name])
        return hint(**present)

    return revive


def strip_annotations(hint: Any) -> Any:
    """Return a type without Annotated, Required and NotRequired."""
    while get_origin(hint) in (Annotated, Required, NotRequired):
        hint = get_args(hint)[0]
    return hint


def get_type_fields(hint: Any) -> Mapping[str, Any] | None:
    """Return the fields of a typed dict, named tuple, dataclass or config; None for any other type."""
    if not isinstance(hint, type):
        return None
    if issubclass(hint, BaseModel):
        return {name: field.annotation for name, field in hint.model_fields.items()}
    if is_typeddict(hint) or dataclasses.is_dataclass(hint) or hasattr(hint, "_fields"):
        hints = get_type_hints(hint, include_extras=True)
        if dataclasses.is_dataclass(hint):
            return {field.name: hints[field.name] for field in dataclasses.fields(hint)}
        return hints
    return None
