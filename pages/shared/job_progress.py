"""Progress of a job: current step, progress bar and remaining time, with a cancel button where a person waits
for it, and the reason if it has no result.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence

import streamlit as st

from pages.shared import cached_queries, display, meters
from pages.shared.session import (
    escape_markdown,
    has_right,
    live,
    redraw,
    send_command,
    show_errors,
    watch_engine,
)
from store.core import formatting
from store.core.job_kinds import ACTIVE, ALIVE
from store.core.schemas import Job, JobProgress
from store.runs.schemas import Run

MARKS = {
    "failed": ":red[:material/error:]",
    "cancelled": ":orange[:material/cancel:]",
    "lost": ":orange[:material/link_off:]",
}


def compute_fraction(job: JobProgress) -> float | None:
    """The completed share of the current phase, or None if it is unknown."""
    total = job.progress_total
    return min(1.0, (job.progress_done or 0) / total) if total else None


def describe_activity(job: Job | Run) -> str:
    """Describe the current activity of a job: "Training, 120 of 300 steps, 4 min left"."""
    if job.status == "queued":
        waits = len(job.after_jobs or [])
        return "Waiting for the model or data set to be ready" if waits else "Waiting in the queue"
    if job.cancel_requested_at and job.status in ACTIVE:
        return "Stopping; saving a checkpoint"
    parts = [job.progress_message or job.status.capitalize()]
    done, total = job.progress_done or 0, job.progress_total or 0
    if total > 1:
        parts.append(f"{done:,.0f} of {total:,.0f} {job.progress_unit or ''}".strip())
    if job.eta_seconds is not None:
        parts.append(f"{display.format_duration(job.eta_seconds)} left")
    return ", ".join(parts)


def render_progress(job: Job) -> str:
    """HTML of the progress bar and description of a queued or running job."""
    bar = "" if job.status == "queued" else meters.render_bar(compute_fraction(job))
    return f"{meters.STYLE}{bar}<div class='tb-label'>{html.escape(describe_activity(job))}</div>"


@live("1s")
def show_live(job_id: str, what: str, title: str = "") -> None:
    """Draw a job while it is active; the page is redrawn when it ends. `what`: "import", "cleaning",
    "export".
    """
    with show_errors():
        watch_engine()
        job = cached_queries.read_job(job_id)
        if job.status not in ALIVE:
            st.cache_data.clear()
            redraw()
        if title:
            st.markdown(f"**{title}**")
        st.html(render_progress(job))
        stop, icon = f"{what}-cancel", ":material/stop_circle:"
        if has_right("work") and st.button(f"Cancel the {what}", key=stop, icon=icon):
            send_command("cancel", {"job": job_id}, f"The {what} is being cancelled.")


def show_failure(job: Job, what: str) -> None:
    """Explain why there is no result, and that nothing was stored."""
    if job.status == "cancelled":
        st.info(f"The {what} was cancelled. Nothing was stored.", icon=":material/info:")
        return
    error = job.error
    message = (error and error["message"]) or "The process that did it ended without a result."
    fix = f"  \n{escape_markdown(error['fix'])}" if error and error.get("fix") else ""
    st.error(f"{escape_markdown(message)}{fix}  \nNothing was stored.", icon=":material/error:")


def show_progress(job: Job) -> None:
    """Draw the progress bar and description of a queued or running job."""
    st.html(render_progress(job))


@live("1s")
def show_active_jobs(
    alive: Callable[[], Sequence[Job]],
    drawn: Sequence[str],
    what: str,
    show: Callable[[Job], None] = show_progress,
    most: int = 20,
) -> None:
    """Draw queued and running jobs, each with a cancel button; the page is redrawn once they differ from
    those `drawn` with it. `what`: "round", "evaluation". show: draws one job's progress.
    """
    with show_errors():
        watch_engine()
        jobs = [job for job in alive() if job.status in ALIVE]
        if [job.job_id for job in jobs] != list(drawn):
            st.cache_data.clear()
            redraw()
        for job in jobs[:most]:
            with st.container(border=True, gap="xsmall"):
                with st.container(horizontal=True, vertical_alignment="center"):
                    st.markdown(f"**{escape_markdown(job.title)}**", width="stretch")
                    key, icon = f"{what}-cancel-{job.job_id}", ":material/stop_circle:"
                    if has_right("work") and st.button("Cancel", key=key, icon=icon):
                        send_command("cancel", {"job": job.job_id}, f"The {what} is being cancelled.")
                show(job)
        if len(jobs) > most:
            st.caption(f"{formatting.plural(len(jobs) - most, f'more {what}')} in the queue.")


def show_failed_jobs(jobs: Sequence[Job], what: str, most: int) -> None:
    """Explain the newest failed jobs (given oldest first) and the next step."""
    for job in jobs[::-1][:most]:
        with st.container(border=True, gap="xsmall"):
            st.markdown(f"{MARKS.get(job.status, MARKS['failed'])} **{escape_markdown(job.title)}**")
            st.caption(escape_markdown(explain_failure(job)))
            if has_right("work"):
                _draw_retry(job, what)
    if len(jobs) > most:
        st.caption(f"{formatting.plural(len(jobs) - most, 'older one')} without a result not shown.")


def _draw_retry(job: Job, what: str) -> None:
    with st.container(horizontal=True):
        for label, command, done in (
            ("Try again", "resume", f"The {what} is queued."),
            ("Delete", "delete", f"The {what} is deleted."),
        ):
            pressed = st.button(label, key=f"{what}-{command}-{job.job_id}")
            if pressed and send_command(command, {"job": job.job_id}, done) is not None:
                st.rerun()


def explain_failure(job: Job) -> str:
    """The reason why a job has no result, and the next step."""
    error = job.error
    if error and error["message"]:
        return f"{error['message']} {error.get('fix') or ''}".strip()
    if job.status == "cancelled":
        return "It was cancelled before it had a result. Try again, or delete it."
    if job.status == "lost":
        return (
            "Its process ended without a result, for example because the machine was switched off. Try again."
        )
    return "It ended without a result and without an error message. See its log, then try again."
