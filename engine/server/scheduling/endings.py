"""How a job ended by its `result.json` (`lost_workers`: without one), and what is tidied up then.

That is done before the end is recorded: an engine that is killed in between finds the job alive and does it
again.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import Any, Literal

from store.catalog.job_kinds import JOB_KINDS
from store.contract.home import Home
from store.contract.jobdir import JobDir, read_json
from store.db.database import Queryable
from store.documents.tables.job import ErrorDocument, Job
from store.documents.tables.job_events import Outcome
from store.queries.data import datasets
from store.queries.shipping import exports


@dataclass(frozen=True)
class Ending:
    """The status that a job ends with, and its result or its error document."""

    status: Literal["finished", "failed", "cancelled", "lost"]
    result: dict[str, Any] | None = None  # as its kind's `keep` reads it
    error: ErrorDocument | None = None


def of_result(outcome: Outcome) -> Ending:
    """What the worker itself wrote last."""
    return Ending(outcome["status"], outcome.get("result"), outcome.get("error"))


def clear_aside(home: Home, job: Job) -> None:
    """Remove what the worker of a job that has ended left half-made, here or in the cache: one that was
    killed could not do so itself."""
    folder = JobDir(home.jobs / job["job_id"])
    shutil.rmtree(folder.temporary, ignore_errors=True)
    if (
        job["pid"] is not None
    ):  # files that are written aside are named by it (`store.contract.jobdir.written_aside`)
        for place in (folder.path, home.cache):
            for left in place.rglob(f".*.{job['pid']}"):
                left.unlink(missing_ok=True)


def clear_logged(home: Home, job: Job) -> None:
    """Remove texts of a log that the job was given: it gets them again where it is resumed."""
    if name := JOB_KINDS[job["kind"]].logged_texts:
        (home.jobs / job["job_id"] / name).unlink(missing_ok=True)


def clear_asked(home: Home, job: Job) -> None:
    """Remove the logged requests that a round would have asked about, which is not made. It can't be resumed
    then."""
    if asks_of_log(job):
        shutil.rmtree(JobDir(home.jobs / job["job_id"]).held, ignore_errors=True)


def asks_of_log(job: Job) -> bool:
    """Whether it is a round of requests that an endpoint has logged."""
    return job["kind"] == "round" and bool(job["config"].get("round", {}).get("requests"))


def clear_made(db: Queryable, home: Home, job: Job) -> None:
    """Remove what a job made whole that has not finished: the store will never name it."""
    folder = JobDir(home.jobs / job["job_id"])
    if JOB_KINDS[job["kind"]].leaves_columns:
        for sidecar in folder.path.glob("*.parquet"):
            sidecar.unlink(missing_ok=True)
    published = read_json(folder.published)
    fingerprint = published.get("fingerprint") if published else None
    if fingerprint and not datasets.is_named(db, fingerprint):
        shutil.rmtree(home.datasets / fingerprint, ignore_errors=True)
    for name in published.get("exports", ()) if published else ():
        if not exports.is_named(db, f"{home.exports.name}/{name.removesuffix('.zip')}"):
            shutil.rmtree(home.exports / name, ignore_errors=True)
            if (home.exports / name).is_file():
                (home.exports / name).unlink()
    folder.published.unlink(missing_ok=True)
    shutil.rmtree(folder.version, ignore_errors=True)
    clear_asked(home, job)
