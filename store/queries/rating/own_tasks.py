"""What one rater has in a round, counted by the store: a desk asks after each press."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from store.db.records import records
from store.documents.rating.round import DealtTask, Purpose
from store.queries.rating.units import SYSTEMS, systems_of

if TYPE_CHECKING:
    from store.db.database import Queryable

_OWN = "SELECT * FROM rating_task WHERE round_id = $round AND person_id = $person"
_RATED = "SELECT task_id FROM rating WHERE round_id = $round"
_HELD = "SELECT task_id FROM rating_hold WHERE round_id = $round"


@dataclass(frozen=True)
class OwnTasks:
    """Tasks that are rated or held. had: by the models, rising, and which came first; let_go: others, which
    the person was dealt and gave back."""

    had: Counter[tuple[tuple[int, ...], int]]
    dealt: Counter[Purpose]
    next_place: int
    let_go: int


class RatedOnce(NamedTuple):
    """A task that the person has rated and not been shown again."""

    task_id: str
    item_id: int
    systems: list[int]  # as they were shown


class OwnPace(NamedTuple):
    """rated: tasks, skips among them; timed: those of which it is known how long they took."""

    rated: int
    timed: int
    median_seconds: float | None


def counted(db: Queryable, round_id: str, person_id: str) -> OwnTasks:
    """How often the person was shown what."""
    sql = f"""
        SELECT {SYSTEMS} AS bits, systems[1] AS shown_first, purpose, max(place) AS place,
               count(*) FILTER (task_id IN ({_RATED} UNION ALL {_HELD})) AS tasks, count(*) AS all_tasks
        FROM ({_OWN}) GROUP BY ALL
    """
    rows = db.query(sql, {"round": round_id, "person": person_id}).to_pylist()
    had, dealt = Counter[tuple[tuple[int, ...], int]](), Counter[Purpose]()
    for row in rows:
        had[systems_of(row["bits"]), row["shown_first"]] += row["tasks"]
        dealt[row["purpose"]] += row["tasks"]
    next_place = 1 + max((row["place"] for row in rows), default=-1)
    return OwnTasks(had, dealt, next_place, sum(row["all_tasks"] for row in rows) - dealt.total())


def repeatable(db: Queryable, round_id: str, person_id: str, *, but_last: int) -> list[RatedOnce]:
    """Tasks that may come again: not skipped, not shown again yet, and not among the last so many."""
    sql = f"""
        WITH own AS ({_OWN}),
        rated AS (
            SELECT task_id, max(rated_at) AS rated_at, max_by(answer, revision) AS answer FROM rating
            WHERE round_id = $round AND task_id IN (SELECT task_id FROM own) GROUP BY task_id
        )
        SELECT o.task_id, o.item_id, o.systems FROM own o JOIN rated USING (task_id)
        WHERE o.purpose = 'first' AND answer ->> 'skipped' IS NULL
          AND o.task_id NOT IN (SELECT repeat_of FROM own WHERE repeat_of IS NOT NULL)
          AND o.task_id NOT IN (SELECT task_id FROM rated ORDER BY rated_at DESC, task_id LIMIT $but_last)
        ORDER BY o.place
    """
    rows = db.query(sql, {"round": round_id, "person": person_id, "but_last": but_last}).to_pylist()
    return [RatedOnce(**row) for row in rows]


def pace(db: Queryable, round_id: str, person_id: str) -> OwnPace:
    """How much the person has rated, and how fast."""
    sql = f"""
        SELECT count(*) AS rated, count(*) FILTER (seconds > 0) AS timed,
               median(seconds) FILTER (seconds > 0) AS median_seconds
        FROM rating a JOIN ({_OWN}) t USING (task_id)
        WHERE a.round_id = $round AND a.revision = 1
    """
    return OwnPace(**db.query(sql, {"round": round_id, "person": person_id}).to_pylist()[0])


def last_rated(
    db: Queryable, round_id: str, person_id: str, limit: int, purpose: Purpose | None = None
) -> list[DealtTask]:
    """The tasks that the person rated last, the newest first; of one purpose where it is named."""
    sql = f"""
        SELECT t.* EXCLUDE (round_id), max(a.revision) AS revision, max_by(a.answer, a.revision) AS answer,
               max_by(a.comment, a.revision) AS comment, max_by(a.seconds, a.revision) AS seconds,
               max_by(a.rated_at, a.revision) AS rated_at
        FROM ({_OWN} AND ($purpose::VARCHAR IS NULL OR purpose = $purpose)) t
        JOIN rating a ON a.task_id = t.task_id AND a.round_id = $round
        GROUP BY ALL ORDER BY rated_at DESC, t.place DESC LIMIT $limit
    """
    names = {"round": round_id, "person": person_id, "limit": limit, "purpose": purpose}
    return records(db.query(sql, names), DealtTask, ["answer"])


def items_of(db: Queryable, round_id: str, person_id: str, purposes: Collection[Purpose]) -> set[int]:
    """Items that the person was dealt for these purposes."""
    sql = f"SELECT item_id FROM ({_OWN} AND list_contains($purposes::VARCHAR[], purpose))"
    names = {"round": round_id, "person": person_id, "purposes": list(purposes)}
    return set(db.query(sql, names)["item_id"].to_pylist())
