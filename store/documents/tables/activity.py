"""Who did what: rows of the activity, comments, and the people that they name."""

from __future__ import annotations

from datetime import datetime
from typing import Literal, TypedDict

CommentedKind = Literal["run", "row", "evaluation", "comparison"]
SubjectKind = Literal[
    "run",
    "dataset",
    "row",
    "evaluation",
    "comparison",
    "round",
    "recipe",
    "slice",
    "setting",
    "job",
    "person",
    "conversation",
    "model",
    "endpoint",
]


class PersonName(TypedDict):
    """A person by the newest name."""

    person_id: str
    name: str


class NewActivity(TypedDict):
    """What a command did, as it is recorded."""

    done_at: datetime  # naive UTC
    person_id: str
    person_name: str  # as it was, as is the subject's
    command: str  # of store.catalog.actions
    subject_kind: SubjectKind
    subject_id: str
    subject_name: str
    detail: str  # a few words, or none
    comment_id: str | None  # of a comment on the subject; null for all else


class Activity(NewActivity):
    """A row of the activity as it is listed."""

    activity_id: int
    present: bool  # the subject is still there
    comment: str | None  # the comment's text as it is now; null where there is none, or it was deleted


class Comment(TypedDict):
    """A comment that was not deleted."""

    comment_id: str
    subject_kind: CommentedKind
    subject_id: str
    person_id: str
    person_name: str  # as it was
    text: str  # plain, with line breaks
    mentions: list[PersonName]  # whom it names by @, as they were resolved when it was written
    written_at: datetime  # naive UTC
    edited_at: datetime | None


class CommentAdded(TypedDict):
    """The answer of `comment`."""

    comment_id: str
