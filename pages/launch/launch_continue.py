"""Where a run begins: at the model as it is, or at what an earlier run on that model left."""

from __future__ import annotations

import streamlit as st

from pages.run_parts import config_fields as fields
from pages.run_parts import run_reads
from store.documents.tables.run import Run

SHOWN = 200  # newest finished runs to choose from
MODES = {"stack": "Train further", "merge": "Merge, train anew"}
ADVICE = {
    "stack": "The same parameters are trained further, with the method and shape that they have.",
    "merge": "The earlier run's changes become a part of the base model, written beside the result.",
}


def draw(notes: dict[str, list[tuple[str, str]]]) -> None:
    """The choice of an earlier run, where there is one on this model, and how to go on from it."""
    chosen = str(st.session_state.get(fields.key("init_from")) or "")
    runs = _runs(str(st.session_state.get(fields.key("model")) or ""))
    if not runs and not chosen:
        return
    options = ["", *runs, *([chosen] if chosen and chosen not in runs else [])]
    st.selectbox(
        "Continue from",
        options,
        format_func=lambda run: _title(runs.get(run), run),
        key=fields.key("init_from"),
        help="Begin at the trained model of an earlier run. It is also what the result is judged against.",
        persist_state="session",
    )
    fields.draw_notes("init_from", notes)
    if not chosen:
        return
    st.segmented_control(
        "How to continue",
        list(MODES),
        format_func=MODES.__getitem__,
        required=True,
        key=fields.key("init_mode"),
        persist_state="session",
        label_visibility="collapsed",
    )
    st.caption(ADVICE[str(st.session_state.get(fields.key("init_mode")) or "stack")])
    fields.draw_notes("init_mode", notes)


def _runs(model: str) -> dict[str, Run]:
    """Finished runs on the model, newest first, by their id."""
    finished = run_reads.newest("", ("finished",), SHOWN)
    return {run["run_id"]: run for run in finished if run["model"] == model}


def _title(run: Run | None, run_id: str) -> str:
    if not run_id:
        return "The model as it is"
    return f"{run['name']} (#{run['number']})" if run else run_id
