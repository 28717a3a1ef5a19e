"""How far a job is: its title, what it does now, a bar and the time left, as one block of HTML."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

from pages.shared import figures, quantities
from store.contract.states import ACTIVE


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
