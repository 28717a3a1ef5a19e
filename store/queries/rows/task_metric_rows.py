"""The task's metric at each validation of a run, as sums over its rows: what intervals by step need.

Read from the Parquet files that a run keeps while it trains: `eval_rows.parquet` (tokens right of every
validation row) and `live_answers.parquet` (scores of generated answers).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from store.contract.jobdir import JobDir
from store.db.named_query import named_query
from store.db.records import records
from store.documents.figures.metric import ValidationSums
from store.queries.rows import row_losses

if TYPE_CHECKING:
    from store.db.database import Queryable

SumKind = Literal["tokens", "label", "accuracy", "pairs"]
_X: dict[SumKind, str] = {
    "tokens": "correct",
    "label": "(correct = tokens)::INTEGER",
    "accuracy": "correct",
    "pairs": "correct",
}


@named_query
def sums(db: Queryable, run_id: str, kind: SumKind) -> list[ValidationSums]:
    """By step, of a kind of `engine.diagnostics.course.task_metric_course`. Over a
    Client, QueryError where the run has not kept a validation yet."""
    weight = "tokens" if kind == "tokens" else "1"
    only = "WHERE step > 0" if kind == "pairs" else ""
    source = f"SELECT step, {_X[kind]} AS x, {weight} AS w FROM read_parquet(?) {only}"
    return records(db.query(_SUMS.format(source), [str(_folder(db, run_id).validations)]), ValidationSums)


@named_query
def answers(db: Queryable, run_id: str) -> list[ValidationSums]:
    """As `sums`, of the generated answers that could be scored."""
    source = "SELECT step, score AS x, 1 AS w FROM read_parquet(?) WHERE isfinite(score)"
    return records(db.query(_SUMS.format(source), [str(_folder(db, run_id).live_answers)]), ValidationSums)


def _folder(db: Queryable, run_id: str) -> JobDir:
    return JobDir(row_losses.path(db, run_id).parent)


_SUMS = """
    SELECT step, count(*) AS n, sum(x)::DOUBLE AS x, sum(w)::DOUBLE AS w, sum(x * x)::DOUBLE AS xx,
           sum(x * w)::DOUBLE AS xw, sum(w * w)::DOUBLE AS ww
    FROM ({}) GROUP BY step ORDER BY step
"""
