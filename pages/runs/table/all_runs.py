"""The page without a run: the table of all runs."""

from __future__ import annotations

import streamlit as st

from pages.comparison.run_selection import MAX_RUNS
from pages.people import activity_feed
from pages.runs.table.runs_table import TableOptions, draw_runs_table
from pages.shared import cached_queries
from pages.shared.session import (
    cached,
    get_client,
    has_right,
    live,
    require_member,
    show_errors,
    watch_engine,
)
from store.runs.run_columns import RunColumn, run_columns


def draw_all_runs() -> None:
    """Draw the table of runs, or what to do before the first one."""
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.title("Runs", anchor=False, width="content")
        new_run = st.container(width="content")
    counts = cached_queries.count_runs_by_status()
    if not counts:
        _draw_first_steps()
        return
    if has_right("work") and new_run.button("New run", type="primary", icon=":material/add:", key="runs-new"):
        st.switch_page("pages/training/launch.py")
    live("10s")(_draw_table)()  # the rows ask by themselves; this notices runs that come and end
    st.caption(
        "Losses in nats a token (of classifiers a row, of preferences a pair), lower is better. Ranges are"
        " 95% intervals over n held-out rows. Differences between runs are tested on Compare, not here."
    )


def _draw_table() -> None:
    with show_errors():
        watch_engine()
        draw_runs_table(
            TableOptions(
                columns=list_columns(),
                counts=cached_queries.count_runs_by_status(),
                may_edit=has_right("work"),
                created_by=activity_feed.draw_own_items_switch("run", "runs_mine"),
                max_compared=MAX_RUNS,
            )
        )


@cached(cached_queries.CALM, max_entries=4)
def list_columns() -> list[RunColumn]:
    """Return what the table can show of the present runs."""
    return run_columns(get_client())


def _draw_first_steps() -> None:
    if not require_member("launch the first run; its progress and results appear here"):
        return
    st.markdown("No runs yet. Start with the sample experiment, or configure your own run.")
    with st.container(horizontal=True):
        st.page_link(
            "pages/overview/overview.py", label="Run the sample experiment", icon=":material/play_arrow:"
        )
        st.page_link("pages/training/launch.py", label="Set up a run yourself", icon=":material/tune:")
