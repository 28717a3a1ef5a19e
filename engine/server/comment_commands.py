"""Commands for comments on runs, rows, evaluations and comparisons.

@names are resolved when a comment is written, with the names at that time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from pydantic import Field

from engine.server.command import ActivitySubject, Command
from store.core.config import Config
from store.core.errors import ConfigError, ForbiddenError, NotFoundError
from store.core.schemas import Comment, CommentSubjectKind, CreatedComment, Person
from store.data import datasets
from store.db.database import Database, Queryable
from store.evaluation import evaluations
from store.http.schemas import EmptyAnswer
from store.jobs import job_queue
from store.people import activity, activity_text
from store.runs import runs

MAX_CHARACTERS = 10_000  # maximum length of a comment
Text = Annotated[str, Field(min_length=1, max_length=MAX_CHARACTERS)]


class NewComment(Config):
    """Body of `comment`.

    subject_id: id of a run or an evaluation; DATASET_ID/ROW_ID of a row; `runs=` and the ids of the runs of a
    comparison.
    """

    subject_kind: CommentSubjectKind
    subject_id: str
    text: Text


class CommentEdit(Config):
    comment: str
    text: Text


class CommentName(Config):
    comment: str


class CommentCommands:
    """Comment commands of one store."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self.database, self.clock = database, clock

    def table(self) -> dict[str, Command]:
        """Return the commands by name."""
        return {
            "comment": Command(NewComment, self.comment, _find_commented_subject, by_person=True),
            "edit_comment": Command(CommentEdit, self.edit_comment, _find_comment_subject, by_person=True),
            "delete_comment": Command(
                CommentName, self.delete_comment, _find_comment_subject, by_person=True
            ),
        }

    def comment(self, body: NewComment, person: Person) -> CreatedComment:
        """Add a comment to an existing subject."""
        at = self.clock()
        comment_id = job_queue.create_id("comment", at)
        with self.database.transaction() as tx:
            subject = _find_commented_subject(tx, body, person)
            new = Comment(
                comment_id=comment_id,
                subject_kind=body.subject_kind,
                subject_id=subject.id,
                person_id=person.person_id,
                person_name=person.name,
                text=body.text,
                mentions=activity_text.resolve_mentions(body.text, activity.names(tx)),
                written_at=job_queue.to_utc(at),
                edited_at=None,
            )
            activity.insert_comment(tx, new)
        return {"comment_id": comment_id}

    def edit_comment(self, body: CommentEdit, person: Person) -> EmptyAnswer:
        """Change the text of one's own comment."""
        with self.database.transaction() as tx:
            comment = activity.get_comment(tx, body.comment)
            if comment.person_id != person.person_id:
                raise ForbiddenError(
                    f"The comment is by {comment.person_name}, who alone can change it.",
                    fix="Write one of your own.",
                )
            resolved = activity_text.resolve_mentions(body.text, activity.names(tx))
            activity.edit_comment(tx, body.comment, body.text, resolved, job_queue.to_utc(self.clock()))
        return {}

    def delete_comment(self, body: CommentName, person: Person) -> EmptyAnswer:
        """Delete one's own comment; an admin can delete any."""
        with self.database.transaction() as tx:
            comment = activity.get_comment(tx, body.comment)
            if comment.person_id != person.person_id and person.role != "admin":
                raise ForbiddenError(
                    f"The comment is {comment.person_name}’s.", fix="Ask them, or an admin, to delete it."
                )
            activity.delete_comment(tx, body.comment, job_queue.to_utc(self.clock()))
        return {}


def _find_commented_subject(db: Queryable, body: NewComment, _: Person) -> ActivitySubject:
    """Return the subject of a comment. Raises NotFoundError, ConfigError (subject_id)."""
    return _find_subject(db, body.subject_kind, body.subject_id)


def _find_comment_subject(db: Queryable, body: CommentEdit | CommentName, _: Person) -> ActivitySubject:
    comment = activity.get_comment(db, body.comment)
    subject = _find_subject(db, comment.subject_kind, comment.subject_id)
    return subject._replace(comment_id=comment.comment_id)


def _find_subject(db: Queryable, kind: CommentSubjectKind, subject_id: str) -> ActivitySubject:
    if kind == "run":
        run = runs.get_only_run(db, subject_id)
        return ActivitySubject("run", run.run_id, run.name)
    if kind == "evaluation":
        evaluation = evaluations.get(db, subject_id)
        return ActivitySubject("evaluation", evaluation.evaluation_id, evaluation.name)
    if kind == "row":
        return _find_row_subject(db, subject_id)
    return _find_comparison_subject(db, subject_id)


def _find_row_subject(db: Queryable, subject_id: str) -> ActivitySubject:
    name, _, number = subject_id.rpartition("/")
    dataset = datasets.get_dataset(db, name)
    if not number.isdecimal() or len(number) > 18 or int(number) >= dataset.row_count:
        raise NotFoundError(
            f"{dataset.name} has no row {number!r}; it has {dataset.row_count:,} rows.",
            field="subject_id",
        )
    row_id = int(number)
    key = activity.format_row_key(dataset.dataset_id, row_id)
    return ActivitySubject("row", key, f"row {row_id:,} of {dataset.name}")


def _find_comparison_subject(db: Queryable, subject_id: str) -> ActivitySubject:
    names = [name for name in subject_id.removeprefix("runs=").split(",") if name]
    if not subject_id.startswith("runs=") or len(set(names)) < 2:
        raise ConfigError(
            f"{subject_id!r} is not a comparison.",
            fix="Give runs= and the ids of its runs.",
            field="subject_id",
        )
    compared = runs.get_runs(db, sorted(set(names)))
    return ActivitySubject(
        "comparison",
        activity.format_comparison_key(names),
        " against ".join(run.name for run in compared[:3])
        + (f" and {len(compared) - 3} more" if len(compared) > 3 else ""),
    )
