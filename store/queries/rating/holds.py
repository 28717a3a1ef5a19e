"""Tasks that lie with raters: what a page shows and shows next.

A hold keeps a unit from others while its page lives: each request of the page renews it, and it ends with the
rating, when the page is left, after minutes of silence, or by whoever leads the round. A task outlives its
hold: who comes back is given it again, as long as its unit still needs a rating.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from store.db.records import records, scalar
from store.documents.rating.round import DealtTask, Purpose
from store.queries.rating.units import SYSTEMS

if TYPE_CHECKING:
    from store.db.database import Queryable, Transaction

SILENCE = timedelta(minutes=5)  # of a page, after which what it holds goes to others

# Own tasks that may be given (again): a unit that others have filled meanwhile is theirs no more.
_WANTED = f"""
    SELECT t.* EXCLUDE (round_id) FROM (SELECT *, {SYSTEMS} AS bits FROM rating_task
        WHERE round_id = $round AND person_id = $person) t
    LEFT JOIN rating_unit u ON u.round_id = $round AND u.item_id = t.item_id AND u.systems = t.bits
    WHERE t.task_id NOT IN (SELECT task_id FROM rating WHERE round_id = $round)
      AND t.task_id NOT IN (SELECT task_id FROM rating_hold WHERE round_id = $round)
      AND CASE t.purpose
        WHEN 'first' THEN u.calibration IS NOT NULL OR u.rated + (
            SELECT count(*) FROM rating_hold h WHERE h.round_id = $round AND h.item_id = t.item_id
              AND h.systems = t.bits AND h.purpose = 'first') < $overlap
        WHEN 'adjudication' THEN NOT EXISTS (
            SELECT 1 FROM rating_task o WHERE o.round_id = $round AND o.item_id = t.item_id
              AND o.purpose = 'adjudication' AND list_sort(o.systems) = list_sort(t.systems) AND (
                o.task_id IN (SELECT task_id FROM rating WHERE round_id = $round)
                OR o.task_id IN (SELECT task_id FROM rating_hold WHERE round_id = $round)))
        ELSE true END
"""


# -- reads ------------------------------------------------------------------------------------------


def held(db: Queryable, round_id: str, person_id: str) -> list[DealtTask]:
    """A person's tasks that their pages hold, in the order of dealing; none of them is rated."""
    sql = """
        SELECT t.* EXCLUDE (round_id), NULL::INTEGER AS revision, NULL::VARCHAR AS answer,
               NULL::VARCHAR AS comment, NULL::DOUBLE AS seconds, NULL::TIMESTAMP AS rated_at
        FROM rating_task t SEMI JOIN rating_hold h ON h.task_id = t.task_id AND h.round_id = $1
        WHERE t.round_id = $1 AND t.person_id = $2 ORDER BY t.place
    """
    return records(db.query(sql, [round_id, person_id]), DealtTask)


def is_held(db: Queryable, task_id: str) -> bool:
    """Whether a task lies with its rater, as far as silent pages were seen to."""
    return bool(scalar(db.query("SELECT count(*) > 0 FROM rating_hold WHERE task_id = ?", [task_id])))


# -- writes -----------------------------------------------------------------------------------------


def end_silent(tx: Transaction, round_id: str, at: datetime) -> None:
    """End the holds of pages that have not asked for anything for long; and those of a time that lies ahead,
    after a clock was set back."""
    tx.execute(
        "DELETE FROM rating_hold WHERE round_id = ? AND NOT (renewed_at > ? AND renewed_at <= ?)",
        [round_id, at - SILENCE, at],
    )


def hold(tx: Transaction, round_id: str, person_id: str, task_ids: Collection[str], at: datetime) -> None:
    """New tasks lie with the person that they were dealt to."""
    tx.execute(
        f"INSERT INTO rating_hold SELECT task_id, round_id, person_id, item_id, {SYSTEMS}, purpose,"
        " ?::TIMESTAMP FROM rating_task WHERE round_id = ? AND person_id = ?"
        " AND list_contains(?::VARCHAR[], task_id)",
        [at, round_id, person_id, list(task_ids)],
    )


def renew(tx: Transaction, round_id: str, person_id: str, task_ids: Collection[str], at: datetime) -> int:
    """A page still shows these of the person's tasks; how many of them it holds."""
    return tx.execute(
        "UPDATE rating_hold SET renewed_at = $at WHERE round_id = $round AND person_id = $person"
        " AND list_contains($tasks::VARCHAR[], task_id)",
        {"at": at, "round": round_id, "person": person_id, "tasks": list(task_ids)},
    )


def take_up(
    tx: Transaction, round_id: str, person_id: str, at: datetime, *, overlap: int, limit: int,
    task_ids: Sequence[str] | None = None, purpose: Purpose | None = None,
) -> int:  # fmt: skip
    """Hold tasks again that the person was dealt and has not rated, where these are still wanted, in the
    order of dealing; of `task_ids`, and of one purpose, alone where they are named. How many were."""
    sql = f"""
        INSERT INTO rating_hold
        SELECT task_id, $round, person_id, item_id, bits, purpose, $at::TIMESTAMP
        FROM ({_WANTED}
            AND ($tasks::VARCHAR[] IS NULL OR list_contains($tasks::VARCHAR[], t.task_id))
            AND ($purpose::VARCHAR IS NULL OR t.purpose = $purpose)
            ORDER BY t.place LIMIT $limit)
    """
    names = {"round": round_id, "person": person_id, "overlap": overlap, "at": at, "limit": limit}
    return tx.execute(sql, {**names, "tasks": task_ids and list(task_ids), "purpose": purpose})


def end(tx: Transaction, task_id: str) -> None:
    """A task lies with nobody: it is rated."""
    tx.execute("DELETE FROM rating_hold WHERE task_id = ?", [task_id])


def release(tx: Transaction, round_id: str, person_id: str | None = None, keep: Collection[str] = ()) -> int:
    """End the holds of a person, or of everybody, but for those of `keep`; how many there were."""
    return tx.execute(
        "DELETE FROM rating_hold WHERE round_id = $round"
        " AND ($person::VARCHAR IS NULL OR person_id = $person)"
        " AND NOT list_contains($keep::VARCHAR[], task_id)",
        {"round": round_id, "person": person_id, "keep": list(keep)},
    )


def release_of_others(tx: Transaction, round_id: str, named: Collection[str]) -> int:
    """End the holds of all but these people; how many there were."""
    return tx.execute(
        "DELETE FROM rating_hold WHERE round_id = ? AND NOT list_contains(?::VARCHAR[], person_id)",
        [round_id, list(named)],
    )
