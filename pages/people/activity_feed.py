"""Activity and comments on a subject: entries with links, its author, and the comment form.

Comments are shown as plain text with their line breaks, never as Markdown or HTML; people mentioned with @
are highlighted. A draft stays until the engine has saved it.
"""

from __future__ import annotations

import html
import re
from typing import Literal

import streamlit as st

from pages.shared import cached_queries, display, palette
from pages.shared.features import list_parts
from pages.shared.session import (
    cached,
    escape_markdown,
    get_client,
    get_current_person,
    live,
    send_command,
    show_errors,
)
from pages.shared.text_display import shorten, shorten_middle
from store.core.formatting import plural
from store.core.rights import RIGHTS
from store.core.schemas import Activity, Comment, CommentSubjectKind, Person, PersonName, SubjectKind
from store.data.schemas import SavedItem
from store.people import activity, activity_text
from store.people.activity import ActivityFilter
from store.people.activity_text import get_action

OwnedKind = Literal["run", "dataset", "evaluation"]


@cached(cached_queries.LIVE, max_entries=64)
def list_activity(which: ActivityFilter, limit: int, offset: int) -> tuple[int, list[Activity]]:
    """Number of matching entries, and a page of them, newest first."""
    return activity.listed(get_client(), which, limit=limit, offset=offset)


@cached(cached_queries.CALM, max_entries=4)
def list_people() -> list[PersonName]:
    """Everyone who ever did something."""
    return activity.names(get_client())


@cached(cached_queries.LIVE, max_entries=64)
def list_comments(subject_kind: CommentSubjectKind, subject_id: str) -> list[Comment]:
    """Comments on a subject, oldest first."""
    return activity.list_comments(get_client(), subject_kind, subject_id)


@cached(cached_queries.LIVE, max_entries=64)
def count_comments(subject_kind: CommentSubjectKind, subject_ids: tuple[str, ...]) -> dict[str, int]:
    """Number of comments on each of these subjects that has any."""
    return activity.comment_counts(get_client(), subject_kind, subject_ids)


@cached(cached_queries.CALM, max_entries=16)
def _has_items_by_others(made: OwnedKind, person_id: str) -> bool:
    return activity.made_by_others(get_client(), made, person_id)


def describe_creator(created_by: str | None) -> str:
    """Return the name of the creator; "" for the current person or if unknown."""
    if created_by is None or created_by == get_current_person().person_id:
        return ""
    return next((each.name for each in list_people() if each.person_id == created_by), "")


def draw_own_items_switch(made: OwnedKind, key: str) -> str:
    """Draw a switch to one's own items if others have created some too.

    Return the id of the current person if it is on, else "".
    """
    person_id = get_current_person().person_id
    if not _has_items_by_others(made, person_id):
        return ""
    switched = st.toggle("Only mine", key=key, bind="query-params", help="Show only items that you created")
    return person_id if switched else ""


def describe_owner(row: SavedItem) -> list[str]:
    """Describe the owner unless it is the current person, and whether others can see the item."""
    if name := describe_creator(row.created_by):
        return [f"by {name}"]
    return [] if row.shared else ["only yours"]


LAST = 5  # entries on the page of a subject
NAME_LENGTH, TEXT_LENGTH = 48, 200  # maximum characters of a subject's name and of a comment
LEADS_ON = re.compile(" (about|as|from|in|into|of|on|to|with)$")  # words before the name: "made a key of"
ABOUT = "about"  # link parameter of the Activity page: kind and id of a subject


def draw_line(line: Activity, *, of_page: bool = False) -> None:
    """Draw one entry. `of_page`: it is on the page of its subject, whose name is omitted."""
    action = get_action(line.command)
    mine = line.person_id == get_current_person().person_id
    who = "You" if mine else escape_markdown(line.person_name)
    with st.container(key=f"activity-line-{line.activity_id}", gap=None):
        with st.container(horizontal=True, vertical_alignment="center", gap="xsmall"):
            words = LEADS_ON.sub("", action.words) if of_page else action.words
            st.markdown(f"{action.icon} **{who}** {words}", width="content")
            if not of_page:
                _draw_subject(line)
            details = [escape_markdown(line.detail)] if line.detail else []
            st.caption(" · ".join([*details, display.format_ago(line.done_at)]), width="content")
        if line.comment and line.command == "comment" and not of_page:
            st.caption(f"“{escape_markdown(shorten(' '.join(line.comment.split()), TEXT_LENGTH))}”")


def _draw_subject(line: Activity) -> None:
    name = escape_markdown(shorten_middle(line.subject_name, NAME_LENGTH))
    link = find_page_link(line.subject_kind, line.subject_id)
    if link is None or not line.present:
        st.markdown(name, width="content")
        return
    page, query = link
    st.page_link(page, label=name, query_params=query, help=escape_markdown(line.subject_name))


def find_page_link(kind: SubjectKind, subject_id: str) -> tuple[str, dict[str, str]] | None:
    """Return the page of a subject and its link parameters; None if it has no page."""
    if kind == "run":
        return "pages/runs/run.py", {"run": subject_id}
    if kind == "dataset":
        return "pages/data/data.py", {"dataset": subject_id}
    if kind == "evaluation":
        return "pages/evaluation/evaluations.py", {"evaluation": subject_id}
    if kind == "row":
        dataset_id, _, row_id = subject_id.rpartition("/")
        return "pages/data/data.py", {"dataset": dataset_id, "row": row_id}
    if kind == "comparison":
        return "pages/comparison/compare.py", {"runs": subject_id.removeprefix("runs=")}
    page = next(iter(list_parts(lambda feature: feature.subject_pages.get(kind))), "")
    return (page, {kind: subject_id}) if page else None


def draw_recent_activity(kind: SubjectKind, subject_id: str) -> None:
    """Draw the last entries about one subject, and a link to all of them."""
    which = ActivityFilter(subject_kind=kind, subject_id=subject_id)
    total, lines = list_activity(which, LAST, 0)
    st.markdown("**Activity**")
    if not lines:
        st.caption("No activity: created before the activity log, or never changed.")
        return
    for line in lines:
        draw_line(line, of_page=True)
    if total > len(lines):
        st.page_link(
            "pages/people/activity.py",
            label=f"All {plural(total, 'line')}",
            icon=":material/history:",
            query_params={ABOUT: f"{kind}:{subject_id}"},
        )


MAX_CHARACTERS = 10_000  # characters
NAMED = 6  # maximum people named in the placeholder
NEWEST = 50  # comments drawn by default
STYLE = f"""
<style>
.tb-comment {{white-space: pre-wrap; overflow-wrap: anywhere; line-height: 1.5; max-width: 46rem}}
.tb-comment .mention {{padding: .05em .5em; border-radius: 99px;
  background: color-mix(in srgb, {palette.BUSY} 18%, transparent)}}
</style>
"""


@live(None)
def draw_comments(subject_kind: CommentSubjectKind, subject_id: str) -> None:
    """Draw the comments, oldest first, and the form for a new one."""
    with show_errors():
        written = list_comments(subject_kind, subject_id)
        person = get_current_person()
        works = "work" in RIGHTS[person.role]
        st.markdown(f"**Comments** ({len(written):,})" if written else "**Comments**")
        if not written:
            st.caption("No comments yet. Write the first one below." if works else "No comments.")
        for comment in _choose_newest(written, f"{subject_kind}-{subject_id}"):
            _draw_comment(comment, person, works=works)
        if works:
            _draw_form(subject_kind, subject_id)


def _choose_newest(written: list[Comment], key: str) -> list[Comment]:
    """Return the newest comments, or all of them on request."""
    if len(written) <= NEWEST or st.toggle(f"All {len(written):,} comments", key=f"comments-all-{key}"):
        return written
    st.caption(f"The newest {NEWEST} of {len(written):,}.")
    return written[-NEWEST:]


def render_comment(comment: Comment) -> str:
    """Render the comment as HTML, escaped."""
    parts = [
        html.escape(piece)
        if isinstance(piece, str)
        else f"<span class='mention'>@{html.escape(piece.name)}</span>"
        for piece in activity_text.split_mentions(comment.text, comment.mentions)
    ]
    return f"{STYLE}<div class='tb-comment' dir='auto'>{''.join(parts)}</div>"


def _draw_comment(comment: Comment, person: Person, *, works: bool) -> None:
    comment_id = comment.comment_id
    mine = comment.person_id == person.person_id
    editing = f"comment-editing-{comment_id}"
    with st.container(border=True, gap="xsmall", key=f"comment-{comment_id}"):
        with st.container(horizontal=True, vertical_alignment="center", gap="xsmall"):
            name = "You" if mine else escape_markdown(comment.person_name)
            changed = ", edited" if comment.edited_at else ""
            st.markdown(
                f"**{name}** :gray[{display.format_ago(comment.written_at)}{changed}]", width="stretch"
            )
            if works and mine:
                st.button(
                    "Edit", type="tertiary", icon=":material/edit:", key=f"comment-edit-{comment_id}",
                    on_click=_set_state, args=(editing, True),
                )  # fmt: skip
            if works and (mine or person.role == "admin"):
                _draw_delete(comment_id)
        if st.session_state.get(editing):
            _draw_edit(comment, editing)
        else:
            st.html(render_comment(comment))


def _draw_delete(comment_id: str) -> None:
    with st.popover("Delete", type="tertiary", icon=":material/delete:", key=f"comment-gone-{comment_id}"):
        pressed = st.button("Delete this comment", key=f"comment-gone-sure-{comment_id}")
    if pressed and send_command("delete_comment", {"comment": comment_id}, "Comment deleted.") is not None:
        st.rerun()


def _draw_edit(comment: Comment, editing: str) -> None:
    comment_id = comment.comment_id
    with st.form(f"comment-change-{comment_id}", border=False):
        text = st.text_area("Comment", comment.text, max_chars=MAX_CHARACTERS, label_visibility="collapsed")
        with st.container(horizontal=True):
            saved = st.form_submit_button("Save", type="primary", key=f"comment-save-{comment_id}")
            left = st.form_submit_button("Cancel", key=f"comment-leave-{comment_id}")
    if saved and send_command("edit_comment", {"comment": comment_id, "text": text}) is None:
        return
    if saved or left:
        st.session_state.pop(editing, None)
        st.rerun()


def _draw_form(subject_kind: CommentSubjectKind, subject_id: str) -> None:
    count_key = f"comment-count-{subject_kind}-{subject_id}"  # gives every comment a new, empty field
    key = f"comment-new-{subject_kind}-{subject_id}-{st.session_state.get(count_key, 0)}"
    with st.form(f"form-{key}", border=False):
        text = st.text_area(
            "Add a comment", key=key, max_chars=MAX_CHARACTERS, height=90, label_visibility="collapsed",
            placeholder=_describe_mentions(),
        )  # fmt: skip
        pressed = st.form_submit_button("Comment", icon=":material/comment:", key=f"send-{key}")
    if not pressed:
        return
    about = {"subject_kind": subject_kind, "subject_id": subject_id}
    if send_command("comment", {**about, "text": text}) is not None:
        st.session_state[count_key] = st.session_state.get(count_key, 0) + 1
        st.rerun()


def _describe_mentions() -> str:
    others = [each.name for each in list_people() if each.person_id != get_current_person().person_id]
    if not others:
        return "Write a comment"
    names = ", ".join(f"@{name}" for name in others[:NAMED])
    return f"Write a comment. Mention people with {names}{' …' if len(others) > NAMED else ''}"


def _set_state(key: str, value: bool) -> None:
    st.session_state[key] = value
