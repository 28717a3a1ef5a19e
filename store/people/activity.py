"""Activity log (who did what to which subject and when), and comments on runs, rows, evaluations and
comparisons.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from store.core.errors import NotFoundError
from store.core.schemas import Activity, Comment, CommentSubjectKind, NewActivity, PersonName
from store.db.named_query import named_query
from store.db.records import read_records, read_scalar, to_json

if TYPE_CHECKING:
    from store.db.database import Queryable, Transaction

# Activity log.
#
# Append-only: entries are added in the transaction of the change that they describe, and no statement updates
# or deletes one. Names are those at that time; whether a subject still exists, and the current text of a
# comment, are looked up when entries are read.

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
    """Filter of the activity; unset fields match everything.

    person_id: the actor; commands: any of these; search: part of a subject's name or of the detail; days:
    maximum age; mentions: comments that mention this person with @.
    """

    person_id: str = ""
    commands: tuple[str, ...] = ()
    subject_kind: str = ""
    subject_id: str = ""
    search: str = ""
    days: int = 0
    mentions: str = ""

    def where(self) -> tuple[str, dict[str, Any]]:
        """Return the SQL condition over `a` (the activity) and its parameters."""
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
    """Return the number of matching entries, and a page of them, newest first."""
    where, params = which.where()
    total = int(read_scalar(db.query(f"SELECT count(*) FROM activity a WHERE {where}", params)))
    sql = f"""
        WITH page AS (SELECT a.* FROM activity a WHERE {where}
                      ORDER BY a.activity_id DESC LIMIT $limit OFFSET $offset)
        SELECT a.*, {_PRESENT} AS present, nullif(c.text, '') AS comment
        FROM page a LEFT JOIN comment c ON c.comment_id = a.comment_id
        ORDER BY a.activity_id DESC
    """
    return total, read_records(db.query(sql, {**params, "limit": limit, "offset": offset}), Activity)


@named_query
def names(db: Queryable) -> list[PersonName]:
    """Return everyone with an account or any activity, with their latest name."""
    sql = """
        SELECT person_id, name FROM person
        UNION ALL
        SELECT person_id, arg_max(person_name, activity_id) AS name FROM activity
        WHERE person_id NOT IN (SELECT person_id FROM person) GROUP BY person_id
        ORDER BY lower(name), person_id
    """
    return read_records(db.query(sql), PersonName)


@named_query
def made_by_others(db: Queryable, made: Literal["run", "dataset", "evaluation"], person_id: str) -> bool:
    """Return whether there are objects of this kind known to be created by someone else."""
    sql = f"SELECT count(*) > 0 FROM {made} WHERE created_by <> ?"
    return bool(read_scalar(db.query(sql, [person_id])))


def find_last(
    db: Queryable, subject_kind: str, subject_id: str, commands: tuple[str, ...]
) -> Activity | None:
    """Return the newest entry on a subject by one of these commands; None if there is none."""
    which = ActivityFilter(commands=commands, subject_kind=subject_kind, subject_id=subject_id)
    _, rows = listed(db, which, limit=1)
    return rows[0] if rows else None


def add(tx: Transaction, entry: NewActivity) -> None:
    """Add an entry."""
    row = vars(entry)
    columns, places = ", ".join(row), ", ".join(f"${name}" for name in row)
    sql = f"INSERT INTO activity (activity_id, {columns}) VALUES (nextval('activity_number'), {places})"
    tx.execute(sql, row)


# Comments on runs, rows, evaluations and comparisons.
#
# The id of a row is DATASET_ID/ROW_ID, that of a comparison its canonical query: `runs=` and the sorted ids,
# because a comparison of the same runs is the same in any order. A deleted comment loses its text and is
# never listed; comments are deleted with their subject.

_COMMENT_COLUMNS = (
    "comment_id, subject_kind, subject_id, person_id, person_name, text, mentions, written_at, edited_at"
    " FROM comment"
)


def format_row_key(dataset_id: str, row_id: int) -> str:
    """Return the subject id of a row."""
    return f"{dataset_id}/{row_id}"


def format_comparison_key(run_ids: Iterable[str]) -> str:
    """Return the subject id of a comparison of these runs."""
    return f"runs={','.join(sorted(set(run_ids)))}"


@named_query
def list_comments(db: Queryable, subject_kind: CommentSubjectKind, subject_id: str) -> list[Comment]:
    """Return the comments on a subject, oldest first."""
    sql = (
        f"SELECT {_COMMENT_COLUMNS} WHERE subject_kind = ? AND subject_id = ? AND deleted_at IS NULL"
        " ORDER BY written_at, comment_id"
    )
    return read_records(db.query(sql, [subject_kind, subject_id]), Comment, ["mentions"])


def get_comment(db: Queryable, comment_id: str) -> Comment:
    """Return a comment. Raises NotFoundError, also for a deleted one."""
    sql = f"SELECT {_COMMENT_COLUMNS} WHERE comment_id = ? AND deleted_at IS NULL"
    rows = read_records(db.query(sql, [comment_id]), Comment, ["mentions"])
    if not rows:
        raise NotFoundError(
            f"There is no comment {comment_id[:100]!r}.", fix="It may have been deleted.", field="comment"
        )
    return rows[0]


@named_query
def comment_counts(
    db: Queryable, subject_kind: CommentSubjectKind, subject_ids: Collection[str]
) -> dict[str, int]:
    """Return subject_id -> number of comments, for subjects that have any."""
    table = db.query(
        "SELECT subject_id, count(*) AS n FROM comment WHERE subject_kind = ? AND deleted_at IS NULL"
        " AND list_contains(?::VARCHAR[], subject_id) GROUP BY subject_id",
        [subject_kind, list(subject_ids)],
    )
    return dict(zip(table["subject_id"].to_pylist(), table["n"].to_pylist(), strict=True))


# -- writes -----------------------------------------------------------------------------------------


def insert_comment(tx: Transaction, comment: Comment) -> None:
    """Add a comment."""
    row = {**vars(comment), "mentions": to_json(comment.mentions)}
    places = ", ".join(f"${name}" for name in row)
    tx.execute(f"INSERT INTO comment ({', '.join(row)}) VALUES ({places})", row)
    tx.made["comment"].append(comment.comment_id)


def edit_comment(
    tx: Transaction, comment_id: str, text: str, mentions: list[PersonName], at: datetime
) -> None:
    """Change the text of a comment."""
    tx.execute(
        "UPDATE comment SET text = ?, mentions = ?, edited_at = ? WHERE comment_id = ?",
        [text, to_json(mentions), at, comment_id],
    )


def delete_comment(tx: Transaction, comment_id: str, at: datetime) -> None:
    """Mark a comment as deleted and remove its text and mentions."""
    tx.execute(
        "UPDATE comment SET text = '', mentions = '[]', deleted_at = ? WHERE comment_id = ?", [at, comment_id]
    )


_COMMENTS_OF_JOB = """
    (subject_kind IN ('run', 'evaluation') AND subject_id = $id
     OR subject_kind = 'comparison' AND list_contains(string_split(substr(subject_id, 6), ','), $id))"""
_COMMENTS_OF_DATASET = "(subject_kind = 'row' AND starts_with(subject_id, $id || '/'))"


def count_comments_of_job(db: Queryable, job_id: str) -> int:
    """Return the number of comments on a run or an evaluation, and on comparisons with the run."""
    return _count_comments(db, _COMMENTS_OF_JOB, job_id)


def count_comments_of_dataset(db: Queryable, dataset_id: str) -> int:
    """Return the number of comments on rows of a data set."""
    return _count_comments(db, _COMMENTS_OF_DATASET, dataset_id)


def _count_comments(db: Queryable, where: str, subject_id: str) -> int:
    sql = f"SELECT count(*) FROM comment WHERE deleted_at IS NULL AND {where}"
    return int(read_scalar(db.query(sql, {"id": subject_id})))


def forget_comments_of_job(tx: Transaction, job_id: str) -> None:
    """Delete the comments on a run or an evaluation that is deleted, and on comparisons with it."""
    tx.execute(f"DELETE FROM comment WHERE {_COMMENTS_OF_JOB}", {"id": job_id})


def forget_comments_of_dataset(tx: Transaction, dataset_id: str) -> None:
    """Delete the comments on rows of a data set that is deleted."""
    tx.execute(f"DELETE FROM comment WHERE {_COMMENTS_OF_DATASET}", {"id": dataset_id})
