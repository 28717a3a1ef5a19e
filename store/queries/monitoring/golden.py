"""Evaluations on a schedule, and what came of them."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, NotRequired, TypedDict

from store.db.named_query import named_query
from store.db.records import records
from store.documents.figures.figure import Figure

if TYPE_CHECKING:
    from store.db.database import Queryable, Transaction


class GoldenRun(TypedDict):
    """One evaluation of the schedule. figures: null until it has finished."""

    job_id: str
    queued_at: datetime
    status: str | None  # null: the job was deleted
    figures: NotRequired[list[Figure] | None]


def add(tx: Transaction, endpoint_id: str, job_id: str, at: datetime) -> None:
    """The schedule has asked for this one."""
    tx.execute("INSERT INTO golden_run VALUES (?, ?, ?)", [endpoint_id, job_id, at])


@named_query
def runs(db: Queryable, endpoint_id: str, limit: int = 60) -> list[GoldenRun]:
    """The last ones, the oldest first."""
    sql = """
        SELECT g.job_id, g.queued_at, j.status, e.figures FROM golden_run g
        LEFT JOIN job j ON j.job_id = g.job_id LEFT JOIN evaluation e ON e.evaluation_id = g.job_id
        WHERE g.endpoint_id = ? ORDER BY g.queued_at DESC LIMIT ?"""
    return records(db.query(sql, [endpoint_id, limit]), GoldenRun, ["figures"])[::-1]
