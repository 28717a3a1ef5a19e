"""Comments on runs, rows, evaluations and comparisons.

A row is named DATASET_ID/ROW_ID, a comparison by its canonical query: `runs=` and the ids in their order, as
the same runs are one comparison whoever chose which first. A deleted comment loses its text and is never
listed; what was commented on takes its comments along when it goes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime
from typing import TYPE_CHECKING

from store.contract.errors import NotFoundError
from store.db.named_query import named_query
from store.db.records import records, scalar, to_json
from store.documents.tables.activity import Comment, CommentedKind, PersonName

if TYPE_CHECKING:
    from store.db.database import Queryable, Transaction

_COLUMNS = (
    "comment_id, subject_kind, subject_id, person_id, person_name, text, mentions, written_at, edited_at"
    " FROM comment"
)


def row_key(dataset_id: str, row_id: int) -> str:
    """How a row is named."""
    return f"{dataset_id}/{row_id}"


def comparison_key(run_ids: Iterable[str]) -> str:
    """How a comparison of these runs is named."""
    return f"runs={','.join(sorted(set(run_ids)))}"


@named_query
def listed(db: Queryable, subject_kind: CommentedKind, subject_id: str) -> list[Comment]:
    """What was said of a thing, oldest first."""
    sql = (
        f"SELECT {_COLUMNS} WHERE subject_kind = ? AND subject_id = ? AND deleted_at IS NULL"
        " ORDER BY written_at, comment_id"
    )
    return records(db.query(sql, [subject_kind, subject_id]), Comment, ["mentions"])


def get(db: Queryable, comment_id: str) -> Comment:
    """Raises NotFoundError, also for one that was deleted."""
    sql = f"SELECT {_COLUMNS} WHERE comment_id = ? AND deleted_at IS NULL"
    rows = records(db.query(sql, [comment_id]), Comment, ["mentions"])
    if not rows:
        raise NotFoundError(
            f"There is no comment {comment_id[:100]!r}.", fix="It may have been deleted.", field="comment"
        )
    return rows[0]


@named_query
def counts(db: Queryable, subject_kind: CommentedKind, subject_ids: Collection[str]) -> dict[str, int]:
    """subject_id -> number of comments, for those that have any."""
    table = db.query(
        "SELECT subject_id, count(*) AS n FROM comment WHERE subject_kind = ? AND deleted_at IS NULL"
        " AND list_contains(?::VARCHAR[], subject_id) GROUP BY subject_id",
        [subject_kind, list(subject_ids)],
    )
    return dict(zip(table["subject_id"].to_pylist(), table["n"].to_pylist(), strict=True))


# -- writes -----------------------------------------------------------------------------------------


def insert(tx: Transaction, comment: Comment) -> None:
    """A new comment."""
    row = {**comment, "mentions": to_json(comment["mentions"])}
    places = ", ".join(f"${name}" for name in row)
    tx.execute(f"INSERT INTO comment ({', '.join(row)}) VALUES ({places})", row)
    tx.made["comment"].append(comment["comment_id"])


def edit(tx: Transaction, comment_id: str, text: str, mentions: list[PersonName], at: datetime) -> None:
    """Another text."""
    tx.execute(
        "UPDATE comment SET text = ?, mentions = ?, edited_at = ? WHERE comment_id = ?",
        [text, to_json(mentions), at, comment_id],
    )


def delete(tx: Transaction, comment_id: str, at: datetime) -> None:
    """Its text goes, and whom it named."""
    tx.execute(
        "UPDATE comment SET text = '', mentions = '[]', deleted_at = ? WHERE comment_id = ?", [at, comment_id]
    )


_OF_JOB = """
    (subject_kind IN ('run', 'evaluation') AND subject_id = $id
     OR subject_kind = 'comparison' AND list_contains(string_split(substr(subject_id, 6), ','), $id))"""
_OF_DATASET = "(subject_kind = 'row' AND starts_with(subject_id, $id || '/'))"


def count_of_job(db: Queryable, job_id: str) -> int:
    """Comments on a run or an evaluation, and on comparisons with the run."""
    return _count(db, _OF_JOB, job_id)


def count_of_dataset(db: Queryable, dataset_id: str) -> int:
    """Comments on rows of a data set."""
    return _count(db, _OF_DATASET, dataset_id)


def _count(db: Queryable, where: str, subject_id: str) -> int:
    sql = f"SELECT count(*) FROM comment WHERE deleted_at IS NULL AND {where}"
    return int(scalar(db.query(sql, {"id": subject_id})))


def forget_job(tx: Transaction, job_id: str) -> None:
    """Of a run or an evaluation that goes: what was said of it, and of comparisons that go with it."""
    tx.execute(f"DELETE FROM comment WHERE {_OF_JOB}", {"id": job_id})


def forget_dataset(tx: Transaction, dataset_id: str) -> None:
    """Of a data set that goes: what was said of its rows."""
    tx.execute(f"DELETE FROM comment WHERE {_OF_DATASET}", {"id": dataset_id})
