"""The end of a job's log, as text."""

from __future__ import annotations

import re
from typing import Any

from store.contract.errors import NotFoundError
from store.contract.home import Home
from store.contract.jobdir import JobDir
from store.db.database import Database

MAX_TAIL = 16 * 1024 * 1024


def read_tail(database: Database, home: Home, job_id: str, tail: int) -> dict[str, Any]:
    """The last `tail` bytes (at most MAX_TAIL) of a job's log, from the start of a line.

    Returns {"text", "bytes" of the whole log, "shown_bytes"}; empty where the job has not written any.
    Raises NotFoundError where there is no such job.
    """
    known = database.query("SELECT 1 FROM job WHERE job_id = ?", [job_id])
    if not len(known) or not re.fullmatch(r"[\w-][\w.-]*", job_id):
        raise NotFoundError(f"There is no job {job_id!r}.")
    try:
        with open(JobDir(home.jobs / job_id).log, "rb") as file:
            size = file.seek(0, 2)
            start = max(0, size - min(tail, MAX_TAIL))
            file.seek(start)
            shown = file.read(size - start)
    except FileNotFoundError:
        return {"text": "", "bytes": 0, "shown_bytes": 0}
    if start and b"\n" in shown:
        shown = shown[shown.index(b"\n") + 1 :]
    return {"text": shown.decode("utf-8", "replace"), "bytes": size, "shown_bytes": len(shown)}
