"""Raters of a round: assignments, progress and remaining work, with descriptions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from store.core.errors import ConfigError
from store.core.rating_schemas import CHECKS
from store.db.named_query import named_query
from store.db.records import read_records
from store.rating import rounds
from store.rating.config import AssignedRater
from store.rating.schemas import Assignment, RaterAccount, RaterWorkload, Workload
from store.rating.tasks import SILENCE

if TYPE_CHECKING:
    from store.db.database import Queryable, Transaction

# -- reads ------------------------------------------------------------------------------------------


def list_assignments(db: Queryable, round_id: str) -> list[Assignment]:
    """Return the people assigned to a round, in order of assignment; empty if it is open to everybody."""
    sql = """SELECT person_id, quota, by_name, assigned_at FROM rating_assignment WHERE round_id = ?
             ORDER BY assigned_at, person_id"""
    return read_records(db.query(sql, [round_id]), Assignment)


@named_query
def people_who_rate(db: Queryable) -> list[RaterAccount]:
    """Return all accounts that may rate, sorted by name."""
    sql = """SELECT person_id, name FROM person WHERE active AND role <> 'viewer'
             ORDER BY lower(name), person_id"""
    return read_records(db.query(sql), RaterAccount)


def resolve_people(db: Queryable, raters: Sequence[AssignedRater]) -> list[AssignedRater]:
    """Resolve the people named for a round to their ids.

    Raises ConfigError naming the person who is unknown, may not rate, or is listed twice.
    """
    by_id: dict[str, AssignedRater] = {}
    for place, rater in enumerate(raters):
        field = f"raters.{place}.person"
        person_id = _resolve_person(db, rater.person, field)
        if person_id in by_id:
            raise ConfigError(f"{rater.person} is listed twice.", fix="Name each person once.", field=field)
        by_id[person_id] = rater.model_copy(update={"person": person_id})
    return list(by_id.values())


def _resolve_person(db: Queryable, name: str, field: str) -> str:
    """Return the id of the person with this id, e-mail address or name."""
    sql = """
        SELECT p.person_id, p.active AND p.role <> 'viewer' AS rates,
               p.person_id = $name AS by_id, a.email = lower($name) AS by_email
        FROM person p LEFT JOIN account a USING (person_id)
        WHERE p.person_id = $name OR a.email = lower($name) OR lower(p.name) = lower($name)
    """
    people = db.query(sql, {"name": name}).to_pylist()
    exact = [row for row in people if row["by_id"]] or [row for row in people if row["by_email"]] or people
    if not exact:
        raise ConfigError(
            f"There is no person {name!r}.", fix="Name an account by its e-mail address.", field=field
        )
    if len(exact) > 1:
        raise ConfigError(
            f"{len(exact)} people are called {name!r}.", fix="Give the e-mail address.", field=field
        )
    if not exact[0]["rates"]:
        raise ConfigError(
            f"{name!r} can't rate: the account is a viewer or is deactivated.",
            fix="Choose another person, or ask an admin to change the role.",
            field=field,
        )
    return str(exact[0]["person_id"])


# -- writes -----------------------------------------------------------------------------------------


def set_assignments(
    tx: Transaction, round_id: str, raters: Sequence[AssignedRater], by_name: str, at: datetime
) -> None:
    """Assign exactly these people to a round by id; an empty list opens it to everybody.

    Earlier assignments keep their time and the person who made them.
    """
    before = {each.person_id: each for each in list_assignments(tx, round_id)}
    tx.execute("DELETE FROM rating_assignment WHERE round_id = ?", [round_id])
    for rater in raters:
        earlier = before.get(rater.person)
        by = (earlier.by_name, earlier.assigned_at) if earlier else (by_name, at)
        tx.execute(
            "INSERT INTO rating_assignment VALUES (?, ?, ?, ?, ?)",
            [round_id, rater.person, rater.quota, *by],
        )


DAY = timedelta(days=1)
MIN_TIMED = 3  # minimum timed ratings for a median
MIN_OF_DAY = 5  # minimum ratings in the last day for an estimate of the finish time

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
    """Return progress and raters of a round at a point in time. Raises NotFoundError."""
    round = rounds.line(db, round_id)
    names = {
        "round": round_id,
        "since": at - SILENCE,
        "at": at,
        "min_timed": MIN_TIMED,
        "checks": sorted(CHECKS),
    }
    raters = read_records(db.query(_RATERS, names), RaterWorkload)
    overlap = int(round.config.get("overlap") or 1)
    units = db.query(_LEFT, {"round": round_id, "overlap": overlap}).to_pylist()[0]
    left, wanted = units["left"], units["wanted"]
    if not wanted:  # not counted yet
        left, wanted = max(round.wanted - round.rated + round.extra, 0), round.wanted
    pace = db.query(_PACE, {"round": round_id, "at": at, "day": at - DAY}).to_pylist()[0]
    days_left = None
    if pace["recent"] >= MIN_OF_DAY and pace["seconds"]:
        days_left = float(left / pace["recent"] * pace["seconds"] / DAY.total_seconds())
    return Workload(
        raters=raters,
        for_everybody=not list_assignments(db, round_id),
        ratings_left=left,
        wanted=wanted,
        seconds_of_work_left=left * pace["median_seconds"] if pace["timed"] >= MIN_TIMED else None,
        days_left=days_left,
    )


HOUR = 3_600.0
UNITS = ((24 * HOUR, "day"), (HOUR, "hour"), (60.0, "minute"))


def describe_remaining(work: Workload) -> list[str]:
    """Describe the remaining work of a round and its duration."""
    if not work.ratings_left:
        return ["Every item has its ratings: the round can be closed."]
    sentences = [f"{work.ratings_left:,} of {work.wanted:,} ratings are left."]
    if (seconds := work.seconds_of_work_left) is not None:
        sentences.append(f"That is about {_format_duration(seconds)} of work.")
    if (days := work.days_left) is not None:
        sentences.append(
            f"At the pace of the last day, it will be done in about {_format_duration(days * 24 * HOUR)}."
        )
    else:
        sentences.append("No estimate of the finish time: fewer than five ratings came in the last day.")
    if work.for_everybody:
        sentences.append("Everyone who can rate gets tasks.")
    return sentences


def describe_rater_progress(rater: RaterWorkload) -> str:
    """Describe a rater's progress: "12 of 40 rated, 2 of them skipped, 4 held now"."""
    rated = f"{rater.rated:,} rated"
    if rater.quota is not None:
        rated = f"{rater.rated:,} of {rater.quota:,} rated"
    skipped = [f"{rater.skipped:,} of them skipped"] if rater.skipped else []
    held = [f"{rater.held:,} held now"] if rater.held else []
    return ", ".join([rated, *skipped, *held])


def _format_duration(seconds: float) -> str:
    """Format a duration, rounded up: "5 minutes", "3 hours", "2 days"."""
    size, unit = next(each for each in UNITS if seconds > each[0] or each == UNITS[-1])
    count = max(1, math.ceil(seconds / size))
    return f"1 {unit}" if count == 1 else f"{count:,} {unit}s"
