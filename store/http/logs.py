"""The end of a job's log, as text."""

from __future__ import annotations

import re

from store.contract.errors import NotFoundError
from store.contract.home import Home
from store.contract.jobdir import JobDir
from store.db.database import Database
from store.documents.tables.job import JobLog

MAX_TAIL = 16 * 1024 * 1024


def read_tail(database: Database, home: Home, job_id: str, tail: int) -> JobLog:
    """The last `tail` bytes (at most MAX_TAIL) of a job's log, from the start of a line; empty where the job
    has not written any.

    Raises NotFoundError where there is no such job.
    """
    jobs = database.query("SELECT 1 FROM job WHERE job_id = ?", [job_id])
    if not len(jobs) or not re.fullmatch(r"[\w-][\w.-]*", job_id):
        raise NotFoundError(f"There is no job {job_id!r}.")
    try:
        with open(JobDir(home.jobs / job_id).log, "rb") as file:
            size = file.seek(0, 2)
            start = max(0, size - min(tail, MAX_TAIL))
            file.seek(start)
            end = file.read(size - start)
    except FileNotFoundError:
        return {"text": "", "bytes": 0, "shown_bytes": 0}
    if start and b"\n" in end:
        end = end[end.index(b"\n") + 1 :]
    return {"text": end.decode("utf-8", "replace"), "bytes": size, "shown_bytes": len(end)}
