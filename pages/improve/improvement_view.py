"""One improvement: its chain while it moves, what became of the rows, and what a person has to do."""

from __future__ import annotations

import streamlit as st

from pages.improve import improve_reads
from pages.improve.chain_steps import Around, job_ids, reached, round_of, steps
from pages.improve.chain_view import draw_chain
from pages.improve.decision_card import draw_decision
from pages.improve.fate_of_rows import draw_fate
from pages.shared import quantities, reads
from pages.shared.session import act, guarded, live, may, plain, redraw, watch_engine
from store.contract.errors import NotFoundError
from store.documents.shipping.version import ModelLine
from store.documents.tables.dataset import Dataset
from store.documents.tables.improvement import AT_WORK, RESUMED, Improvement
from store.words import improvement_words

BADGES = {
    "labelling": "orange",
    "deciding": "orange",
    "promoted": "green",
    "declined": "gray",
    "stopped": "gray",
    "waiting": "orange",
    "failed": "red",
}


def draw_improvement(model: ModelLine, improvement: Improvement) -> None:
    """The whole of it; drawn anew by itself while something works on it."""
    with st.container(border=True, key="improvement"):
        _draw_head(model, improvement)
        moves = improvement["state"] in AT_WORK and improvement["state"] != "deciding"
        live("2s" if moves else None)(_draw_chain)(model, improvement["improvement_id"], improvement["state"])
        if improvement["state"] in RESUMED:
            _draw_trouble(improvement)
        draw_fate(improvement)
    if "gate" in improvement["facts"] and improvement["state"] != "measuring":  # else it is measured anew
        draw_decision(model, improvement)


def badge(improvement: Improvement) -> str:
    """How it stands, in a word."""
    state = improvement["state"]
    return f":{BADGES.get(state, 'blue')}-badge[{improvement_words.STATES[state].title}]"


def _draw_head(model: ModelLine, improvement: Improvement) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"#### {plain(improvement['name'])}", width="stretch")
        st.markdown(badge(improvement), width="content")
        stops = improvement["state"] in (*AT_WORK, *RESUMED) and improvement["state"] != "deciding"
        if stops and may("work"):
            _draw_stop(improvement)
    who = "the schedule" if improvement["scheduled"] else improvement["begun_by_name"]
    holder = improvement["facts"].get("holder")
    whose = f"in place of {holder} as {improvement['alias']}" if holder else f"for {improvement['alias']}"
    moved = improvement_words.moved_sentence(improvement)
    st.caption(plain(f"Begun by {who} {quantities.ago(improvement['begun_at'])}, {whose}. {moved}".strip()))


def _draw_stop(improvement: Improvement) -> None:
    label = "Give it up" if improvement["state"] in RESUMED else "Stop"
    with st.popover(label, icon=":material/stop_circle:", key="improve-stop"):
        st.markdown("What it made so far stays: rows, data, run and version. It is not gone on with.")
        if st.button("Stop this improvement", type="primary", key="improve-stop-sure"):
            body = {"improvement": improvement["improvement_id"]}
            if act("stop_improvement", body, "It is stopped.") is not None:
                st.rerun()


def _draw_chain(model: ModelLine, improvement_id: str, drawn: str) -> None:
    with guarded():
        watch_engine()
        improvement = improve_reads.improvement(improvement_id)
        if improvement["state"] != drawn:
            redraw()
        draw_chain(steps(improvement, around(model, improvement)))


def around(model: ModelLine, improvement: Improvement) -> Around:
    """What it names, where that is still there."""
    facts = improvement["facts"]
    listed = improve_reads.jobs_by_id(job_ids(improvement))
    round_id, round = round_of(improvement), None
    if round_id:
        try:
            round = improve_reads.round_line(round_id)
        except NotFoundError:
            round = None
    return Around(
        model["name"],
        round,
        _dataset(facts.get("rows_dataset_id")),
        _dataset(facts.get("dataset_id")),
        {job["job_id"]: job for job in listed},
    )


def _dataset(dataset_id: str | None) -> Dataset | None:
    try:
        return reads.dataset(dataset_id) if dataset_id else None
    except NotFoundError:
        return None


def _draw_trouble(improvement: Improvement) -> None:
    """Why it failed or waits, what to do, and the way on from the very step."""
    trouble = improvement["trouble"]
    message = trouble["message"] if trouble else "It failed, and left no word of why."
    fix = f"  \n{plain(trouble['fix'])}" if trouble and trouble.get("fix") else ""
    if improvement["state"] == "waiting":
        st.warning(f"{plain(message)}{fix}", icon=":material/hourglass_empty:")
    else:
        st.error(f"{plain(message)}{fix}", icon=":material/error:")
    if not may("work"):
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        if st.button("Go on from here", type="primary", icon=":material/resume:", key="improve-resume"):
            body = {"improvement": improvement["improvement_id"]}
            if act("resume_improvement", body, "It goes on.") is not None:
                st.rerun()
        if improvement["state"] == "failed" and "rows" in improvement["facts"]:
            title = improvement_words.STATES[reached(improvement)].step
            st.caption(f"What was done before “{title}” is kept and not done again.", width="content")
