"""What holds a run up: its place in the queue, or why it failed and what to do about it."""

from __future__ import annotations

import json

import streamlit as st

from pages.run_parts import run_reads
from pages.run_parts.advice_actions import changes
from pages.shared import reads
from pages.shared.session import may, plain
from store.catalog.job_kinds import RUNS
from store.contract.states import ACTIVE
from store.documents.tables.job import ErrorDocument
from store.documents.tables.run import Run

LOST = (
    "The process of this run is gone and left no result: it was killed, or the machine went down. "
    "Nothing up to its last checkpoint is lost."
)


def draw_trouble(run: Run) -> None:
    """Nothing for a run that works or has finished."""
    status = run["status"]
    if status == "queued":
        st.info(waiting_for(run), icon=":material/schedule:")
    elif status == "failed":
        _failure(run["run_id"], run["error"])
    elif status == "lost":
        st.warning(lost_words(run["error"]), icon=":material/link_off:")
        _draw_change(run["run_id"], run["error"])
        _traceback(run["error"], "What it wrote as it crashed")
    elif status == "cancelled":
        st.info(cancelled_words(run["error"]), icon=":material/cancel:")


def _failure(run_id: str, error: ErrorDocument | None) -> None:
    message = (error and error["message"]) or "It failed and left no reason; the log may tell."
    fix = f"  \n{plain(error['fix'])}" if error and error.get("fix") else ""
    st.error(f"**{plain(message)}**{fix}", icon=":material/error:")
    _draw_change(run_id, error)
    _traceback(error, "Traceback")


def _draw_change(run_id: str, error: ErrorDocument | None) -> None:
    """The form with what the error says to change, where it does."""
    if error and error.get("change") and may("work"):
        pressed = st.button(
            f"Launch it with {changes(error['change'])}",
            type="primary",
            icon=":material/rocket_launch:",
            key="run-launch-changed",
            help="Opens the form with this run's settings, these changed.",
        )
        if pressed:
            link = {"from": run_id, "change": json.dumps(error["change"])}
            st.switch_page("pages/launch/launch.py", query_params=link)


def lost_words(error: ErrorDocument | None) -> str:
    """What the engine found out about the process that is gone, as Markdown; else what is always true."""
    if not error or not error["message"]:
        return f"{LOST} **Resume** goes on from there."
    fix = plain(error["fix"]) if error.get("fix") else "**Resume** goes on from its last checkpoint."
    return f"**{plain(error['message'])}**  \n{fix}"


def cancelled_words(error: ErrorDocument | None) -> str:
    """Who stopped it, as Markdown: whoever cancelled it, or a signal that did not come from here."""
    if not error:
        return "It was cancelled. **Resume** goes on from its last checkpoint."
    return f"**{plain(error['message'])}**  \n{plain(error.get('fix', ''))}"


def _traceback(error: ErrorDocument | None, title: str) -> None:
    if error and error.get("traceback"):
        with st.expander(title, icon=":material/bug_report:"):
            st.code(error["traceback"], language=None, height=360)


def waiting_for(run: Run) -> str:
    """Why a queued run has not begun, in words."""
    waits = run_reads.job_statuses(tuple(run["after_jobs"] or ()))
    unready = [job for job in waits.values() if job["status"] != "finished"]
    if unready:
        names = ", ".join(f"{plain(job['title'])} ({job['status']})" for job in unready)
        return f"It waits for {names}."
    queue = [job for job in reads.queue() if job["kind"] in RUNS]
    working = [job for job in queue if job["status"] in ACTIVE]
    ahead = [job["job_id"] for job in queue if job["status"] == "queued"]
    place = ahead.index(run["run_id"]) if run["run_id"] in ahead else 0
    holder = f"The device is taken by {plain(working[0]['title'])}. " if working else ""
    if place:
        return f"{holder}{place} {'run is' if place == 1 else 'runs are'} ahead of it."
    return f"{holder}It is the next to start." if holder else "It starts in a moment."
