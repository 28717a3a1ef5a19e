"""Times that Python has no value for become text; what has one stays what it is."""

from __future__ import annotations

import datetime
from typing import Any

import pyarrow as pa
import pytest

from store.core.table_values import convert_times_to_text
from store.db.records import read_records

FAR = 253_402_300_800  # seconds from 1970 to the year 10000


@pytest.mark.parametrize(
    ("values", "kind", "spelled"),
    [
        ([FAR, None, 0], pa.timestamp("s"), ["10000-01-01 00:00:00", None, "1970-01-01 00:00:00"]),
        ([-(10**12)], pa.timestamp("s"), ["-29719-04-05 22:13:20"]),
        ([FAR], pa.timestamp("s", "UTC"), ["10000-01-01 00:00:00"]),
        ([0], pa.timestamp("s", "Nowhere/Atall"), ["1970-01-01 00:00:00"]),
        ([2**31 - 1], pa.date32(), ["<value out of range: 2147483647>"]),
        ([2**60], pa.duration("s"), [str(2**60)]),
        ([[FAR], []], pa.list_(pa.timestamp("s")), [["10000-01-01 00:00:00"], []]),
        ([{"a": [FAR]}], pa.struct({"a": pa.list_(pa.timestamp("s"))}), [{"a": ["10000-01-01 00:00:00"]}]),
        ([[("k", FAR)]], pa.map_(pa.string(), pa.timestamp("s")), [[("k", "10000-01-01 00:00:00")]]),
    ],
)
def test_far_times_are_text(values: list[Any], kind: pa.DataType, spelled: list[Any]) -> None:
    table = pa.table({"n": range(len(values)), "t": pa.array(values, kind)})
    assert convert_times_to_text(table).to_pydict() == {"n": list(range(len(values))), "t": spelled}
    assert convert_times_to_text(table.to_batches()[0]).to_pydict()["t"] == spelled
    assert [row["t"] for row in read_records(table, dict)] == spelled


def test_what_has_a_value_stays_as_it_is() -> None:
    moment = datetime.datetime(9999, 12, 31, 23, 59)
    table = pa.table({"t": [moment], "d": [datetime.date(1, 1, 1)], "x": ["a"], "l": [[moment]]})
    assert convert_times_to_text(table) is table
