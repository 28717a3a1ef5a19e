"""Choosing a run where the link names none: a search and the newest runs, a page at a time."""

from __future__ import annotations

import streamlit as st

from engine.diagnostics.phrasing import plural
from pages.run_parts.chips import chip_link, gain_text, status_badge
from pages.shared import quantities, reads, wording

SHOWN = 15


def choose_run() -> None:
    """The page without a run."""
    st.title("Which run?", anchor=False)
    total = reads.run_count("", ())
    if not total:
        st.markdown("There is no run yet. The first one is a click away.")
        with st.container(horizontal=True):
            st.page_link(
                "pages/overview/overview.py", label="Run the sample experiment", icon=":material/play_arrow:"
            )
            st.page_link("pages/launch/launch.py", label="Set up a run yourself", icon=":material/tune:")
        return
    search = st.text_input(
        "Search runs",
        key="run-search",
        type="search",
        live="300ms",
        placeholder="Search name, notes, data set, model",
        label_visibility="collapsed",
        icon=":material/search:",
    )
    found = reads.runs((search or "").strip(), (), SHOWN, 0)
    matching = reads.run_count((search or "").strip(), ())
    for run in found:
        with st.container(border=True, horizontal=True, vertical_alignment="center"):
            chip_link(run)
            st.markdown(status_badge(run["status"]), width="content")
            st.caption(f"{quantities.ago(run['created_at'])}", width="stretch")
            if run["verdict"]:
                st.markdown(f"gain {gain_text(run['verdict'])}", width="content")
            elif run["best_eval_loss"] is not None:
                change = wording.transition(run["base_eval_loss"], run["best_eval_loss"])
                st.markdown(f"validation loss {change}", width="content")
    st.caption(f"{len(found)} of {plural(matching, 'run')}, newest first.")
