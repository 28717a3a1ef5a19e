"""Introspection of config fields, for anything that asks people for values: the type behind the annotation,
bounds and default, and how forms display it.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic.fields import FieldInfo


@dataclass(frozen=True, eq=False)
class FieldDisplay:
    """Marks a field with form options that title, description and bounds don't cover.

    scale: form units per unit of the field, 100 for percent; low, high, step: in form units; empty: the
    meaning of an empty field, or else example: a placeholder; choices: value -> title; separator: for a list
    of texts typed as one text, else each is entered separately; slider: show a number as a slider; open:
    values other than the choices may be entered.
    """

    scale: float = 1.0
    low: float | None = None
    high: float | None = None
    step: float | None = None
    empty: str = ""
    example: str = ""
    choices: Mapping[str, str] = field(default_factory=dict)
    separator: Literal["", ",", "\n"] = ""
    slider: bool = False
    open: bool = False


class FieldKind(NamedTuple):
    """The kind of a field's value: a type or a list of it, possible choices, and whether it may be null."""

    type: Any
    repeated: bool = False
    choices: tuple[str, ...] = ()
    nullable: bool = False


class FieldBounds(NamedTuple):
    """Bounds of a number, None if unbounded, and the maximum length of a text."""

    low: float | None = None
    high: float | None = None
    length: int | None = None


def read_kind(hint: Any) -> FieldKind:
    """Return the kind described by a field's annotation, whatever it is wrapped in."""
    nullable = False
    while get_origin(hint) in (Annotated, Union, types.UnionType):
        nullable = nullable or type(None) in get_args(hint)
        hint = next(part for part in get_args(hint) if part is not type(None))
    if get_origin(hint) is list:
        inner = read_kind(get_args(hint)[0])
        return FieldKind(inner.type, True, inner.choices, nullable)
    if get_origin(hint) is Literal:
        return FieldKind(str, False, get_args(hint), nullable)
    return FieldKind(hint, False, (), nullable)


def read_bounds(described: FieldInfo) -> FieldBounds:
    """Return the bounds of a field. For an exclusive bound the value itself, which validation rejects."""
    given = {
        name: getattr(mark, name)
        for mark in described.metadata
        for name in ("ge", "gt", "le", "lt", "max_length")
        if hasattr(mark, name)
    }
    return FieldBounds(
        given.get("ge", given.get("gt")), given.get("le", given.get("lt")), given.get("max_length")
    )


def get_default(described: FieldInfo) -> Any:
    """Return the default of a field; None for a required one."""
    return None if described.is_required() else described.get_default(call_default_factory=True)


def get_display(described: FieldInfo) -> FieldDisplay:
    """Return the display options of a field."""
    return next((mark for mark in described.metadata if isinstance(mark, FieldDisplay)), FieldDisplay())


def format_title(name: str, described: FieldInfo) -> str:
    """Return the title of a field."""
    words = described.title or name.replace("_", " ")
    return words[:1].upper() + words[1:]
