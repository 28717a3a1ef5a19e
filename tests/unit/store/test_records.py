"""Rows of a statement and documents as objects of their class."""

from __future__ import annotations

import dataclasses
import importlib
import json
import pkgutil
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pytest

import store
from store.core.documents import get_reviver, parse_document
from store.db.records import read_records, to_json


@dataclass(kw_only=True)
class Point:
    x: int
    note: str | None


@dataclass(kw_only=True)
class Path(Point):
    steps: list[int]


@dataclass(kw_only=True)
class Place:
    x: int
    y: int = 0


@dataclass(kw_only=True)
class Line:
    name: str
    begin: Point
    end: Point | None
    points: list[Point] | None = None


def test_a_row_and_the_documents_in_it_are_objects() -> None:
    table = pa.table({"name": ["a"], "begin": ['{"x": 1, "note": null}'], "end": [None]})
    (line,) = read_records(table, Line, ["begin"])
    assert line == Line(name="a", begin=Point(x=1, note=None), end=None)


def test_a_column_that_a_row_needs_is_not_made_up() -> None:
    with pytest.raises(TypeError, match=r"^Point has no column for note\.$"):
        read_records(pa.table({"x": [1]}), Point)
    with pytest.raises(KeyError, match="begin"):
        read_records(pa.table({"name": ["a"]}), Line, ["begin"])


def test_a_row_is_written_as_the_document_that_it_is_read_from() -> None:
    line = Line(name="a", begin=Point(x=1, note="NaN"), end=None, points=[Point(x=2, note=None)])
    written = to_json(line)
    assert written == (
        '{"name": "a", "begin": {"x": 1, "note": "NaN"}, "end": null, "points": [{"x": 2, "note": null}]}'
    )


def test_a_document_of_a_version_before_is_read() -> None:
    revive = get_reviver(Point)
    assert revive is not None
    assert revive({"x": 1, "gone": True}) == Point(x=1, note=None)
    with pytest.raises(TypeError, match="x"):
        revive({"note": "a"})


def test_what_is_optional_and_null_is_left_out_of_json_and_read_again() -> None:
    line = Line(name="a", begin=Point(x=1, note=None), end=None)
    written = to_json(line)
    assert written == '{"name": "a", "begin": {"x": 1, "note": null}, "end": null}'
    assert parse_document(Line, json.loads(written)) == line


def test_a_document_of_one_of_two_kinds_is_told_by_the_fields_that_it_has() -> None:
    kinds: Any = Point | Path
    assert parse_document(kinds, {"x": 1, "note": "a"}) == Point(x=1, note="a")
    assert parse_document(kinds, {"x": 1, "steps": [1, 2]}) == Path(x=1, note=None, steps=[1, 2])
    with pytest.raises(TypeError, match=r"\['y'\] are the fields of no"):
        parse_document(kinds, {"y": 1})


def test_kinds_that_json_does_not_tell_apart_are_refused() -> None:
    kinds: Any = Point | Place
    with pytest.raises(TypeError, match=r"can't be told from its JSON: two need the same fields$"):
        parse_document(kinds, {"x": 1})


def test_every_document_of_the_store_can_be_made_again() -> None:
    documents = 0
    for module in sorted(pkgutil.walk_packages(store.__path__, "store."), key=lambda each: each.name):
        if not module.name.endswith("schemas"):
            continue
        for value in vars(importlib.import_module(module.name)).values():
            if dataclasses.is_dataclass(value):
                assert get_reviver(value) is not None, value
                documents += 1
    assert documents > 200
