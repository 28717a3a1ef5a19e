"""How far a job is: what it does now, a bar and the time left; with a way to stop it where a person waits for
it, and why it has no result."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

import streamlit as st

from pages.shared import figures, quantities, reads
from pages.shared.session import act, guarded, live, may, plain, redraw, watch_engine
from store.contract.states import ACTIVE, ALIVE
from store.documents.tables.job import Job


def fraction(job: Mapping[str, Any]) -> float | None:
    """Share of the present phase that is done, or None where it has not said."""
    total = job.get("progress_total")
    return min(1.0, (job.get("progress_done") or 0) / total) if total else None


def doing(job: Mapping[str, Any]) -> str:
    """What the job does now, in words: "Training, 120 of 300 steps, 4 min left"."""
    if job["status"] == "queued":
        waits = len(job.get("after_jobs") or [])
        return "Waits for the model or the data set to be ready" if waits else "Waits for its turn"
    if job.get("cancel_requested_at") and job["status"] in ACTIVE:
        return "Stopping; it leaves a checkpoint"
    message = job.get("progress_message") or f"{job['status'].capitalize()}"
    parts = [str(message)]
    if (job.get("progress_total") or 0) > 1:
        done, total = job.get("progress_done") or 0, job["progress_total"]
        parts.append(f"{done:,.0f} of {total:,.0f} {job.get('progress_unit') or ''}".strip())
    if job.get("eta_seconds") is not None:
        parts.append(f"{quantities.span(job['eta_seconds'])} left")
    return ", ".join(parts)


def progress_block(job: Mapping[str, Any]) -> str:
    """Bar and words of a job that waits or works."""
    bar = "" if job["status"] == "queued" else figures.bar(fraction(job))
    return f"{figures.STYLE}{bar}<div class='tb-label'>{html.escape(doing(job))}</div>"


@live("1s")
def show_live(job_id: str, what: str, title: str = "") -> None:
    """The job while it lives; the page is drawn anew when it ends. `what`: "import", "cleaning", "export"."""
    with guarded():
        watch_engine()
        job = reads.job(job_id)
        if job["status"] not in ALIVE:
            st.cache_data.clear()
            redraw()
        if title:
            st.markdown(f"**{title}**")
        st.html(progress_block(job))
        stop, icon = f"{what}-cancel", ":material/stop_circle:"
        if may("work") and st.button(f"Cancel the {what}", key=stop, icon=icon):
            act("cancel", {"job": job_id}, f"The {what} is being cancelled.")


def show_bad_end(job: Job, what: str) -> None:
    """Why there is no result, and that nothing was stored."""
    if job["status"] == "cancelled":
        st.info(f"The {what} was cancelled. Nothing was stored.", icon=":material/info:")
        return
    error = job["error"]
    message = (error and error["message"]) or "The process that did it ended without a result."
    fix = f"  \n{plain(error['fix'])}" if error and error.get("fix") else ""
    st.error(f"{plain(message)}{fix}  \nNothing was stored.", icon=":material/error:")
