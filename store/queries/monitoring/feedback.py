"""What people said of answers. Of several words of one person on one answer the last one counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

from store.db.records import records
from store.queries.monitoring.traffic import Window

if TYPE_CHECKING:
    from store.db.database import Queryable


class FeedbackCounts(TypedDict):
    """Of one version in one role, and of one group where it is by group."""

    version: str
    role: str
    grouped_by: str | None
    thumbs: int
    up: int
    scores: int
    mean_score: float | None
    corrections: int
    labels: int  # of which it is known whether the answer was right
    right: int


class UnmatchedFeedback(TypedDict):
    """All that came, and what of it is about requests that the log has not."""

    feedback: int
    unmatched: int


_LAST = "SELECT * FROM feedback WHERE endpoint_id = $1 AND given_at >= $2 AND given_at < $3 AND is_last"
_FIGURES = """
    count(*) FILTER (kind = 'thumb' AND value IS NOT NULL) AS thumbs,
    count(*) FILTER (kind = 'thumb' AND value > 0) AS up,
    count(*) FILTER (kind = 'score' AND value IS NOT NULL) AS scores,
    avg(value) FILTER (kind = 'score') AS mean_score,
    count(*) FILTER (kind = 'correction') AS corrections,
    count(*) FILTER (correct IS NOT NULL) AS labels,
    count(*) FILTER (correct) AS right
"""


def by_version(db: Queryable, endpoint_id: str, window: Window) -> list[FeedbackCounts]:
    """Of feedback whose request is in the log; the live version first."""
    return _counts(db, endpoint_id, window, "NULL::VARCHAR", "version, role", "role <> 'live', role, version")


def by_group(db: Queryable, endpoint_id: str, window: Window) -> list[FeedbackCounts]:
    """Of the live role by the group that the caller named, the largest first."""
    where = "role = 'live' AND grouped_by IS NOT NULL"
    return _counts(db, endpoint_id, window, "grouped_by", "version, role, grouped_by", "count(*) DESC", where)


def _counts(
    db: Queryable, endpoint_id: str, window: Window, group: str, by: str, order: str, where: str = "true"
) -> list[FeedbackCounts]:
    sql = f"""
        SELECT version, role, {group} AS grouped_by, {_FIGURES} FROM ({_LAST})
        WHERE version IS NOT NULL AND {where} GROUP BY {by} ORDER BY {order}"""
    return records(db.query(sql, [endpoint_id, *window]), FeedbackCounts)


def callers_by_group(db: Queryable, endpoint_id: str, window: Window, kind: str) -> dict[str, dict[int, int]]:
    """Of `thumb` or `label`, of live answers: of each group that was named, how many callers have which share
    of good answers, in parts of 64 (engine.diagnostics.drift.arms.GRID)."""
    good, there = ("value > 0", "value") if kind == "thumb" else ("correct", "correct")
    sql = f"""
        SELECT grouped_by, round(64 * good / answers)::INTEGER AS place, count(*) AS callers
        FROM (
            SELECT grouped_by, coalesce(caller, 'key of ' || person_id) AS who, count(*) AS answers,
                count(*) FILTER ({good}) AS good
            FROM ({_LAST}) WHERE role = 'live' AND kind = $4 AND {there} IS NOT NULL
                AND grouped_by IS NOT NULL AND coalesce(caller, person_id) IS NOT NULL
            GROUP BY ALL
        ) GROUP BY ALL ORDER BY ALL"""
    groups: dict[str, dict[int, int]] = {}
    for row in db.query(sql, [endpoint_id, *window, kind]).to_pylist():
        groups.setdefault(row["grouped_by"], {})[row["place"]] = row["callers"]
    return groups


def unmatched(db: Queryable, endpoint_id: str, window: Window) -> UnmatchedFeedback:
    """How much of the feedback is about requests that the log has not."""
    sql = (
        "SELECT count(*) AS feedback, count(*) FILTER (version IS NULL) AS unmatched FROM feedback"
        " WHERE endpoint_id = ? AND given_at >= ? AND given_at < ?"
    )
    return records(db.query(sql, [endpoint_id, *window]), UnmatchedFeedback)[0]
