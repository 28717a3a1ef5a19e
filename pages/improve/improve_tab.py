"""The tab "Improve" of a model: the improvement under way or of the link, the form that begins one, past ones
and the schedule."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from pages.improve import improve_reads
from pages.improve.begin_form import draw_form
from pages.improve.improvement_view import draw_improvement
from pages.improve.past_list import draw_list
from pages.improve.row_sources import KINDS, serving
from pages.improve.schedule_view import draw_schedule
from pages.run_parts.improve_link import IMPROVEMENT
from pages.shared.session import may, plain, show_error
from store.contract.errors import NotFoundError
from store.documents.shipping.version import ModelLine
from store.documents.tables.improvement import AT_WORK, Improvement
from store.words.endpoint_words import feedback_example

WHAT = (
    "What people corrected or labelled in use becomes rows: most are trained on together with the old ones,"
    " the others judge. The new version is measured beside the one in use on old and new rows, and **you**"
    " decide whether it takes its place."
)


def draw_improve(model: ModelLine) -> None:
    """The tab."""
    listed = improve_reads.of_model(model["model_id"])
    if asked := st.query_params.get(IMPROVEMENT, ""):
        _draw_back(model)
        chosen = _asked(model, asked)
        if chosen is not None:
            draw_improvement(model, chosen)
            return
    current = next((line for line in listed if line["state"] in AT_WORK), None)
    waits = next((line for line in listed[:1] if line["state"] == "waiting"), None)
    if (top := current or waits) is not None:
        draw_improvement(model, top)
    if not improve_reads.aliases(model["model_id"]):
        _draw_no_alias(model)
        return
    _draw_begin(model, listed, current)
    draw_schedule(model, listed)
    if listed:
        draw_list(model, listed)


def _asked(model: ModelLine, asked: str) -> Improvement | None:
    try:
        chosen = improve_reads.improvement(asked)
    except NotFoundError as error:
        show_error(error)
        return None
    if chosen["model_id"] != model["model_id"]:
        show_error(NotFoundError(f"The improvement {chosen['name']!r} is of another model."))
        return None
    return chosen


def _draw_back(model: ModelLine) -> None:
    pressed = st.button(
        f"All improvements of {plain(model['name'])}", type="tertiary", icon=":material/arrow_back:",
        key="improve-back",
    )  # fmt: skip
    if pressed:
        st.query_params.pop(IMPROVEMENT, None)
        st.rerun()


def _draw_no_alias(model: ModelLine) -> None:
    st.markdown(WHAT)
    st.markdown(
        "First a version has to be in use: take one to **production**, or another alias, by its gate."
    )
    if may("work") and st.button(
        "Take a version to production", type="primary", icon=":material/verified:", key="improve-first"
    ):
        st.query_params.from_dict({"model": model["name"], "tab": "gate"})
        st.rerun()


def _draw_begin(model: ModelLine, listed: Sequence[Improvement], current: Improvement | None) -> None:
    asked = any(st.query_params.get(kind) for kind in KINDS)
    if not may("work"):
        if not listed:
            st.markdown(WHAT)
            st.caption("A member can begin one.")
        return
    if current is not None and not _is_free(model, listed):
        st.caption(f"The next one can begin once {plain(current['name'])} is decided on or stopped.")
        return
    if current is not None or (listed and not asked):
        title = "Begin another improvement" if listed else "Begin an improvement"
        with st.expander(title, icon=":material/add:", expanded=asked and current is None):
            draw_form(model, listed)
        return
    st.markdown(WHAT)
    if not listed and not asked and not improve_reads.returned(model["name"], None):
        _draw_nothing_back(model)
    with st.container(border=True, key="improve-form"):
        draw_form(model, listed)


def _is_free(model: ModelLine, listed: Sequence[Improvement]) -> bool:
    """Whether a version has an alias that no improvement is under way for."""
    taken = {line["alias"] for line in listed if line["state"] in AT_WORK}
    return any(line["alias"] not in taken for line in improve_reads.aliases(model["model_id"]))


def _draw_nothing_back(model: ModelLine) -> None:
    """How answers are corrected or labelled, where nobody has."""
    with st.container(border=True, key="improve-nothing"):
        st.markdown(":material/inbox: **Nothing came back yet.** There are three ways to change that:")
        st.markdown(
            "- Callers send what would have been right, with the `id` of the answer, at any later time:"
        )
        st.code(feedback_example(_address(model)), language="bash", wrap_lines=True)
        st.markdown("- People label or correct answers in a rating round.")
        st.markdown("- Rows that you have already: take them from a data set, below.")
        with st.container(horizontal=True):
            st.page_link("pages/monitor/monitor.py", label="See what is asked", icon=":material/monitoring:")
            st.page_link(
                "pages/rating/rating.py", label="Start a rating round", icon=":material/rate_review:"
            )


def _address(model: ModelLine) -> str:
    names = serving(model)
    for seen in improve_reads.endpoints():
        if seen["endpoint_id"] in names and seen["state"]:
            return seen["state"]["address"]
    return "http://127.0.0.1:8600"
