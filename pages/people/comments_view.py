"""What people say of a run, a row, an evaluation or a comparison: a panel that its page puts below it.

A text is shown as it was written, with its line breaks and never as Markdown or HTML; who is named by @
stands in a chip. What somebody types stays until the engine has it.
"""

from __future__ import annotations

import html

import streamlit as st

from pages.people import activity_reads
from pages.shared import palette, quantities
from pages.shared.session import act, current_person, guarded, live, plain
from store.contract.roles import RIGHTS
from store.documents.tables.activity import Comment, CommentedKind
from store.documents.tables.person import Person
from store.words import mentions

MOST = 10_000  # characters
NAMED = 6  # people that the hint names
NEWEST = 50  # comments that are drawn at first
STYLE = f"""
<style>
.tb-comment {{white-space: pre-wrap; overflow-wrap: anywhere; line-height: 1.5; max-width: 46rem}}
.tb-comment .mention {{padding: .05em .5em; border-radius: 99px;
  background: color-mix(in srgb, {palette.BUSY} 18%, transparent)}}
</style>
"""


@live(None)
def draw(subject_kind: CommentedKind, subject_id: str) -> None:
    """All that was said, oldest first, and the place to say something."""
    with guarded():
        written = activity_reads.comments_on(subject_kind, subject_id)
        person = current_person()
        works = "work" in RIGHTS[person["role"]]
        st.markdown(f"**Comments** ({len(written):,})" if written else "**Comments**")
        if not written:
            st.caption("Nobody has said anything yet." if works else "Nobody has said anything.")
        for comment in _newest(written, f"{subject_kind}-{subject_id}"):
            _draw_comment(comment, person, works=works)
        if works:
            _draw_form(subject_kind, subject_id)


def _newest(written: list[Comment], key: str) -> list[Comment]:
    """The newest of many, until all are asked for."""
    if len(written) <= NEWEST or st.toggle(f"All {len(written):,} comments", key=f"comments-all-{key}"):
        return written
    st.caption(f"The newest {NEWEST} of {len(written):,}.")
    return written[-NEWEST:]


def body(comment: Comment) -> str:
    """The text as HTML, everything in it escaped."""
    parts = [
        html.escape(piece)
        if isinstance(piece, str)
        else f"<span class='mention'>@{html.escape(piece['name'])}</span>"
        for piece in mentions.pieces(comment["text"], comment["mentions"])
    ]
    return f"{STYLE}<div class='tb-comment' dir='auto'>{''.join(parts)}</div>"


def _draw_comment(comment: Comment, person: Person, *, works: bool) -> None:
    comment_id = comment["comment_id"]
    mine = comment["person_id"] == person["person_id"]
    editing = f"comment-editing-{comment_id}"
    with st.container(border=True, gap="xsmall", key=f"comment-{comment_id}"):
        with st.container(horizontal=True, vertical_alignment="center", gap="xsmall"):
            name = "You" if mine else plain(comment["person_name"])
            changed = ", changed" if comment["edited_at"] else ""
            st.markdown(
                f"**{name}** :gray[{quantities.ago(comment['written_at'])}{changed}]", width="stretch"
            )
            if works and mine:
                st.button(
                    "Change", type="tertiary", icon=":material/edit:", key=f"comment-edit-{comment_id}",
                    on_click=_set, args=(editing, True),
                )  # fmt: skip
            if works and (mine or person["role"] == "admin"):
                _draw_delete(comment_id)
        if st.session_state.get(editing):
            _draw_edit(comment, editing)
        else:
            st.html(body(comment))


def _draw_delete(comment_id: str) -> None:
    with st.popover("Delete", type="tertiary", icon=":material/delete:", key=f"comment-gone-{comment_id}"):
        pressed = st.button("Delete this comment", key=f"comment-gone-sure-{comment_id}")
    if pressed and act("delete_comment", {"comment": comment_id}, "The comment is deleted.") is not None:
        st.rerun()


def _draw_edit(comment: Comment, editing: str) -> None:
    comment_id = comment["comment_id"]
    with st.form(f"comment-change-{comment_id}", border=False):
        text = st.text_area("Comment", comment["text"], max_chars=MOST, label_visibility="collapsed")
        with st.container(horizontal=True):
            saved = st.form_submit_button("Save", type="primary", key=f"comment-save-{comment_id}")
            left = st.form_submit_button("Leave it as it was", key=f"comment-leave-{comment_id}")
    if saved and act("edit_comment", {"comment": comment_id, "text": text}) is None:
        return
    if saved or left:
        st.session_state.pop(editing, None)
        st.rerun()


def _draw_form(subject_kind: CommentedKind, subject_id: str) -> None:
    count_key = f"comment-count-{subject_kind}-{subject_id}"  # a new field for each comment, an empty one
    key = f"comment-new-{subject_kind}-{subject_id}-{st.session_state.get(count_key, 0)}"
    with st.form(f"form-{key}", border=False):
        text = st.text_area(
            "Say something", key=key, max_chars=MOST, height=90, label_visibility="collapsed",
            placeholder=_hint(),
        )  # fmt: skip
        pressed = st.form_submit_button("Comment", icon=":material/comment:", key=f"send-{key}")
    if not pressed:
        return
    about = {"subject_kind": subject_kind, "subject_id": subject_id}
    if act("comment", {**about, "text": text}) is not None:
        st.session_state[count_key] = st.session_state.get(count_key, 0) + 1
        st.rerun()


def _hint() -> str:
    others = [
        each["name"] for each in activity_reads.people() if each["person_id"] != current_person()["person_id"]
    ]
    if not others:
        return "What do you see?"
    names = ", ".join(f"@{name}" for name in others[:NAMED])
    return f"What do you see? Name somebody: {names}{' …' if len(others) > NAMED else ''}"


def _set(key: str, value: bool) -> None:
    st.session_state[key] = value
