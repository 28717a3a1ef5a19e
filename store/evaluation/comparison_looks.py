"""The ledger of looks: which sets of runs were compared on the same held-out rows.

Each comparison has its own 5% of calling a run better that is not. Who compares often enough, leaves runs
out, or evaluates once more, sees a false "better" in the end. So each set of runs is recorded once, when its
comparison is first read, and is never removed: a comparison that nobody remembers counts like any other.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from store.core.figure_schemas import JudgingSplit
from store.db.records import read_scalar
from store.evaluation.schemas import ComparisonLooks

if TYPE_CHECKING:
    from store.db.database import Queryable, Transaction


class HeldOutRows(NamedTuple):
    """Rows on which runs can be compared: those of a split under a fingerprint."""

    data_fingerprint: str
    split: JudgingSplit


def record_look(tx: Transaction, rows: HeldOutRows, run_ids: Iterable[str], at: datetime) -> None:
    """Record that these runs were compared on `rows`, unless that is on record."""
    compared = sorted(set(run_ids))
    key = ",".join(compared)
    there = "SELECT count(*) FROM comparison_look WHERE data_fingerprint = ? AND split = ?"
    if read_scalar(tx.query(f"{there} AND run_ids = ?", [*rows, key])):
        return
    wider = f"{there} AND list_has_all(string_split(run_ids, ','), ?::VARCHAR[])"
    narrows = bool(read_scalar(tx.query(wider, [*rows, compared])))
    tx.execute("INSERT INTO comparison_look VALUES (?, ?, ?, ?, ?)", [*rows, key, narrows, at])


def count_looks(db: Queryable, rows: HeldOutRows) -> ComparisonLooks:
    """Count what was compared and evaluated on `rows`.

    An evaluation counts as repeated if the same model, at the same checkpoint, was evaluated on the same rows
    before.
    """
    counts = db.query(
        "SELECT count(*) AS comparisons, count(*) FILTER (narrows) AS narrowed,"
        " (SELECT count(DISTINCT run_id) FROM (SELECT unnest(string_split(run_ids, ',')) AS run_id"
        " FROM comparison_look WHERE data_fingerprint = $fingerprint AND split = $split)) AS runs,"
        " (SELECT count(*) - count(DISTINCT (coalesce(run_id, model), checkpoint)) FROM evaluation"
        " WHERE data_fingerprint = $fingerprint AND part = $split) AS repeated"
        " FROM comparison_look WHERE data_fingerprint = $fingerprint AND split = $split",
        {"fingerprint": rows.data_fingerprint, "split": rows.split},
    ).to_pylist()[0]
    return ComparisonLooks(
        split=rows.split,
        comparisons=counts["comparisons"],
        narrowed=counts["narrowed"],
        runs=counts["runs"],
        repeated=counts["repeated"],
    )
