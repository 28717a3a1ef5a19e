"""Lines of the activity: who did what to which thing and when, with a link where the thing is still there."""

from __future__ import annotations

import re

import streamlit as st

from engine.diagnostics.phrasing import plural
from pages.people import activity_reads
from pages.shared import quantities
from pages.shared.conversation import shortened, shortened_middle
from pages.shared.session import current_person, plain
from store.catalog.actions import action_of
from store.documents.tables.activity import Activity, SubjectKind
from store.queries.activity import ActivityFilter

LAST = 5  # lines on the page of a thing
NAME_LENGTH, TEXT_LENGTH = 48, 200  # characters of a subject's name, and of a comment
LEADS_ON = re.compile(" (about|as|from|in|into|of|on|to|with)$")  # to the name: "made a key of"
ABOUT = "about"  # in the link of the activity: kind and id of one thing


def draw_line(line: Activity, *, of_page: bool = False) -> None:
    """`of_page`: on the page of the thing itself, which needs no name there."""
    action = action_of(line["command"])
    mine = line["person_id"] == current_person()["person_id"]
    who = "You" if mine else plain(line["person_name"])
    with st.container(key=f"activity-line-{line['activity_id']}", gap=None):
        with st.container(horizontal=True, vertical_alignment="center", gap="xsmall"):
            words = LEADS_ON.sub("", action.words) if of_page else action.words
            st.markdown(f"{action.icon} **{who}** {words}", width="content")
            if not of_page:
                _draw_subject(line)
            details = [plain(line["detail"])] if line["detail"] else []
            st.caption(" · ".join([*details, quantities.ago(line["done_at"])]), width="content")
        if line["comment"] and line["command"] == "comment" and not of_page:
            st.caption(f"“{plain(shortened(' '.join(line['comment'].split()), TEXT_LENGTH))}”")


def _draw_subject(line: Activity) -> None:
    name = plain(shortened_middle(line["subject_name"], NAME_LENGTH))
    link = link_of(line["subject_kind"], line["subject_id"])
    if link is None or not line["present"]:
        st.markdown(name, width="content")
        return
    page, query = link
    st.page_link(page, label=name, query_params=query, help=plain(line["subject_name"]))


def link_of(kind: SubjectKind, subject_id: str) -> tuple[str, dict[str, str]] | None:
    """The page that shows a thing, and its link; None for what has no page of its own."""
    if kind == "run":
        return "pages/run/run.py", {"run": subject_id}
    if kind == "dataset":
        return "pages/data/data.py", {"dataset": subject_id}
    if kind == "evaluation":
        return "pages/evaluations/evaluations.py", {"evaluation": subject_id}
    if kind == "round":
        return "pages/rating/rating.py", {"round": subject_id}
    if kind == "endpoint":
        return "pages/endpoints/endpoints.py", {"endpoint": subject_id}
    if kind == "model":
        return "pages/models/models.py", {"model": subject_id}
    if kind == "row":
        dataset_id, _, row_id = subject_id.rpartition("/")
        return "pages/data/data.py", {"dataset": dataset_id, "row": row_id}
    if kind == "comparison":
        return "pages/compare/compare.py", {"runs": subject_id.removeprefix("runs=")}
    return None


def draw_last(kind: SubjectKind, subject_id: str) -> None:
    """What was done to one thing last, and the way to all of it."""
    which = ActivityFilter(subject_kind=kind, subject_id=subject_id)
    total, lines = activity_reads.listed(which, LAST, 0)
    st.markdown("**Activity**")
    if not lines:
        st.caption("Nothing is recorded: it is older than the activity, or nobody has touched it.")
        return
    for line in lines:
        draw_line(line, of_page=True)
    if total > len(lines):
        st.page_link(
            "pages/activity/activity.py",
            label=f"All {plural(total, 'line')}",
            icon=":material/history:",
            query_params={ABOUT: f"{kind}:{subject_id}"},
        )
