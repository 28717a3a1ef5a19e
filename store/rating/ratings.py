"""Tasks assigned to raters, and their ratings.

A rating is never changed: a correction adds a revision, and the latest one counts.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa

from store.core.rating_schemas import (
    CHECKS,
    AssignedTask,
    ExcludedRater,
    Purpose,
    QualificationOverride,
    RaterCounts,
    RatingAnswer,
    RatingProtocol,
)
from store.core.schemas import Person
from store.db.named_query import named_query
from store.db.records import read_records, read_scalar, to_json
from store.rating import rounds
from store.rating.tasks import SYSTEMS

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


_RATED = """
    WITH latest AS (
        SELECT task_id, max_by(answer, revision) AS answer, max_by(seconds, revision) AS seconds,
               max(rated_at) AS rated_at
        FROM rating WHERE round_id = $round GROUP BY task_id
    ), item AS (
        SELECT item_id, weight, {texts}
        FROM rating_item WHERE round_id = $round
    )
    SELECT t.task_id, t.repeat_of, t.item_id, t.person_id, t.person_name, t.purpose, t.systems,
           item.weight, a.seconds, a.answer ->> 'skipped' IS NOT NULL AS skipped,
           t.item_id IN (SELECT item_id FROM round_request WHERE round_id = $round AND NOT random) AS telling,
           {answers}
    FROM rating_task t JOIN latest a USING (task_id) JOIN item USING (item_id)
    WHERE t.round_id = $round AND NOT list_contains($checks, t.purpose)
    ORDER BY a.rated_at, t.person_id, t.place
"""
MARKS = ("**", "\n- ", "\n* ", "\n#", "\n1.", "```", "|")  # Markdown marks
_TEXTS = {  # features of the texts for figures: number of characters, log(1 + Markdown marks)
    "pairwise": """list_transform(answers, lambda text: length(text)) AS lengths,
        list_transform(answers, lambda text: ln(1 + list_sum(list_transform($marks::VARCHAR[], lambda mark:
            (strlen(text) - strlen(replace(text, mark, ''))) // strlen(mark))))) AS marks"""
}
_ANSWERS: dict[RatingProtocol, str] = {
    "pairwise": "a.answer ->> 'choice' AS choice, (a.answer ->> 'preference')::DOUBLE AS preference,"
    " lengths[systems[1] + 1] AS left_length, lengths[systems[2] + 1] AS right_length,"
    " marks[systems[1] + 1] AS left_marks, marks[systems[2] + 1] AS right_marks",
    "rank": "from_json(a.answer -> 'ranks', '[\"INTEGER\"]') AS ranks",
    "rubric": "a.answer ->> 'scores' AS scores",
    "label": "a.answer ->> 'label' AS label",
    "pass_fail": "(a.answer ->> 'passed')::BOOLEAN AS passed",
}


_OF_ITEMS = """AND task_id IN (SELECT task_id FROM rating_task
            WHERE round_id = $round AND list_contains($items::INTEGER[], item_id))"""
_OF_PERSON = """AND task_id IN
            (SELECT task_id FROM rating_task WHERE round_id = $round AND person_id = $person)"""


class NewRow(NamedTuple):
    """A task to assign. systems: model indices in display order."""

    task_id: str
    item_id: int
    systems: tuple[int, ...]
    purpose: Purpose
    repeat_of: str | None
    place: int


# -- reads ------------------------------------------------------------------------------------------


@named_query
def dealt(db: Queryable, round_id: str, person_id: str | None = None) -> list[AssignedTask]:
    """Return the tasks of a round with their latest ratings, by time of rating, unrated ones last.

    With `person_id`, only that person's tasks, in the order of assignment.
    """
    if person_id is None:
        sql = f"{_DEALT.format(of_person='')} ORDER BY a.rated_at NULLS LAST, t.person_id, t.place"
        return read_records(db.query(sql, {"round": round_id}), AssignedTask, ["answer"])
    sql = f"{_DEALT.format(of_person=_OF_PERSON)} AND t.person_id = $person ORDER BY t.place"
    return read_records(db.query(sql, {"round": round_id, "person": person_id}), AssignedTask, ["answer"])


@named_query
def of_items(db: Queryable, round_id: str, item_ids: list[int]) -> list[AssignedTask]:
    """Return rated tasks on these items, by time of rating."""
    sql = f"""{_DEALT.format(of_person=_OF_ITEMS)} AND a.answer IS NOT NULL
              AND list_contains($items::INTEGER[], t.item_id) ORDER BY a.rated_at, t.person_id, t.place"""
    return read_records(db.query(sql, {"round": round_id, "items": item_ids}), AssignedTask, ["answer"])


@named_query
def rated(db: Queryable, round_id: str) -> pa.Table:
    """Return a row for each rated or skipped task of a round, without check items, by time of rating.

    This is the input of statistics. It contains no text, so that tens of thousands of rows are fast.
    """
    protocol = rounds.get(db, round_id).protocol
    sql = _RATED.format(texts=_TEXTS.get(protocol, "NULL"), answers=_ANSWERS.get(protocol, "NULL"))
    asked = {"round": round_id, "checks": sorted(CHECKS)}
    return db.query(sql, asked | ({"marks": list(MARKS)} if "$marks" in sql else {}))


@named_query
def check_tasks(db: Queryable, round_id: str) -> list[AssignedTask]:
    """Return the check tasks with their latest ratings, by time of rating."""
    sql = (
        f"{_DEALT.format(of_person='')} AND list_contains($checks, t.purpose)"
        " ORDER BY a.rated_at NULLS LAST, t.person_id, t.place"
    )
    return read_records(
        db.query(sql, {"round": round_id, "checks": sorted(CHECKS)}), AssignedTask, ["answer"]
    )


@named_query
def rater_counts(db: Queryable, round_id: str) -> list[RaterCounts]:
    """Return how much each rater of a round has rated, by time of first rating."""
    sql = """
        SELECT t.person_id, any_value(t.person_name) AS name, count(a.task_id) AS rated,
               count(*) FILTER (a.answer ->> 'skipped' IS NOT NULL) AS skipped,
               median(a.seconds) FILTER (a.seconds > 0 AND NOT isnan(a.seconds)) AS seconds,
               max(a.rated_at) AS last_at
        FROM rating_task t LEFT JOIN (
            SELECT task_id, max_by(answer, revision) AS answer, max_by(seconds, revision) AS seconds,
                   max(rated_at) AS rated_at
            FROM rating WHERE round_id = $round GROUP BY task_id
        ) a USING (task_id)
        WHERE t.round_id = $round GROUP BY t.person_id ORDER BY min(a.rated_at) NULLS LAST, t.person_id
    """
    return read_records(db.query(sql, {"round": round_id}), RaterCounts)


@named_query
def last_change(db: Queryable, round_id: str) -> str:
    """Return a cache key for figures, which changes with every rating, exclusion and inclusion of a rater."""
    sql = """
        SELECT count(*) || ' ' || coalesce(max(rated_at)::VARCHAR, '') || ' ' || coalesce((
            SELECT string_agg(person_id, ' ' ORDER BY person_id) FROM rating_left_out WHERE round_id = $round
        ), '') FROM rating WHERE round_id = $round
    """
    return str(read_scalar(db.query(sql, {"round": round_id})))


class OwnTask(NamedTuple):
    """A task of a rater.

    systems: model indices in display order; revision: 0 if not rated; counted: 1 if the latest rating
    isn't a skip; bits: the models of its unit.
    """

    systems: list[int]
    revision: int
    item_id: int
    bits: int
    purpose: Purpose
    counted: int


def find_own_task(db: Queryable, round_id: str, task_id: str, person_id: str) -> OwnTask | None:
    """Return a task; None if it isn't assigned to that person in the round."""
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


def is_assigned(db: Queryable, task_id: str) -> bool:
    """Return whether the task exists, for any rater."""
    return bool(read_scalar(db.query("SELECT count(*) > 0 FROM rating_task WHERE task_id = ?", [task_id])))


def has_rated(db: Queryable, round_id: str, person_id: str) -> bool:
    """Return whether a person has rated in a round."""
    sql = """SELECT count(*) > 0 FROM rating_task t SEMI JOIN rating a ON a.task_id = t.task_id
             WHERE t.round_id = ? AND t.person_id = ?"""
    return bool(read_scalar(db.query(sql, [round_id, person_id])))


def count_revisions(db: Queryable, round_id: str) -> int:
    """Return the number of ratings of a round, including revised ones."""
    return int(read_scalar(db.query("SELECT count(*) FROM rating WHERE round_id = ?", [round_id])))


@named_query
def left_out(db: Queryable, round_id: str) -> list[ExcludedRater]:
    """Return raters whose ratings don't count."""
    sql = (
        "SELECT person_id, by_name, left_out_at FROM rating_left_out WHERE round_id = ? ORDER BY left_out_at"
    )
    return read_records(db.query(sql, [round_id]), ExcludedRater)


@named_query
def let_in(db: Queryable, round_id: str) -> list[QualificationOverride]:
    """Return raters who may continue although they failed the qualification."""
    sql = "SELECT person_id, by_name, let_in_at FROM rating_let_in WHERE round_id = ? ORDER BY let_in_at"
    return read_records(db.query(sql, [round_id]), QualificationOverride)


# -- writes -----------------------------------------------------------------------------------------


def insert_tasks(
    tx: Transaction, round_id: str, person: Person, tasks: Collection[NewRow], at: datetime
) -> None:
    """Assign tasks to a person."""
    rows = [
        [
            *(row.task_id, round_id, row.item_id, person.person_id, person.name),
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
    """Store a rating."""
    tx.execute(
        "INSERT INTO rating VALUES (?, ?, ?, ?, ?, ?, ?)",
        [task_id, revision, round_id, to_json(answer), comment, seconds, at],
    )


def insert_votes(tx: Transaction, round_id: str, votes: pa.Table, at: datetime) -> None:
    """Insert ratings imported from elsewhere.

    votes: the columns of a task and of a rating, answers as JSON; ratings without a time get the round's.
    """
    with tx.table("imported_votes", votes):
        tx.execute(
            "INSERT INTO rating_task SELECT task_id, ?, item_id, 'elsewhere:' || person_name, person_name,"
            " systems, purpose, repeat_of, place, coalesce(rated_at, ?) FROM imported_votes",
            [round_id, at],
        )
        tx.execute(
            "INSERT INTO rating SELECT task_id, 1, ?, answer, comment, seconds, coalesce(rated_at, ?)"
            " FROM imported_votes",
            [round_id, at],
        )


def exclude_rater(tx: Transaction, round_id: str, person_id: str, by: Person, at: datetime) -> None:
    """Exclude a rater's ratings from the results."""
    tx.execute(
        "INSERT INTO rating_left_out VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
        [round_id, person_id, by.name, at],
    )


def include_rater(tx: Transaction, round_id: str, person_id: str) -> None:
    """Include an excluded rater's ratings again."""
    tx.execute("DELETE FROM rating_left_out WHERE round_id = ? AND person_id = ?", [round_id, person_id])


def insert_qualification_override(
    tx: Transaction, round_id: str, person_id: str, by: Person, at: datetime
) -> None:
    """Let a rater continue despite a failed qualification."""
    tx.execute(
        "INSERT INTO rating_let_in VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
        [round_id, person_id, by.name, at],
    )
