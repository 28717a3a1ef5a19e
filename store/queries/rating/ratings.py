"""Tasks that raters were dealt, and their ratings.

A rating is never changed: who thinks again adds a revision, and the last one counts.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa

from store.db.named_query import named_query
from store.db.records import records, scalar, to_json
from store.documents.rating.rating_desk import RatingAnswer
from store.documents.rating.round import DealtTask, LeftOutRater, LetInRater, Purpose
from store.documents.tables.person import Person
from store.queries.rating.units import SYSTEMS

if TYPE_CHECKING:
    from store.db.database import Queryable, Transaction

_DEALT = """
    SELECT t.* EXCLUDE (round_id), a.revision, a.answer, a.comment, a.seconds, a.rated_at
    FROM rating_task t LEFT JOIN (
        SELECT task_id, max(revision) AS revision, max_by(answer, revision) AS answer,
               max_by(comment, revision) AS comment, max_by(seconds, revision) AS seconds,
               max_by(rated_at, revision) AS rated_at
        FROM rating WHERE round_id = $round {of_person} GROUP BY task_id
    ) a ON a.task_id = t.task_id
    WHERE t.round_id = $round
"""


_OF_PERSON = """AND task_id IN
            (SELECT task_id FROM rating_task WHERE round_id = $round AND person_id = $person)"""


class NewRow(NamedTuple):
    """A task to be dealt. systems: in the order in which they are shown."""

    task_id: str
    item_id: int
    systems: tuple[int, ...]
    purpose: Purpose
    repeat_of: str | None
    place: int


# -- reads ------------------------------------------------------------------------------------------


@named_query
def dealt(db: Queryable, round_id: str, person_id: str | None = None) -> list[DealtTask]:
    """Tasks of a round with the latest rating of each, in the order of rating, unrated ones last; of one
    person, in the order of dealing, where `person_id`."""
    if person_id is None:
        sql = f"{_DEALT.format(of_person='')} ORDER BY a.rated_at NULLS LAST, t.person_id, t.place"
        return records(db.query(sql, {"round": round_id}), DealtTask, ["answer"])
    sql = f"{_DEALT.format(of_person=_OF_PERSON)} AND t.person_id = $person ORDER BY t.place"
    return records(db.query(sql, {"round": round_id, "person": person_id}), DealtTask, ["answer"])


class OwnTask(NamedTuple):
    """A task as its rater holds it. systems: in the order in which they are shown; revision: 0 where it is
    not rated; counted: 1 where its latest rating is no skip; bits: the models of its unit."""

    systems: list[int]
    revision: int
    item_id: int
    bits: int
    purpose: Purpose
    counted: int


def own_task(db: Queryable, round_id: str, task_id: str, person_id: str) -> OwnTask | None:
    """None where that person has no such task in the round."""
    sql = f"""
        SELECT systems, coalesce(a.revision, 0) AS revision, item_id, {SYSTEMS} AS bits,
               purpose, coalesce(a.counted, 0) AS counted
        FROM rating_task LEFT JOIN (
            SELECT task_id, max(revision) AS revision,
                   (max_by(answer, revision) ->> 'skipped' IS NULL)::INTEGER AS counted
            FROM rating WHERE task_id = $1 GROUP BY task_id
        ) a USING (task_id)
        WHERE task_id = $1 AND round_id = $2 AND person_id = $3
    """
    rows = db.query(sql, [task_id, round_id, person_id]).to_pylist()
    return OwnTask(**rows[0]) if rows else None


def is_dealt(db: Queryable, task_id: str) -> bool:
    """Whether there is such a task, whosever it is."""
    return bool(scalar(db.query("SELECT count(*) > 0 FROM rating_task WHERE task_id = ?", [task_id])))


def has_rated(db: Queryable, round_id: str, person_id: str) -> bool:
    """Whether a person has rated in a round."""
    sql = """SELECT count(*) > 0 FROM rating_task t SEMI JOIN rating a ON a.task_id = t.task_id
             WHERE t.round_id = ? AND t.person_id = ?"""
    return bool(scalar(db.query(sql, [round_id, person_id])))


def revisions(db: Queryable, round_id: str) -> int:
    """Ratings of a round, those that were revised included."""
    return int(scalar(db.query("SELECT count(*) FROM rating WHERE round_id = ?", [round_id])))


@named_query
def left_out(db: Queryable, round_id: str) -> list[LeftOutRater]:
    """Raters whose ratings don't count."""
    sql = (
        "SELECT person_id, by_name, left_out_at FROM rating_left_out WHERE round_id = ? ORDER BY left_out_at"
    )
    return records(db.query(sql, [round_id]), LeftOutRater)


@named_query
def let_in(db: Queryable, round_id: str) -> list[LetInRater]:
    """Raters who go on although they failed the qualification."""
    sql = "SELECT person_id, by_name, let_in_at FROM rating_let_in WHERE round_id = ? ORDER BY let_in_at"
    return records(db.query(sql, [round_id]), LetInRater)


# -- writes -----------------------------------------------------------------------------------------


def insert_tasks(
    tx: Transaction, round_id: str, person: Person, tasks: Collection[NewRow], at: datetime
) -> None:
    """Deal tasks to a person."""
    rows = [
        [
            *(row.task_id, round_id, row.item_id, person["person_id"], person["name"]),
            *(list(row.systems), row.purpose, row.repeat_of, row.place, at),
        ]
        for row in tasks
    ]
    if rows:
        places = ", ".join(["(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"] * len(rows))
        tx.execute(f"INSERT INTO rating_task VALUES {places}", [value for row in rows for value in row])


def insert(
    tx: Transaction,
    round_id: str,
    task_id: str,
    revision: int,
    answer: RatingAnswer,
    *,
    comment: str,
    seconds: float,
    at: datetime,
) -> None:
    """Keep a rating."""
    tx.execute(
        "INSERT INTO rating VALUES (?, ?, ?, ?, ?, ?, ?)",
        [task_id, revision, round_id, to_json(answer), comment, seconds, at],
    )


def insert_votes(tx: Transaction, round_id: str, votes: pa.Table, at: datetime) -> None:
    """Ratings of a round from elsewhere: task_id, item_id, person_name, place, answer (JSON)."""
    with tx.table("imported_votes", votes):
        tx.execute(
            "INSERT INTO rating_task SELECT task_id, ?, item_id, 'elsewhere:' || person_name, person_name,"
            " [0, 1], 'first', NULL, place, ? FROM imported_votes",
            [round_id, at],
        )
        tx.execute(
            "INSERT INTO rating SELECT task_id, 1, ?, answer, '', 'NaN'::DOUBLE, ? FROM imported_votes",
            [round_id, at],
        )


def leave_out(tx: Transaction, round_id: str, person_id: str, by: Person, at: datetime) -> None:
    """Have a rater's ratings not count."""
    tx.execute(
        "INSERT INTO rating_left_out VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
        [round_id, person_id, by["name"], at],
    )


def take_in(tx: Transaction, round_id: str, person_id: str) -> None:
    """Have them count again."""
    tx.execute("DELETE FROM rating_left_out WHERE round_id = ? AND person_id = ?", [round_id, person_id])


def insert_let_in(tx: Transaction, round_id: str, person_id: str, by: Person, at: datetime) -> None:
    """Have a rater go on although they failed the qualification."""
    tx.execute(
        "INSERT INTO rating_let_in VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
        [round_id, person_id, by["name"], at],
    )
