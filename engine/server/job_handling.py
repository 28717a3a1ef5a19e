"""What the engine does for a kind of job, and the table of all kinds as the scheduler asks it."""

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


def _add_no_details(db: Queryable, job: Job) -> JobSpecDetails:
    return {}


def _keep_nothing(tx: Transaction, home: Home, job: Job, result: Any, at: float) -> None:
    """The result stays in the row of its job."""


def _stage_nothing(db: Queryable, home: Home, job: Job) -> None:
    """All that the worker needs lies in the home folder already."""


def _list_no_datasets(tx: Transaction, job: Job) -> set[str]:
    return set()


@dataclass(frozen=True)
class JobHandler:
    """order: what config.json has beside what every order has. keep: stores a finished job's result, which is
    read as what its annotation says; raises where that is not what docs/results.md says. bring: writes into
    its folder what only the store has. reads: ids of data sets that can't be deleted before the job is over,
    where nothing else keeps them.
    """

    order: Callable[[Queryable, Job], JobSpecDetails] = _add_no_details
    keep: Callable[[Transaction, Home, Job, Any, float], None] = _keep_nothing  # a result is as its kind's
    reads: Callable[[Transaction, Job], set[str]] = _list_no_datasets
    bring: Callable[[Queryable, Home, Job], None] = _stage_nothing


class JobHandlers:
    """The handlers of all kinds of job, by the kind."""

    def __init__(self, handlers: Mapping[str, JobHandler]) -> None:
        self.of_kind = handlers

    def write_order(self, db: Queryable, home: Home, job: Job) -> JobDir:
        """Make the folder of a claimed job, if it has none yet, and write its order; raises OSError.

        Raises NotFoundError where a data set that it needs is gone.
        """
        folder = JobDir(home.jobs / job.job_id)
        folder.path.mkdir(parents=True, exist_ok=True)
        handler = self.of_kind[job.kind]
        handler.bring(db, home, job)
        details = handler.order(db, job)
        write_json(folder.config, job_specs.build_order(home, job, settings.networks(db), details))
        return folder

    def keep(self, tx: Transaction, home: Home, job: Job, result: Any, at: float) -> None:
        """Store what the finished `job` made."""
        keep = self.of_kind[job.kind].keep
        keep(tx, home, job, parse_document(get_type_hints(keep)["result"], result), at)

    def reads(self, tx: Transaction, job: Job) -> set[str]:
        """Ids of data sets that the job still reads."""
        return self.of_kind[job.kind].reads(tx, job)
