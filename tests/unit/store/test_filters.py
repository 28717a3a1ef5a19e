"""Filters: what they mean is held against plain Python on the same rows; what a user typed stays a value."""

from __future__ import annotations

import datetime
import json
import math
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from store.core.errors import ConfigError
from store.data.filters import Condition, Filter, build_column_sql

ROWS = [
    {"row_id": 0, "text": "Paris is in France", "n": 1.5, "flag": True, "label": "Capital", "near_group": 0},
    {"row_id": 1, "text": "100% sure_thing", "n": 0.0, "flag": False, "label": "", "near_group": None},
    {"row_id": 2, "text": "Ärger (now)", "n": None, "flag": None, "label": None, "near_group": 0},
    {
        "row_id": 3,
        "text": "it's'; DROP TABLE rows; --",
        "n": 9.0,
        "flag": True,
        "label": "a'b",
        "near_group": None,
    },
]
TYPES = {
    "row_id": "number",
    "text": "text",
    "n": "number",
    "flag": "flag",
    "label": "category",
    "near_group": "group",
}


def matching(where: Filter, types: Any = TYPES) -> list[int]:
    connection = duckdb.connect()
    connection.register("rows", pa.Table.from_pylist(ROWS))
    sql, params = where.where(types)
    answer = connection.execute(f"SELECT row_id FROM rows WHERE {sql} ORDER BY row_id", params).fetchall()
    return [row_id for (row_id,) in answer]


def on(column: str, op: Any, value: Any = None) -> Filter:
    return Filter(conditions=[Condition(column=column, op=op, value=value)])


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (Filter(), [0, 1, 2, 3]),
        (Filter(search="FRANCE"), [0]),
        (Filter(search="ÄRGER ("), [2]),
        (Filter(search="100%"), [1]),
        (Filter(search=".*"), []),
        (Filter(search="'; drop table"), [3]),
        (Filter(regex="^(Paris|100)"), [0, 1]),
        (Filter(regex="(?i)DROP"), [3]),
        (Filter(row_ids=[3, 0, 77]), [0, 3]),
        (Filter(row_ids=[]), []),
        (Filter(expression="n > 1 OR n IS NULL -- so"), [0, 2, 3]),
        (on("n", ">", 1), [0, 3]),
        (on("n", "<=", 1.5), [0, 1]),
        (on("n", "between", [0, 1.5]), [1]),
        (on("n", "is empty"), [1, 2]),
        (on("n", "is not empty"), [0, 3]),
        (on("flag", "is", True), [0, 3]),
        (on("flag", "is", [True]), [0, 3]),
        (on("flag", "is not", True), [1, 2]),
        (on("label", "is", None), [2]),
        (on("label", "is not", None), [0, 1, 3]),
        (on("label", "is", ["a'b", "Capital"]), [0, 3]),
        (on("label", "is not", ["Capital"]), [1, 2, 3]),
        (on("label", "is", "a'b"), [3]),
        (on("label", "contains", "CAP"), [0]),
        (on("label", "matches", "^C"), [0]),
        (on("near_group", "is not empty"), [0, 2]),
        (on("near_group", "is empty"), [1, 3]),
    ],
)
def test_a_filter_means_these_rows(where: Filter, expected: list[int]) -> None:
    assert matching(where) == expected


def test_parts_of_a_filter_must_all_hold() -> None:
    where = Filter(search="a", conditions=[Condition(column="n", op=">=", value=0)], row_ids=[0, 2])
    assert matching(where) == [0]
    assert where
    assert not Filter(expression="  ")


@pytest.mark.parametrize(
    ("where", "message"),
    [
        (on("nothing", "is", 1), "no column 'nothing'"),
        (on('n" OR 1=1 --', "is", 1), "no column"),
        (on("repetition", ">", 0.1), "has not been measured"),
        (on("n", ">", "1 OR 1=1"), "can't be compared"),
        (on("n", "is", math.nan), "can't be compared"),
        (on("n", "between", [0, "x"]), "can't be compared"),
        (on("flag", "is", "true"), "can't be compared"),
    ],
)
def test_what_does_not_fit_the_columns_is_refused_before_a_row_is_read(where: Filter, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as raised:
        where.where(TYPES)
    assert raised.value.field == "filter"


@pytest.mark.parametrize(
    "document",
    [
        {"conditions": [{"column": "n", "op": "between", "value": [1]}]},
        {"conditions": [{"column": "n", "op": ">"}]},
        {"conditions": [{"column": "n", "op": "; DROP", "value": 1}]},
        {"searched": "x"},
        {"conditions": [{"column": "label", "value": datetime.date(2020, 1, 1)}]},  # as YAML reads it
        {"conditions": [{"column": "label", "value": ["a", ["b"]]}]},
        {"conditions": [{"column": "label", "value": {"a": 1}}]},
        {"conditions": [{"column": "label", "value": "\ud800"}]},
    ],
)
def test_a_filter_that_makes_no_sense_is_no_filter(document: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Filter.parse(document)


@pytest.mark.parametrize("name", ["a.b", 'a"b', "it's", "$x", "/y", "~1", "", "0", "*", "é", "'; --"])
def test_a_column_of_the_file_may_have_any_name(name: str) -> None:
    source = json.dumps({name: "found", "other": "not"})
    sql = f"SELECT {build_column_sql('source.' + name)} FROM (SELECT ?::VARCHAR AS source) r"
    assert duckdb.connect().execute(sql, [source]).fetchall() == [("found",)]


def test_numbers_of_the_file_are_compared_as_numbers() -> None:
    sql, params = on("source.age", ">", 9).where({"source.age"})
    rows = pa.table({"source.age": ["10", "9", "old", None]})
    connection = duckdb.connect()
    connection.register("rows", rows)
    assert connection.execute(f"SELECT * FROM rows WHERE {sql}", params).fetchall() == [("10",)]
