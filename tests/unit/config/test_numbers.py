"""No field of any form, file or command takes true or false for a number."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import pytest
from pydantic import ValidationError

import engine
import store
from store.core.config import Config

ELSEWHERE = (
    "commands",
    "data.split_counts",
    "data.shared_rows",
    "data.source_inspection",
    "data.cleaning_preview",
)


def models() -> list[type[Config]]:
    """Every model of a document."""
    for module in pkgutil.walk_packages(store.__path__, "store."):
        importlib.import_module(module.name)
    for name in ELSEWHERE:
        importlib.import_module(f"{engine.__name__}.{name}")
    every: list[type[Config]] = []
    left = [Config]
    while left:
        below = [kind for kind in left.pop().__subclasses__() if kind not in every]
        every += below
        left += below
    return sorted((kind for kind in every if not kind.__module__.startswith("tests")), key=str)


def kinds(annotation: Any) -> Iterator[Any]:
    """The types that a field may have."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from kinds(get_args(annotation)[0])
    elif origin in (Union, UnionType):
        for option in get_args(annotation):
            yield from kinds(option)
    else:
        yield annotation


def booleans(annotation: Any) -> Iterator[Any]:
    """Values with a boolean in the place of a number, if such a field has a number anywhere."""
    there = list(kinds(annotation))
    if {int, float} & set(there) and bool not in there:
        yield from (True, False)
    for kind in there:
        inner = get_args(kind)
        if get_origin(kind) is list:
            yield from ([value] for value in booleans(inner[0]))
        elif get_origin(kind) is tuple:
            yield from ([value] * len(inner) for value in booleans(inner[0]))
        elif get_origin(kind) is dict:
            yield from ({"key": value} for value in booleans(inner[1]))


FIELDS = [
    pytest.param(kind, name, value, id=f"{kind.__name__}.{name}-{value}")
    for kind in models()
    for name, field in kind.model_fields.items()
    for value in booleans(field.annotation)
]


def test_there_are_many_such_fields() -> None:
    assert len({(param.values[0], param.values[1]) for param in FIELDS}) > 60


@pytest.mark.parametrize(("kind", "name", "value"), FIELDS)
def test_a_boolean_is_no_number(kind: type[Config], name: str, value: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        kind.model_validate({name: value})
    reasons = [error["msg"] for error in caught.value.errors() if error["loc"][:1] == (name,)]
    assert any("it must be a number, not true or false" in reason for reason in reasons)
