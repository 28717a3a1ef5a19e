"""One check of a gate as a card: its answer, the sentence with its interval, and what it rests on."""

from __future__ import annotations

import streamlit as st

from pages.shared.session import plain
from store.documents.shipping.gate import CheckAnswer, CheckReport

ANSWERS: dict[CheckAnswer, str] = {
    "passed": ":green-badge[:material/check: Passed]",
    "failed": ":red-badge[:material/close: Failed]",
    "cant_tell": ":orange-badge[:material/help: Can't be told]",
}


def draw_check(check: CheckReport) -> None:
    """The card."""
    with st.container(border=True, gap="xsmall", key=None):
        draw_title(check)
        st.markdown(plain(check["sentence"]))
        if "command" in check and not check.get("gather"):
            st.code(check["command"], language=None)
        draw_evaluations(check)


def draw_title(check: CheckReport) -> None:
    """What is asked, and the answer."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"**{plain(check['title'])}**", width="stretch")
        st.markdown(ANSWERS[check["answer"]], width="content")


def draw_evaluations(check: CheckReport) -> None:
    """Links to the evaluations that it rests on."""
    if not check["evaluations"]:
        return
    with st.container(horizontal=True, gap="small"):
        for place, evaluation_id in enumerate(check["evaluations"]):
            label = "Its evaluation" if place == 0 else f"That of {check['other'] or 'the other'}"
            st.page_link(
                "pages/evaluations/evaluations.py",
                label=plain(label),
                query_params={"evaluation": evaluation_id},
            )
