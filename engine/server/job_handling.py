"""Handlers of the kinds of job, and the table of all kinds that the scheduler uses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, get_type_hints

from engine.server import job_specs
from store.core.documents import parse_document
from store.core.home import Home
from store.core.job_folder import JobDir, write_json
from store.core.schemas import Job
from store.db.database import Queryable, Transaction
from store.jobs.schemas import JobSpecDetails
from store.people import settings


def _store_nothing(tx: Transaction, home: Home, job: Job, result: Any, at: float) -> None:
    """Default: the result stays in the row of its job."""


@dataclass(frozen=True)
class JobHandler:
    """What the engine does for one kind of job.

    build_spec: return what config.json has in addition to the fields of every job. store_result: store the
    result of a finished job, parsed by the annotation of its parameter `result`; raise if it is not as
    described in docs/results.md. list_datasets: ids of data sets that must not be deleted before the job
    ends, unless something else protects them. stage_inputs: write inputs that only the store has into the
    job's folder.
    """

    build_spec: Callable[[Queryable, Job], JobSpecDetails] = lambda db, job: {}
    store_result: Callable[[Transaction, Home, Job, Any, float], None] = _store_nothing
    list_datasets: Callable[[Transaction, Job], set[str]] = lambda tx, job: set()
    stage_inputs: Callable[[Queryable, Home, Job], None] = lambda db, home, job: None


class JobHandlers:
    """The handlers of all kinds of job, by kind."""

    def __init__(self, handlers: Mapping[str, JobHandler]) -> None:
        self.by_kind = handlers

    def write_spec(self, db: Queryable, home: Home, job: Job) -> JobDir:
        """Write the spec of a claimed job into its folder, created if missing, and return the folder.

        Raises:
            OSError: The folder or the file can't be written.
            NotFoundError: A data set that the job needs is gone.
        """
        folder = JobDir(home.jobs / job.job_id)
        folder.path.mkdir(parents=True, exist_ok=True)
        handler = self.by_kind[job.kind]
        handler.stage_inputs(db, home, job)
        details = handler.build_spec(db, job)
        write_json(folder.config, job_specs.build_spec(home, job, settings.networks(db), details))
        return folder

    def store_result(self, tx: Transaction, home: Home, job: Job, result: Any, at: float) -> None:
        """Store the result of a finished job."""
        store = self.by_kind[job.kind].store_result
        store(tx, home, job, parse_document(get_type_hints(store)["result"], result), at)

    def list_datasets(self, tx: Transaction, job: Job) -> set[str]:
        """Return the ids of the data sets that the job still reads."""
        return self.by_kind[job.kind].list_datasets(tx, job)
