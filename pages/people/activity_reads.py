"""What the screens read of people: who did what, who made a thing, what was said of it."""

from __future__ import annotations

from typing import Literal

import streamlit as st

from pages.shared import reads
from pages.shared.session import client, current_person, kept_for
from store.documents.tables.activity import Activity, Comment, CommentedKind, PersonName
from store.queries import activity, comments
from store.queries.activity import ActivityFilter

Made = Literal["run", "dataset", "evaluation"]


@kept_for(reads.LIVE, most=64)
def listed(which: ActivityFilter, limit: int, offset: int) -> tuple[int, list[Activity]]:
    """How many lines are meant, and a page of them, newest first."""
    return activity.listed(client(), which, limit=limit, offset=offset)


@kept_for(reads.CALM, most=4)
def people() -> list[PersonName]:
    """Everybody who ever did something."""
    return activity.names(client())


@kept_for(reads.LIVE, most=64)
def comments_on(subject_kind: CommentedKind, subject_id: str) -> list[Comment]:
    """Oldest first."""
    return comments.listed(client(), subject_kind, subject_id)


@kept_for(reads.LIVE, most=64)
def comment_counts(subject_kind: CommentedKind, subject_ids: tuple[str, ...]) -> dict[str, int]:
    """How many there are on each of these that has any."""
    return comments.counts(client(), subject_kind, subject_ids)


@kept_for(reads.CALM, most=16)
def _made_by_others(made: Made, person_id: str) -> bool:
    return activity.made_by_others(client(), made, person_id)


def maker(created_by: str | None) -> str:
    """The name of who made a thing, for a line of facts; empty where it is the person who looks, or nobody
    knows."""
    if created_by is None or created_by == current_person()["person_id"]:
        return ""
    return next((each["name"] for each in people() if each["person_id"] == created_by), "")


def mine_alone(made: Made, key: str) -> str:
    """A switch to one's own things, where others have made some too: the id of the person who looks where it
    is on, else nothing."""
    person_id = current_person()["person_id"]
    if not _made_by_others(made, person_id):
        return ""
    switched = st.toggle("Mine", key=key, bind="query-params", help="Those that you made yourself, alone")
    return person_id if switched else ""
