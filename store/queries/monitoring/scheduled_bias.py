"""Bias checks on a schedule, and what came of them."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, TypedDict

from store.db.named_query import named_query
from store.db.records import records

if TYPE_CHECKING:
    from store.db.database import Queryable, Transaction


class ScheduledCheck(TypedDict):
    """One check of the schedule. sentence, worse, cant_tell: null until it has finished."""

    job_id: str
    queued_at: datetime
    status: str | None  # null: the job was deleted
    model: str | None
    against: str | None
    sentence: str | None
    worse: int | None  # figures that are surely worse than those of what it is held against
    cant_tell: int | None
    finished_at: datetime | None


def add(tx: Transaction, endpoint_id: str, job_id: str, at: datetime) -> None:
    """The schedule has asked for this one."""
    tx.execute("INSERT INTO bias_run VALUES (?, ?, ?)", [endpoint_id, job_id, at])


@named_query
def checks(db: Queryable, endpoint_id: str, limit: int = 12) -> list[ScheduledCheck]:
    """The last ones, the newest first."""
    sql = """
        SELECT b.job_id, b.queued_at, j.status, c.model, c.against, c.report ->> 'sentence' AS sentence,
            (c.report ->> 'worse')::INTEGER AS worse, (c.report ->> 'cant_tell')::INTEGER AS cant_tell,
            c.created_at AS finished_at
        FROM bias_run b LEFT JOIN job j ON j.job_id = b.job_id LEFT JOIN bias_check c ON c.job_id = b.job_id
        WHERE b.endpoint_id = ? ORDER BY b.queued_at DESC LIMIT ?"""
    return records(db.query(sql, [endpoint_id, limit]), ScheduledCheck)
