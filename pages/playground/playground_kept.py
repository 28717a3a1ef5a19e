"""What people keep of a conversation: test cases, and answers corrected into training rows."""

from __future__ import annotations

from typing import Any

import streamlit as st

from engine.diagnostics.phrasing import plural
from pages.playground import playground_reads
from pages.shared import quantities, reads
from pages.shared.conversation import show_text
from pages.shared.session import act, plain
from store.documents.talk.conversation import KeptRow, Turn

KINDS = {"training": "A training row", "test": "A test case"}
WORDS = {"training": "training rows", "test": "test cases"}
ALONE = "A data set of them alone"


@st.dialog("Keep this answer", width="large")
def keep_dialog(turn: Turn, place: int) -> None:
    """The answer as it should be, and what it is for."""
    answer = next(answer for answer in turn["answers"] if answer["place"] == place)
    st.caption("To:")
    show_text(turn["prompt"], 500)
    kind = st.segmented_control(
        "Keep it as", list(KINDS), default="training", format_func=lambda name: KINDS[name], required=True
    )
    right = st.text_area(
        "The answer as it should be",
        answer["text"],
        height=260,
        help="Change what is wrong. The turns before it are kept with it.",
    )
    st.caption(
        "It waits under **Kept** until you make a data set of what was kept."
        if kind == "training"
        else "It will be in the test part, which no run is trained on."
    )
    if st.button("Keep", type="primary", icon=":material/bookmark_add:"):
        body = {"turn": turn["turn_id"], "place": place, "kind": kind, "answer": right}
        if act("keep_answer", body, "Kept.") is not None:
            st.rerun()


def draw_kept() -> None:
    """What was kept, and what becomes of it."""
    rows = playground_reads.kept_rows()
    if not rows:
        return
    waiting = [row for row in rows if row["dataset_name"] is None]
    with st.expander(
        f"Kept: {plural(len(rows), 'row')}, {len(waiting)} in no data set yet", icon=":material/bookmarks:"
    ):
        for kind in KINDS:
            of_kind = [row for row in waiting if row["kind"] == kind]
            if of_kind:
                _draw_use(kind, len(of_kind))
        for row in rows:
            _draw_row(row)


def _draw_use(kind: str, count: int) -> None:
    """A form that makes a data set of the rows that wait."""
    sets = (
        {row["name"]: row for row in reads.datasets() if row["kind"] == "chat"} if kind == "training" else {}
    )
    with st.form(f"playground-use-{kind}"), st.container(horizontal=True, vertical_alignment="bottom"):
        st.markdown(f"**{count} {WORDS[kind] if count > 1 else WORDS[kind][:-1]}**", width="content")
        into = st.selectbox("Add to", [ALONE, *sets]) if sets else ALONE
        name = st.text_input("Name", placeholder="numbered after the old one" if sets else "")
        if not st.form_submit_button("Make the data set", icon=":material/dataset:"):
            return
    body: dict[str, Any] = {"kind": kind, "name": name}
    if into != ALONE:
        body["dataset"] = sets[into]["dataset_id"]
    if act("use_kept_rows", body, "The data set is being made.") is not None:
        st.rerun()


def _draw_row(row: KeptRow) -> None:
    with st.container(border=True):
        gone = f" · in “{plain(row['dataset_name'])}”" if row["dataset_name"] else ""
        corrected = " · corrected" if row["corrected"] else ""
        who = f"{plain(row['kept_by'])}, {quantities.ago(row['kept_at'])}"
        st.caption(f"{KINDS[row['kind']]}{corrected} · {who}{gone}")
        show_text(row["messages"][-2]["content"], 300)
        show_text(f"→ {row['messages'][-1]['content']}", 600)
        if not row["dataset_name"] and st.button(
            "Forget it", key=f"playground-forget-{row['kept_id']}", icon=":material/delete:"
        ):
            act("forget_kept_row", {"kept": row["kept_id"]}, "Forgotten.")
            st.rerun()
