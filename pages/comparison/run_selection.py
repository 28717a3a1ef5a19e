"""The selection of runs to compare, kept in the link (`?runs=a,b,c`) and shared by all tabs of the page."""

from __future__ import annotations

import streamlit as st

from pages.shared import cached_queries, run_queries
from pages.shared.session import show_error
from store.core.errors import NotFoundError
from store.runs.schemas import Run

LISTED_RUNS = 50  # runs listed at a time
MAX_RUNS = 16  # maximum runs on one chart
KEY = "compare-runs"
LINK = "compare-link"


def pick_runs() -> list[str]:
    """Draw the run selector, keep its selection in the link, and return the ids of the selected runs."""
    if not cached_queries.count_runs("", ()):
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
    matching = cached_queries.list_run_choices(search, (), LISTED_RUNS)
    total = cached_queries.count_runs(search, ())
    chosen = list(st.session_state.get(KEY, []))
    names = {run.run_id: f"#{run.number} {run.name}" for run in matching}
    names |= {run.run_id: f"#{run.number} {run.name}" for run in find_existing_runs(chosen)}
    with right:
        picked: list[str] = st.multiselect(
            f"Runs to compare, at most {MAX_RUNS}",
            list(names),
            key=KEY,
            format_func=lambda run_id: names.get(run_id, run_id),
            max_selections=MAX_RUNS,
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


def draw_empty(next_step: str) -> None:
    """Draw what to do without a selection: `next_step`, or the way to a first run."""
    if not cached_queries.count_runs("", ()):
        st.markdown("No runs to compare yet. Launch two runs on the same data set to compare them.")
        st.page_link("pages/overview/overview.py", label="Launch a run", icon=":material/play_arrow:")
        return
    st.caption(next_step)


def _follow_link() -> None:
    """Apply the selection of a newly opened link, without runs that no longer exist."""
    link = st.query_params.get("runs", "")
    if link and link != st.session_state.get(LINK):
        asked = list(dict.fromkeys(part for part in link.split(",") if part))
        existing = {run.run_id for run in find_existing_runs(asked)}
        missing = [run_id for run_id in asked if run_id not in existing]
        if missing:
            show_error(
                NotFoundError(f"There is no run {', '.join(missing)}.", fix="It may have been deleted.")
            )
        st.session_state[KEY] = [run_id for run_id in asked if run_id in existing][:MAX_RUNS]
        if len(asked) - len(missing) > MAX_RUNS:
            st.caption(f"The first {MAX_RUNS} of {len(asked) - len(missing)} runs are compared.")


def find_existing_runs(run_ids: list[str]) -> list[Run]:
    """Return the present state of the runs that exist, in the given order."""
    try:
        return list(run_queries.read_current_runs(tuple(run_ids)).values()) if run_ids else []
    except NotFoundError:
        return [run for run_id in run_ids for run in _find_existing_run(run_id)]


def _find_existing_run(run_id: str) -> list[Run]:
    try:
        return list(run_queries.read_current_runs((run_id,)).values())
    except NotFoundError:
        return []
