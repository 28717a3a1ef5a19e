"""What a feature declares to the engine: its kinds of job, its commands, and what it has a say in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from engine.server.command import ActivitySubject, Command
from engine.server.evaluation_commands import EvaluationCommands
from engine.server.job_handling import JobHandler
from engine.server.job_submission import JobSubmission
from engine.server.local_launcher import Launcher
from store.core.config import Config
from store.core.features import load_features
from store.core.home import Home
from store.core.schemas import Job
from store.db.database import Database, Queryable, Transaction


@dataclass(frozen=True)
class CommandContext:
    """What commands are made of: one store, and who queues jobs in it. requeue: puts a job that ended badly
    back into the queue. wake: tells the scheduler that there may be a job for it."""

    database: Database
    home: Home
    launching: JobSubmission
    evaluations: EvaluationCommands
    clock: Callable[[], float]
    requeue: Callable[[Transaction, Job], None]
    wake: Callable[[], None]


@dataclass(frozen=True)
class ServiceContext:
    """What a service is made of, which lives as long as the engine."""

    database: Database
    home: Home
    launcher: Launcher
    devices: Sequence[str]


@dataclass(frozen=True)
class Loop:
    """What is done again and again as long as the engine lives. step: the seconds that may pass until the
    next one. thread: the name of its own, where a step takes seconds that the queue does not have; else it
    is stepped beside the queue. stop: tells a step under way to end soon. patience: seconds that are waited
    for that, as the engine stops.
    """

    step: Callable[[], float]
    thread: str = ""
    stop: Callable[[], None] = lambda: None
    patience: float = 5.0


class Service(Protocol):
    """What lives as long as the engine, which steps it each time before jobs are claimed."""

    def step(self) -> float | None:
        """The seconds that may pass until the next step; None: for as long as nothing else wants one."""
        ...

    def close(self) -> None:
        """End, as the engine stops; it may be ended already."""
        ...


def _build_no_commands(context: CommandContext) -> Mapping[str, Command]:
    return {}


def _build_no_loops(context: CommandContext) -> Sequence[Loop]:
    return ()


def _do_nothing(tx: Transaction, job: Job, at: float) -> None:
    """The end of a run asks for nothing more."""


def _name_nothing(db: Queryable, path: str) -> bool:
    return False


def _allow_dataset(tx: Transaction, dataset_id: str, name: str) -> None:
    """Nothing of the feature needs it."""


def _allow_job(tx: Transaction, home: Home, job: Job) -> None:
    """Nothing of the feature needs it."""


def _name_no_jobs(job: Job) -> Iterable[str]:
    return ()


def _find_no_subject(tx: Transaction) -> ActivitySubject | None:
    return None


def _send_nothing(db: Queryable) -> Iterable[Mapping[str, Any]]:
    return ()


@dataclass(frozen=True)
class EngineFeature:
    """As `FEATURE` in `engine/<name>/feature.py`. handlers: by the kinds of job that it has declared in the
    store. build_commands: by their names. store_run: what it asks for in the transaction that ends a run.
    names_path: whether a row of its names a path within the home folder, which then stays. services: by the
    name that the server knows them by. list_sent_endpoints: the documents of those that it has sent keys to
    (`store.core.metric_options.Endpoint`), which others may then use with the same keys. queue_scheduled: the
    check that a monitor's schedule asks for (`StoreFeature.scheduled_check`); the id of its job.
    check_dataset_unused, check_split_unchanged, check_job_unused: raise StateError where something of its
    needs a data set or a job that is to be deleted, or the parts of a data set that is to be dealt anew.
    list_dependent_jobs: ids of the jobs that end and go with a job of its, as nobody else needs them.
    query_bodies: of its asks that name files or models, what their bodies are checked by.
    build_loops: what it does again and again, with commands at hand. find_created_subject: of what it has
    made in a transaction, where that is no job.
    """

    handlers: Mapping[str, JobHandler] = field(default_factory=dict)
    build_commands: Callable[[CommandContext], Mapping[str, Command]] = _build_no_commands
    store_run: Callable[[Transaction, Job, float], None] = _do_nothing
    names_path: Callable[[Queryable, str], bool] = _name_nothing
    services: Mapping[str, Callable[[ServiceContext], Service]] = field(default_factory=dict)
    list_sent_endpoints: Callable[[Queryable], Iterable[Mapping[str, Any]]] = _send_nothing
    queue_scheduled: Callable[[CommandContext, Transaction, Config], str] | None = None
    check_dataset_unused: Callable[[Transaction, str, str], None] = _allow_dataset  # its id and name
    check_split_unchanged: Callable[[Transaction, str, str], None] = _allow_dataset
    check_job_unused: Callable[[Transaction, Home, Job], None] = _allow_job
    list_dependent_jobs: Callable[[Job], Iterable[str]] = _name_no_jobs
    query_bodies: Mapping[str, type[Config]] = field(default_factory=dict)
    build_loops: Callable[[CommandContext], Sequence[Loop]] = _build_no_loops
    find_created_subject: Callable[[Transaction], ActivitySubject | None] = _find_no_subject


def load_engine_features() -> Mapping[str, EngineFeature]:
    """What the features declare to the engine, by their names."""
    features: Mapping[str, EngineFeature] = load_features("engine")
    return features


def is_path_named(db: Queryable, path: str) -> bool:
    """Whether a row of some feature names the path within the home folder."""
    return any(feature.names_path(db, path) for feature in load_engine_features().values())
