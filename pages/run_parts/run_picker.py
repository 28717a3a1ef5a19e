"""Choosing a run where the link names none: a search and the newest runs, a page at a time."""

from __future__ import annotations

import streamlit as st

from engine.diagnostics.phrasing import plural
from pages.run_parts import run_reads
from pages.run_parts.chips import chip_link, status_badge
from pages.shared import quantities, reads, wording
from pages.shared.session import is_for_members, may
from pages.shared.tabs import BETWEEN, asked_tab
from store.documents.tables.run import Run

SHOWN = 15


def choose_run() -> None:
    """The page without a run. Where the link leads to models between a run and its base, those runs are
    listed that may have some."""
    st.title("Which run?", anchor=False)
    between = asked_tab() == BETWEEN
    statuses = ("finished",) if between else ()
    if not reads.run_count("", statuses):
        _draw_none(between)
        return
    if between:
        st.markdown(
            "Between a run's base model and the tuned one lie others, which need no training: with a part"
            " of the tuning they keep a part of the gain and forget less. Choose a run to see which are"
            " worth it."
        )
    search = st.text_input(
        "Search runs",
        key="run-search",
        type="search",
        live="300ms",
        placeholder="Search name, notes, data set, model",
        label_visibility="collapsed",
        icon=":material/search:",
    )
    runs = run_reads.newest((search or "").strip(), statuses, SHOWN)
    matching = reads.run_count((search or "").strip(), statuses)
    mixed = run_reads.mixed()
    for run in runs:
        _draw_run(run, BETWEEN if between else "", mixed=run["run_id"] in mixed)
    st.caption(f"{len(runs)} of {plural(matching, 'run')}, newest first.")


def _draw_none(between: bool) -> None:
    if between:
        st.markdown("No run has finished yet. A finished run can be mixed with its base model here.")
        if may("work") and st.button(
            "Launch a run", type="primary", icon=":material/rocket_launch:", key="mix-launch"
        ):
            st.switch_page("pages/launch/launch.py")
        return
    if not is_for_members("launch the first run; what it does and comes to is then seen here"):
        return
    st.markdown("There is no run yet. The first one is a click away.")
    with st.container(horizontal=True):
        st.page_link(
            "pages/overview/overview.py", label="Run the sample experiment", icon=":material/play_arrow:"
        )
        st.page_link("pages/launch/launch.py", label="Set up a run yourself", icon=":material/tune:")


def _draw_run(run: Run, tab: str, *, mixed: bool) -> None:
    with st.container(border=True, horizontal=True, vertical_alignment="center"):
        chip_link(run, tab)
        st.markdown(status_badge(run["status"]), width="content")
        scored = " · shares scored" if mixed else ""
        st.caption(f"{quantities.ago(run['created_at'])}{scored}", width="stretch")
        if run["verdict"]:
            st.markdown(f"gain {wording.estimate(run['verdict']['gain'])}", width="content")
        elif run["best_eval_loss"] is not None:
            change = wording.transition(run["base_eval_loss"], run["best_eval_loss"])
            st.markdown(f"validation loss {change}", width="content")
