"""What holds a run up: its place in the queue, or why it failed and what to do about it."""

from __future__ import annotations

from typing import Any

import streamlit as st

from pages.components import reads, run_reads
from pages.components.session import plain
from store.states import ACTIVE

LOST = (
    "The process of this run is gone and left no result: it was killed, or the machine went down. "
    "Nothing up to its last checkpoint is lost."
)


def draw_trouble(run: dict[str, Any]) -> None:
    """Nothing for a run that works or has finished."""
    status = run["status"]
    if status == "queued":
        st.info(waiting_for(run), icon=":material/schedule:")
    elif status == "failed":
        _failure(run["error"] or {})
    elif status == "lost":
        st.warning(f"{LOST} **Resume** goes on from there.", icon=":material/link_off:")
    elif status == "cancelled":
        st.info("It was cancelled. **Resume** goes on from its last checkpoint.", icon=":material/cancel:")


def _failure(error: dict[str, Any]) -> None:
    message = error.get("message") or "It failed and left no reason; the log may tell."
    fix = f"  \n{plain(error['fix'])}" if error.get("fix") else ""
    st.error(f"**{plain(message)}**{fix}", icon=":material/error:")
    if error.get("traceback"):
        with st.expander("Traceback", icon=":material/bug_report:"):
            st.code(error["traceback"], language="python", height=360)


def waiting_for(run: dict[str, Any]) -> str:
    """Why a queued run has not begun, in words."""
    waits = run_reads.job_statuses(tuple(run["after_jobs"] or ()))
    unready = [job for job in waits.values() if job["status"] != "finished"]
    if unready:
        names = ", ".join(f"{plain(job['title'])} ({job['status']})" for job in unready)
        return f"It waits for {names}."
    queue = [job for job in reads.queue() if job["kind"] == "train"]
    working = [job for job in queue if job["status"] in ACTIVE]
    ahead = [job["job_id"] for job in queue if job["status"] == "queued"]
    place = ahead.index(run["run_id"]) if run["run_id"] in ahead else 0
    holder = f"The device is taken by {plain(working[0]['title'])}. " if working else ""
    if place:
        return f"{holder}{place} {'run is' if place == 1 else 'runs are'} ahead of it."
    return f"{holder}It is the next to start." if holder else "It starts in a moment."
