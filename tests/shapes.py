"""Whether a document has the shape of its schema: no other key, no other kind of value."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from types import NoneType, UnionType
from typing import (
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

from store.core.documents import as_json, parse_document


def held_to(kind: Any, document: Any) -> Any:
    """The document as it comes back from a file, if it is what its type says; fails where it isn't."""
    written = json.loads(json.dumps(document, default=as_json))
    wrong = faults(written, kind)
    assert not wrong, "\n".join(wrong)
    return parse_document(kind, written)


def faults(document: Any, kind: Any, at: str = "") -> list[str]:
    """Where `document`, as JSON has it, is not what `kind` says; empty where it is."""
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Any or kind is object:
        return []
    if is_typeddict(kind):
        return _of_typed_dict(document, kind, at)
    if dataclasses.is_dataclass(kind):
        return _of_dataclass(document, kind, at)
    if origin in (Union, UnionType):
        tried = [faults(document, option, at) for option in inner]
        return min(tried, key=len) if all(tried) else []
    if origin is Literal:
        return [] if document in inner else [f"{at}: {document!r} is none of {inner}"]
    if origin in (list, Sequence) or _is(origin, Sequence):
        return _of_list(document, inner[0], at)
    if origin is tuple:
        return _of_tuple(document, inner, at)
    if origin in (dict, Mapping) or _is(origin, Mapping):
        if not isinstance(document, Mapping):
            return [f"{at}: {type(document).__name__} for a document"]
        return [text for key, value in document.items() for text in faults(value, inner[1], f"{at}.{key}")]
    allowed = {float: (int, float), None: NoneType}.get(kind, kind)
    if isinstance(document, bool) and kind in (int, float):
        return [f"{at}: a flag for a number"]
    return [] if isinstance(document, allowed) else [f"{at}: {type(document).__name__} for {kind}"]


def _is(origin: Any, kind: type) -> bool:
    return isinstance(origin, type) and origin is not tuple and issubclass(origin, kind)


def _of_typed_dict(document: Any, kind: Any, at: str) -> list[str]:
    if not isinstance(document, Mapping):
        return [f"{at}: {type(document).__name__} for {kind.__name__}"]
    hints = get_type_hints(kind, include_extras=True)
    wrong = [f"{at}.{key}: unknown to {kind.__name__}" for key in document if key not in hints]
    for key, hint in hints.items():
        # where annotations are texts, Python itself knows of `total=False` alone
        optional = get_origin(hint) is NotRequired or key in kind.__optional_keys__
        if get_origin(hint) in (NotRequired, Required):
            (hint,) = get_args(hint)
        if key in document:
            wrong += faults(document[key], hint, f"{at}.{key}")
        elif not optional:
            wrong.append(f"{at}.{key}: missing of {kind.__name__}")
    return wrong


def _of_dataclass(document: Any, kind: Any, at: str) -> list[str]:
    if not isinstance(document, Mapping):
        return [f"{at}: {type(document).__name__} for {kind.__name__}"]
    hints = get_type_hints(kind)
    wrong = [f"{at}.{key}: unknown to {kind.__name__}" for key in document if key not in hints]
    for field in dataclasses.fields(kind):
        if field.name in document:
            wrong += faults(document[field.name], hints[field.name], f"{at}.{field.name}")
        elif field.default is not None:  # null is left out where it is the default
            wrong.append(f"{at}.{field.name}: missing of {kind.__name__}")
    return wrong


def _of_list(document: Any, kind: Any, at: str) -> list[str]:
    if isinstance(document, str) or not isinstance(document, Sequence):
        return [f"{at}: {type(document).__name__} for a list"]
    return [text for place, value in enumerate(document) for text in faults(value, kind, f"{at}[{place}]")]


def _of_tuple(document: Any, inner: tuple[Any, ...], at: str) -> list[str]:
    if inner[-1:] == (Ellipsis,):
        return _of_list(document, inner[0], at)
    if not isinstance(document, Sequence) or len(document) != len(inner):
        return [f"{at}: not {len(inner)} values"]
    pairs = zip(document, inner, strict=True)
    return [
        text for place, (value, kind) in enumerate(pairs) for text in faults(value, kind, f"{at}[{place}]")
    ]
