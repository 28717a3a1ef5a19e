"""Choosing the runs to compare, among thousands: a search fills the list, the link holds the choice."""

from __future__ import annotations

import streamlit as st

from pages.run_parts import run_reads
from pages.shared import reads
from pages.shared.session import show_error
from store.contract.errors import NotFoundError
from store.documents.tables.run import Run

LISTED = 50  # runs that the list offers at a time
MOST = 16  # runs on one chart
KEY = "compare-runs"
LINK = "compare-link"


def pick_runs() -> list[str]:
    """Ids of the chosen runs; the choice is written into the link."""
    if not reads.run_count("", ()):
        return []
    _follow_link()
    left, right = st.columns([1, 3], vertical_alignment="bottom")
    with left:
        typed = st.text_input(
            "Find runs",
            key="compare-search",
            type="search",
            live="300ms",
            placeholder="Name, notes, data set, model",
            icon=":material/search:",
        )
    search = (typed or "").strip()
    matching = run_reads.newest(search, (), LISTED)
    total = reads.run_count(search, ())
    chosen = list(st.session_state.get(KEY, []))
    names = {run["run_id"]: f"#{run['number']} {run['name']}" for run in [*matching, *_existing(chosen)]}
    with right:
        picked: list[str] = st.multiselect(
            f"Runs to compare, at most {MOST}",
            list(names),
            key=KEY,
            format_func=lambda run_id: names.get(run_id, run_id),
            max_selections=MOST,
            placeholder="Choose runs",
            persist_state="page",
        )
    if total > len(matching):
        st.caption(f"The list offers the newest {len(matching)} of {total:,} runs; search to find others.")
    link = ",".join(picked)
    st.session_state[LINK] = link
    if st.query_params.get("runs", "") != link:
        if link:
            st.query_params["runs"] = link
        else:
            st.query_params.pop("runs", None)
    return picked


def _follow_link() -> None:
    """Take over the choice of a link that was opened, and of runs that are gone keep nothing."""
    link = st.query_params.get("runs", "")
    if link and link != st.session_state.get(LINK):
        asked = list(dict.fromkeys(part for part in link.split(",") if part))
        existing = {run["run_id"] for run in _existing(asked)}
        missing = [run_id for run_id in asked if run_id not in existing]
        if missing:
            show_error(
                NotFoundError(f"There is no run {', '.join(missing)}.", fix="It may have been deleted.")
            )
        st.session_state[KEY] = [run_id for run_id in asked if run_id in existing][:MOST]
        if len(asked) - len(missing) > MOST:
            st.caption(f"The first {MOST} of {len(asked) - len(missing)} runs are compared.")


def _existing(run_ids: list[str]) -> list[Run]:
    """Those of the runs that exist, in the order asked for."""
    try:
        return list(run_reads.runs_by_id(tuple(run_ids)).values()) if run_ids else []
    except NotFoundError:
        return [run for run_id in run_ids for run in _existing_run(run_id)]


def _existing_run(run_id: str) -> list[Run]:
    try:
        return list(run_reads.runs_by_id((run_id,)).values())
    except NotFoundError:
        return []


def chosen(run_ids: list[str]) -> list[Run]:
    """The runs as they are now."""
    return _existing(run_ids)


def draw_empty() -> None:
    """Nothing is chosen yet."""
    if not reads.run_count("", ()):
        st.markdown("There is no run to compare yet.")
        st.page_link("pages/overview/overview.py", label="Start one", icon=":material/play_arrow:")
        return
    st.caption("Choose two runs or more. Their curves, numbers and settings come side by side.")
