"""Rows that base and tuned model of a run were asked for from memory, read from the Parquet file in its job
folder; a run has one where any row of it has an answer long enough."""

from __future__ import annotations

from typing import TYPE_CHECKING

from store.db.named_query import named_query
from store.db.records import records, scalar
from store.documents.runs.evidence_rows import WrittenRow
from store.queries.rows import row_losses

if TYPE_CHECKING:
    from store.db.database import Queryable


@named_query
def page(
    db: Queryable, run_id: str, part: str, *, limit: int = 10, offset: int = 0
) -> tuple[int, list[WrittenRow]]:
    """How many rows of `part` (train or held_out) there are, and some of them, most striking first: written
    by the tuned model and not by the base. Over a Client, QueryError where the file is missing."""
    path = str(row_losses.path(db, run_id).with_name("recalled.parquet"))
    total = int(scalar(db.query("SELECT count(*) FROM read_parquet(?) WHERE part = ?", [path, part])))
    page = db.query(
        "SELECT * FROM read_parquet(?) WHERE part = ?"
        " ORDER BY tuned_similarity >= 0.9 DESC, tuned_similarity - base_similarity DESC, row_id"
        " LIMIT ? OFFSET ?",
        [path, part, limit, offset],
    )
    return total, records(page, WrittenRow)
