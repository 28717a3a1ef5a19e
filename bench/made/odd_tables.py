"""Parquet tables of every type that text rows don't use, and of values beyond Python's range."""

from __future__ import annotations

import datetime
import decimal
from collections.abc import Iterator

import pyarrow as pa

TEXTS = ["a", "b", "c"]


def odd_tables() -> Iterator[tuple[str, pa.Table]]:
    """Yield names and tables."""
    for name, array in _columns():
        yield name, pa.table({"text": TEXTS, "label": array})
        yield f"only_{name}", pa.table({"text": array})
    yield "no_rows", pa.table({"text": pa.array([], pa.string())})
    yield "no_columns", pa.table({})
    yield "same_names", pa.Table.from_arrays([pa.array(TEXTS)] * 3, names=["text", "text", ""])
    yield "wide", pa.table({f"c{n}": ["x"] for n in range(5000)})
    yield "null_bytes", pa.table({"text": ["a\0b", "\0", ""]})


def _columns() -> Iterator[tuple[str, pa.Array]]:
    for unit, last in (("s", 2**53), ("ms", 2**62), ("us", 2**62), ("ns", 2**62)):
        years = [last, -last, 0]
        yield f"timestamp_{unit}", pa.array(years, pa.int64()).view(pa.timestamp(unit))
        yield f"zoned_{unit}", pa.array(years, pa.int64()).view(pa.timestamp(unit, "Europe/Berlin"))
        yield f"duration_{unit}", pa.array(years, pa.int64()).view(pa.duration(unit))
    yield "date32", pa.array([2**31 - 1, -(2**31), 0], pa.int32()).view(pa.date32())
    yield "date64", pa.array([2**62, 0, 1], pa.int64()).view(pa.date64())
    yield "time64", pa.array([datetime.time(1), None, datetime.time(23, 59)], pa.time64("us"))
    yield (
        "decimal",
        pa.array([decimal.Decimal("1.50"), None, decimal.Decimal("9" * 30)], pa.decimal128(38, 2)),
    )
    yield "half", pa.array([1.5, float("nan"), None], pa.float32()).cast(pa.float16())
    yield "uint64", pa.array([2**64 - 1, 0, None], pa.uint64())
    yield "binary", pa.array([b"\xff\xfe", b"ok", None])
    yield "fixed", pa.array([b"abcd", b"efgh", None], pa.binary(4))
    yield "dictionary", pa.array(["x", "y", "x"]).dictionary_encode()
    yield "large_string", pa.array(["x", None, "z"], pa.large_string())
    yield "nulls", pa.nulls(3)
    yield "map", pa.array([[("k", 1)], [], None], pa.map_(pa.string(), pa.int32()))
    yield "struct", pa.array([{"text": "q", "n": [1]}, None, {"text": None, "n": []}])
    yield "lists", pa.array([["a", "b"], [], None])
    yield "structs", pa.array([[{"role": "user", "content": "q"}], [], None])
    yield "booleans", pa.array([True, False, None])
    yield "infinities", pa.array([float("inf"), float("-inf"), float("nan")])
