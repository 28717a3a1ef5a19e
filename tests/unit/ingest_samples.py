"""Jobs, events as workers tell them, and what the store made of them."""

from __future__ import annotations

import itertools
from typing import Any

from store.db.database import Database
from store.jobs.event_ingest import TORN
from tests.unit.store_samples import add_job

_numbers = itertools.count()


def new_job(database: Database, status: str = "preparing", run: bool = True) -> str:
    job_id = f"job{next(_numbers)}"
    add_job(database, job_id, status=status, run=run)
    return job_id


def event(kind: str, /, **fields: Any) -> dict[str, Any]:
    return {"type": kind, "at": 1_790_000_000.5, **fields}


def content(database: Database, job_id: str) -> dict[str, Any]:
    """Everything in the store that events of a job can change, without the job's own name."""
    params = [job_id]
    points = database.query(
        "SELECT name, step, value, logged_at FROM metric WHERE run_id = ? ORDER BY rowid", params
    ).to_pylist()
    job = database.query(
        "SELECT status, event_offset, progress_done, progress_total, progress_unit, progress_message,"
        " eta_seconds FROM job WHERE job_id = ?",
        params,
    ).to_pylist()
    alerts = database.query(
        "SELECT level, message FROM alert WHERE job_id = ? ORDER BY rowid", params
    ).to_pylist()
    messages = [row["message"].replace(job_id.title(), "JOB") for row in alerts]
    return {
        "points": repr(points),  # as text: NaN equals NaN
        "job": job,
        "facts": database.query("SELECT facts FROM run WHERE run_id = ?", params).to_pylist(),
        "torn": messages.count(TORN),  # where it stands among the others depends on the cuts
        "alerts": [message for message in messages if message != TORN],
    }
