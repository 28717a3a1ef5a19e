"""What is under way: the jobs that work or wait, in the order they will run, each with a way to stop it."""

from __future__ import annotations

import streamlit as st

from pages.shared.conversation import shortened_middle
from pages.shared.progress_bar import progress_block
from pages.shared.session import act, may, plain
from store.catalog.job_kinds import JOB_KINDS
from store.documents.tables.job import Job

SHOWN = 8
NAME_LENGTH = 30  # characters of a name that fit on a phone


def show_now(jobs: list[Job], count: int) -> None:
    """Active jobs, then the queue, of which there are `count` in all; what is left off is said."""
    for job in jobs:
        _line(job)
    if count > len(jobs):
        st.caption(f"{len(jobs)} of {count:,} jobs are shown; the others wait behind them.")


def _line(job: Job) -> None:
    job_id = job["job_id"]
    with st.container(border=True, horizontal=True, vertical_alignment="center", gap="small"):
        with st.container(gap=None):
            _title(job)
            st.html(progress_block(job))
        stopping = bool(job.get("cancel_requested_at"))
        label = "Stopping" if stopping else "Cancel"
        if may("work") and st.button(
            label, key=f"cancel-{job_id}", icon=":material/stop_circle:", disabled=stopping
        ):
            act("cancel", {"job": job_id}, f"{plain(job['title'])} is being cancelled.")
            st.rerun()


def _title(job: Job) -> None:
    kind = JOB_KINDS[job["kind"]]
    if kind.is_run:
        st.page_link(
            "pages/run/run.py",
            label=f"**{plain(shortened_middle(job['title'], NAME_LENGTH))}**",
            help=plain(job["title"]),
            icon=kind.icon,
            query_params={"run": job["job_id"]},
        )
        return
    st.markdown(f"{kind.icon} **{kind.title}:** {plain(job['title'])}")
