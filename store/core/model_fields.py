"""What a field of a config model is, for whatever asks people for its value: the type behind its annotation,
its bounds and default, and how forms show it.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic.fields import FieldInfo


@dataclass(frozen=True, eq=False)
class FieldDisplay:
    """Marks a field by how forms ask for it, where title, description and bounds don't say all.

    scale: how many units of the form 1 of the field is, 100 for percent; low, high, step: in those units;
    empty: what an empty field means, or else an example: shown in it; choices: value -> its title;
    separator: of a list of texts that is typed as one, else each text is entered by itself; slider: a number
    is drawn as one; open: where the form has choices, others may be entered.
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
    """What a value of a field is: a type, or a list of values of it; one of a few; perhaps null."""

    type: Any
    repeated: bool = False
    choices: tuple[str, ...] = ()
    nullable: bool = False


class FieldBounds(NamedTuple):
    """Between which values a number has to be, None where there is no bound; how long a text may be."""

    low: float | None = None
    high: float | None = None
    length: int | None = None


def read_kind(hint: Any) -> FieldKind:
    """What the annotation of a field says, whatever it is wrapped in."""
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
    """The constraints of a field. Of an exclusive bound the value itself, for validation to refuse."""
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
    """The value of a field when nothing is said; None for one that has to be given."""
    return None if described.is_required() else described.get_default(call_default_factory=True)


def get_display(described: FieldInfo) -> FieldDisplay:
    """How forms ask for a field."""
    return next((mark for mark in described.metadata if isinstance(mark, FieldDisplay)), FieldDisplay())


def format_title(name: str, described: FieldInfo) -> str:
    """What a field is called on the screen."""
    words = described.title or name.replace("_", " ")
    return words[:1].upper() + words[1:]
