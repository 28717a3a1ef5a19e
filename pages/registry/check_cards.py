"""Gate checks as cards: requirement, result, and the evaluations it is based on."""

from __future__ import annotations

import streamlit as st

from pages.shared.session import escape_markdown
from store.registry.schemas import CheckAnswer, CheckReport

CHECK_ANSWERS: dict[CheckAnswer, str] = {
    "passed": ":green-badge[:material/check: Passed]",
    "failed": ":red-badge[:material/close: Failed]",
    "cant_tell": ":orange-badge[:material/help: Inconclusive]",
}


def draw_check(check: CheckReport) -> None:
    """Draw the card of one check."""
    with st.container(border=True, gap="xsmall", key=None):
        draw_title(check)
        st.markdown(escape_markdown(check.sentence))
        if check.command is not None and not check.gather:
            st.code(check.command, language=None)
        draw_evaluations(check)


def draw_title(check: CheckReport) -> None:
    """Draw the requirement and the result."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"**{escape_markdown(check.title)}**", width="stretch")
        st.markdown(CHECK_ANSWERS[check.answer], width="content")


def draw_evaluations(check: CheckReport) -> None:
    """Draw links to the evaluations the result is based on."""
    if not check.evaluations:
        return
    with st.container(horizontal=True, gap="small"):
        for place, evaluation_id in enumerate(check.evaluations):
            label = "Evaluation" if place == 0 else f"Evaluation of {check.other or 'the other'}"
            st.page_link(
                "pages/evaluation/evaluations.py",
                label=escape_markdown(label),
                query_params={"evaluation": evaluation_id},
            )
