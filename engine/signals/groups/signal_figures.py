"""Figures of measured columns, as they are shown before a row is looked at, by the type of the signal."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from store.catalog.signals import Signal, Type
from store.documents.data.signal_figures import (
    CategoryFigure,
    ColumnFigure,
    FlagFigure,
    GroupFigure,
    NumberFigure,
)

MOST_FREQUENT = 20


def figures(table: pa.Table, signals: tuple[Signal, ...]) -> dict[str, ColumnFigure]:
    """column -> its figures, for every signal of a group."""
    makers: dict[Type, Callable[[pa.ChunkedArray], ColumnFigure]] = {
        "number": _number,
        "flag": _flag,
        "category": _category,
        "group": _group,
    }
    return {signal.column: makers[signal.type](table[signal.column]) for signal in signals}


def _number(column: pa.ChunkedArray) -> NumberFigure:
    values = column.drop_null().to_numpy().astype(np.float64)
    values = values[np.isfinite(values)]
    if not len(values):
        return {
            "n": 0,
            "min": None,
            "mean": None,
            "median": None,
            "p95": None,
            "max": None,
            "positive": 0,
        }
    median, p95 = np.percentile(values, [50, 95])
    return {
        "n": len(values),
        "min": float(values.min()),
        "mean": float(values.mean()),
        "median": float(median),
        "p95": float(p95),
        "max": float(values.max()),
        "positive": int((values > 0).sum()),
    }


def _flag(column: pa.ChunkedArray) -> FlagFigure:
    measured = column.drop_null()
    return {"n": len(measured), "flagged": int(pc.sum(measured).as_py() or 0)}


def _category(column: pa.ChunkedArray) -> CategoryFigure:
    measured = column.drop_null()
    counts = [(row["values"], row["counts"]) for row in pc.value_counts(measured).to_pylist()]
    counts.sort(key=lambda pair: (-pair[1], pair[0]))
    return {"n": len(measured), "distinct": len(counts), "values": dict(counts[:MOST_FREQUENT])}


def _group(column: pa.ChunkedArray) -> GroupFigure:
    """`n` is the number of all rows: null says that a row is alone."""
    together = column.drop_null().to_numpy()
    groups = len(np.unique(together))
    return {"n": len(column), "groups": groups, "rows": len(together), "extra": len(together) - groups}
