"""The Overview page: running jobs, the machine, and the newest runs with their results.

It refreshes while a job is active. All runs are on the page Runs.
"""

from __future__ import annotations

import time

import streamlit as st

from pages.overview.panels import (
    SHOWN_JOBS,
    draw_run_link,
    draw_warnings,
    render_list_header,
    render_machine_meters,
    render_run_numbers,
    show_jobs,
)
from pages.people import activity_feed
from pages.shared import cached_queries
from pages.shared.features import list_parts
from pages.shared.session import (
    escape_markdown,
    has_right,
    live,
    redraw,
    require_member,
    send_command,
    show_errors,
    watch_engine,
)
from store.core.formatting import plural
from store.core.job_kinds import ACTIVE
from store.core.schemas import Job
from store.db.commit_journal import describe_recent_loss
from store.runs.schemas import Run

NEWEST = 8  # runs that are listed
COLUMNS = [2.8, 7]  # widths of name and numbers
SAMPLE = (
    "\nThe sample experiment fine-tunes a small real language model (SmolLM2, 135 million parameters) on"
    " 400\nentries of Python's own documentation and ends with a verdict: did it learn, and how certain is"
    " that?\nIt takes 3 to 10 minutes on two processor cores.\n"
)
STATUS_GROUPS = {
    "running": tuple(sorted(ACTIVE)),
    "waiting": ("queued",),
    "finished": ("finished",),
    "failed": ("failed",),
    "cancelled": ("cancelled",),
    "lost": ("lost",),
}


def main() -> None:
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.title("Overview", anchor=False, width="content")
        new_run = st.container(width="content")
    with show_errors():
        # commits that the store lacked when the engine last opened it
        if loss := describe_recent_loss(cached_queries.read_lost_commits(), time.time()):
            st.warning(escape_markdown(loss), icon=":material/database_off:")
        counts = cached_queries.count_runs_by_status()
        alive = bool(cached_queries.count_queue())
        if (
            counts
            and has_right("work")
            and new_run.button("New run", type="primary", icon=":material/add:", key="new-run")
        ):
            st.switch_page("pages/training/launch.py")
        live("2s" if alive else None)(_draw_live)(alive)


def _draw_live(was_alive: bool) -> None:
    with show_errors():
        watch_engine()
        jobs, counts = cached_queries.list_queue(limit=SHOWN_JOBS), cached_queries.count_runs_by_status()
        if bool(jobs) != was_alive:
            redraw()
        for draw in list_parts(lambda feature: feature.notices.get("overview")):
            draw()
        if not counts:
            _draw_first_steps(jobs)
        st.html(render_machine_meters(cached_queries.read_machine()))
        if jobs:
            st.subheader("In progress", anchor=False)
            show_jobs(jobs, cached_queries.count_queue())
        if counts:
            draw_warnings()
            _draw_runs(counts)


def _draw_first_steps(jobs: list[Job]) -> None:
    """Draw the start page before the first run: one button that leads to a verdict."""
    if not require_member("launch the first run; its progress and results appear here"):
        return
    with st.container(border=True, horizontal_alignment="left"):
        st.subheader("Try the sample experiment", anchor=False)
        st.markdown(SAMPLE)
        if jobs:
            st.caption(
                "The model and the sample data are being prepared. You can start now; the run waits for them."
            )
        if st.button("Run the sample experiment", type="primary", icon=":material/play_arrow:", key="sample"):
            answer = send_command("launch_sample", {})
            if answer is not None:
                st.switch_page("pages/runs/run.py", query_params={"run": answer["run_id"]})
    with st.container(horizontal=True):
        st.page_link(
            "pages/data/data.py",
            label="Import your own data",
            icon=":material/upload_file:",
            query_params={"view": "import"},
        )
        st.page_link("pages/training/launch.py", label="Set up a run yourself", icon=":material/tune:")


def _draw_runs(counts: dict[str, int]) -> None:
    runs = cached_queries.list_runs("", (), NEWEST, 0)
    total = sum(counts.values())
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.subheader("Newest runs" if total > len(runs) else "Runs", anchor=False, width="content")
        st.page_link("pages/runs/run.py", label=f"All {plural(total, 'run')}", icon=":material/table_rows:")
    present = [
        f"{number:,} {name}"
        for name, statuses in STATUS_GROUPS.items()
        if (number := sum(counts.get(status, 0) for status in statuses))
    ]
    st.caption(f"{plural(total, 'run')}: {', '.join(present)}")
    st.columns(COLUMNS)[1].html(render_list_header())
    comments = activity_feed.count_comments("run", tuple(run.run_id for run in runs))
    with st.container(gap=None, key="runs-list"):
        for run in runs:
            _draw_run_line(run, comments.get(run.run_id, 0))
    st.caption(
        "Losses in nats a token (of classifiers a row, of preferences a pair), lower is better. Ranges are"
        " 95% intervals over n held-out rows."
    )


def _draw_run_line(run: Run, comments: int) -> None:
    with st.container(key=f"run-line-{run.run_id}"):
        name, numbers = st.columns(COLUMNS, vertical_alignment="center")
        with name, st.container(gap=None):
            draw_run_link(run)
            maker = activity_feed.describe_creator(run.created_by)
            people_note = [f"by {escape_markdown(maker)}"] if maker else []
            people_note += [plural(comments, "comment")] if comments else []
            if people_note:
                st.caption(" · ".join(people_note))
        numbers.html(render_run_numbers(run))


main()
