"""Rows of a statement as objects of a row class."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pytest

from store.core.documents import get_reviver
from store.db.records import read_records, to_json


@dataclass(kw_only=True)
class Point:
    x: int
    note: str | None


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
