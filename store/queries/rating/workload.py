"""How the work of a round is shared: who has rated how much, what lies with whom, and what is left."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from store.db.named_query import named_query
from store.documents.rating.round import CHECKS
from store.documents.rating.workload import RaterWorkload, Workload
from store.queries.rating import rounds
from store.queries.rating.assignments import assignments
from store.queries.rating.holds import SILENCE

if TYPE_CHECKING:
    from store.db.database import Queryable

DAY = timedelta(days=1)
MIN_TIMED = 3  # ratings whose time is known, before a median is told
MIN_OF_DAY = 5  # ratings of the last day, before it says when the round will be done

_RATERS = """
    WITH rated AS (
        SELECT task_id, max_by(answer, revision) ->> 'skipped' IS NOT NULL AS skipped,
               min_by(seconds, revision) AS seconds, max(rated_at) AS rated_at
        FROM rating WHERE round_id = $round GROUP BY task_id
    ),
    task AS (
        SELECT t.person_id, arg_max(t.person_name, t.place) AS name, count(r.task_id) AS rated,
               count(r.task_id) FILTER (NOT list_contains($checks, t.purpose)) AS of_quota,
               count(*) FILTER (r.skipped) AS skipped, max(r.rated_at) AS rated_at,
               count(*) FILTER (r.seconds > 0 AND NOT isnan(r.seconds)) AS timed,
               median(r.seconds) FILTER (r.seconds > 0 AND NOT isnan(r.seconds)) AS median_seconds
        FROM rating_task t LEFT JOIN rated r USING (task_id) WHERE t.round_id = $round GROUP BY t.person_id
    ),
    hold AS (
        SELECT person_id, count(*) FILTER (renewed_at > $since AND renewed_at <= $at) AS held,
               max(renewed_at) AS renewed_at
        FROM rating_hold WHERE round_id = $round GROUP BY person_id
    ),
    named AS (SELECT person_id, quota FROM rating_assignment WHERE round_id = $round)
    SELECT person_id, coalesce(p.name, t.name, person_id) AS person_name, n.person_id IS NOT NULL AS assigned,
           n.quota, coalesce(t.rated, 0) AS rated, coalesce(t.skipped, 0) AS skipped,
           coalesce(h.held, 0) AS held, greatest(t.rated_at, h.renewed_at) AS last_active,
           CASE WHEN t.timed >= $min_timed THEN t.median_seconds END AS median_seconds,
           CASE WHEN n.quota IS NOT NULL THEN greatest(n.quota - coalesce(t.of_quota, 0), 0) END AS "left"
    FROM task t FULL JOIN hold h USING (person_id) FULL JOIN named n USING (person_id)
    LEFT JOIN person p USING (person_id)
    ORDER BY n.person_id IS NULL, lower(person_name), person_id
"""
_LEFT = """
    SELECT coalesce(sum(greatest($overlap - rated, 0)), 0)::BIGINT AS "left",
           count(*) * $overlap AS wanted
    FROM rating_unit WHERE round_id = $round
"""
_PACE = """
    SELECT count(*) FILTER (seconds > 0 AND NOT isnan(seconds)) AS timed,
           median(seconds) FILTER (seconds > 0 AND NOT isnan(seconds)) AS median_seconds,
           count(*) FILTER (rated_at > $day AND rated_at <= $at) AS recent,
           epoch($at - min(rated_at) FILTER (rated_at > $day AND rated_at <= $at)) AS seconds
    FROM rating WHERE round_id = $round AND revision = 1
"""


@named_query
def workload(db: Queryable, round_id: str, at: datetime) -> Workload:
    """How far a round is at a time, and who is at it. Raises NotFoundError."""
    round = rounds.line(db, round_id)
    names = {
        "round": round_id,
        "since": at - SILENCE,
        "at": at,
        "min_timed": MIN_TIMED,
        "checks": sorted(CHECKS),
    }
    raters: list[RaterWorkload] = db.query(_RATERS, names).to_pylist()
    overlap = int(round["config"].get("overlap") or 1)
    units = db.query(_LEFT, {"round": round_id, "overlap": overlap}).to_pylist()[0]
    left, wanted = units["left"], units["wanted"]
    if not wanted:  # not counted yet
        left, wanted = max(round["wanted"] - round["rated"] + round["extra"], 0), round["wanted"]
    pace = db.query(_PACE, {"round": round_id, "at": at, "day": at - DAY}).to_pylist()[0]
    return {
        "raters": raters,
        "for_everybody": not assignments(db, round_id),
        "ratings_left": left,
        "wanted": wanted,
        "seconds_of_work_left": left * pace["median_seconds"] if pace["timed"] >= MIN_TIMED else None,
        "days_left": _days_left(left, pace),
    }


def _days_left(left: int, pace: dict[str, Any]) -> float | None:
    """At the pace of the last day, or since its first rating where that is less long ago."""
    if pace["recent"] < MIN_OF_DAY or not pace["seconds"]:
        return None
    return float(left / pace["recent"] * pace["seconds"] / DAY.total_seconds())
