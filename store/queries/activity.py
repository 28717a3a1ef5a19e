"""The activity: who did what to which thing, and when.

Rows are added, in the transaction of the change that they tell of, and nothing else ever happens to them:
there is no statement that updates or deletes one. Names stand as they were; whether a subject is still there,
and what a comment says by now, is looked up when rows are read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from store.db.named_query import named_query
from store.db.records import records, scalar
from store.documents.tables.activity import Activity, NewActivity, PersonName

if TYPE_CHECKING:
    from store.db.database import Queryable, Transaction

_PRESENT = """
    CASE a.subject_kind
        WHEN 'run' THEN a.subject_id IN (SELECT run_id FROM run)
        WHEN 'dataset' THEN a.subject_id IN (SELECT dataset_id FROM dataset)
        WHEN 'row' THEN string_split(a.subject_id, '/')[1] IN (SELECT dataset_id FROM dataset)
        WHEN 'evaluation' THEN a.subject_id IN (SELECT evaluation_id FROM evaluation)
        WHEN 'model' THEN a.subject_id IN (SELECT model_id FROM registered_model)
        WHEN 'round' THEN a.subject_id IN (SELECT round_id FROM rating_round)
        WHEN 'endpoint' THEN a.subject_id IN (SELECT endpoint_id FROM endpoint)
        WHEN 'comparison' THEN NOT EXISTS (
            SELECT 1 FROM (SELECT unnest(string_split(substr(a.subject_id, 6), ',')) AS run_id)
            WHERE run_id NOT IN (SELECT run_id FROM run))
        ELSE false
    END"""


@dataclass(frozen=True)
class ActivityFilter:
    """Which rows are meant; what is left out narrows nothing.

    person_id: who did it; commands: by any of them; search: part of a subject's name or of the detail; days:
    not longer ago; mentions: comments that name this person by @.
    """

    person_id: str = ""
    commands: tuple[str, ...] = ()
    subject_kind: str = ""
    subject_id: str = ""
    search: str = ""
    days: int = 0
    mentions: str = ""

    def where(self) -> tuple[str, dict[str, Any]]:
        """As SQL over a (the activity), with its parameters."""
        conditions, params = ["true"], dict[str, Any]()
        for column in ("person_id", "subject_kind", "subject_id"):
            if value := getattr(self, column):
                conditions.append(f"a.{column} = ${column}")
                params[column] = value
        if self.commands:
            conditions.append("list_contains($commands::VARCHAR[], a.command)")
            params["commands"] = list(self.commands)
        if self.search:
            conditions.append("contains(lower(concat_ws(' ', a.subject_name, a.detail)), lower($search))")
            params["search"] = self.search
        if self.days:
            conditions.append("a.done_at >= (now() AT TIME ZONE 'UTC') - to_days($days::INTEGER)")
            params["days"] = self.days
        if self.mentions:
            conditions.append(
                "a.command = 'comment' AND a.comment_id IN (SELECT comment_id FROM comment WHERE"
                " list_contains(json_extract_string(mentions, '$[*].person_id'), $mentions))"
            )
            params["mentions"] = self.mentions
        return " AND ".join(conditions), params


ALL = ActivityFilter()


@named_query
def listed(
    db: Queryable, which: ActivityFilter = ALL, *, limit: int = 25, offset: int = 0
) -> tuple[int, list[Activity]]:
    """How many rows are meant, and a page of them, newest first."""
    where, params = which.where()
    total = int(scalar(db.query(f"SELECT count(*) FROM activity a WHERE {where}", params)))
    sql = f"""
        WITH page AS (SELECT a.* FROM activity a WHERE {where}
                      ORDER BY a.activity_id DESC LIMIT $limit OFFSET $offset)
        SELECT a.*, {_PRESENT} AS present, nullif(c.text, '') AS comment
        FROM page a LEFT JOIN comment c ON c.comment_id = a.comment_id
        ORDER BY a.activity_id DESC
    """
    return total, records(db.query(sql, {**params, "limit": limit, "offset": offset}), Activity)


@named_query
def names(db: Queryable) -> list[PersonName]:
    """Everybody who has an account, and who ever did something, by the newest name."""
    sql = """
        SELECT person_id, name FROM person
        UNION ALL
        SELECT person_id, arg_max(person_name, activity_id) AS name FROM activity
        WHERE person_id NOT IN (SELECT person_id FROM person) GROUP BY person_id
        ORDER BY lower(name), person_id
    """
    return records(db.query(sql), PersonName)


@named_query
def made_by_others(db: Queryable, made: Literal["run", "dataset", "evaluation"], person_id: str) -> bool:
    """Whether there are things of this kind that somebody else is known to have made."""
    sql = f"SELECT count(*) > 0 FROM {made} WHERE created_by <> ?"
    return bool(scalar(db.query(sql, [person_id])))


def last(db: Queryable, subject_kind: str, subject_id: str, commands: tuple[str, ...]) -> Activity | None:
    """The newest row about a thing by one of these commands; None where there is none."""
    which = ActivityFilter(commands=commands, subject_kind=subject_kind, subject_id=subject_id)
    _, rows = listed(db, which, limit=1)
    return rows[0] if rows else None


def add(tx: Transaction, entry: NewActivity) -> None:
    """Append a row."""
    columns, places = ", ".join(entry), ", ".join(f"${name}" for name in entry)
    sql = f"INSERT INTO activity (activity_id, {columns}) VALUES (nextval('activity_number'), {places})"
    tx.execute(sql, dict(entry))
