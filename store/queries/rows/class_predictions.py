"""Held-out rows as a run classified them, read from the Parquet file that it leaves in its job folder.

Only a run with `verdict["classification"]` has one. Two runs can be compared on rows that both classified.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from store.db.named_query import named_query
from store.db.records import records, scalar
from store.documents.runs.evidence_rows import ClassPrediction
from store.queries.rows import row_losses

if TYPE_CHECKING:
    from store.db.database import Queryable

ONLY = {"": "true", "wrong": "label <> predicted", "right": "label = predicted"}


def path(db: Queryable, run_id: str) -> Path:
    """Where the run's predictions are, or would be."""
    return row_losses.path(db, run_id).with_name("class_predictions.parquet")


@dataclass(frozen=True)
class PredictionFilter:
    """Which predictions are meant. only: "", "wrong" or "right"; label, predicted: of this class alone, where
    given."""

    only: str = ""
    label: str = ""
    predicted: str = ""


@named_query
def page(
    db: Queryable, run_id: str, wanted: PredictionFilter, *, limit: int = 10, offset: int = 0
) -> tuple[int, list[ClassPrediction]]:
    """How many rows there are, and some of them: the surest mistakes first, then the least sure right ones.
    Over a Client, QueryError where the file is missing."""
    where = f"{ONLY[wanted.only]} AND (? = '' OR label = ?) AND (? = '' OR predicted = ?)"
    classes = [wanted.label, wanted.label, wanted.predicted, wanted.predicted]
    params = [str(path(db, run_id)), *classes]
    total = int(scalar(db.query(f"SELECT count(*) FROM read_parquet(?) WHERE {where}", params)))
    sql = (
        f"SELECT * FROM read_parquet(?) WHERE {where} ORDER BY label = predicted,"
        " CASE WHEN label = predicted THEN probability ELSE -probability END, row_id LIMIT ? OFFSET ?"
    )
    return total, records(db.query(sql, [*params, limit, offset]), ClassPrediction)


@named_query
def shared(db: Queryable, first: str, second: str, split: str) -> pa.Table:
    """Rows of `split` that both runs classified: row_id, first_right and second_right, in order of row id.
    The caller makes sure that both runs are of the same rows of data."""
    return db.query(_SHARED, [str(path(db, first)), str(path(db, second)), split])


_SHARED = """
    SELECT a.row_id, a.label = a.predicted AS first_right, b.label = b.predicted AS second_right
    FROM read_parquet($1) a JOIN read_parquet($2) b ON a.row_id = b.row_id
    WHERE a.split = $3 AND b.split = $3
    ORDER BY a.row_id
"""
