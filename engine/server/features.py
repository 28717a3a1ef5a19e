"""Declarations of a feature to the engine: job handlers, commands, and hooks."""

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
    """Dependencies of a feature's commands.

    requeue: puts a job that ended without finishing back into the queue. wake: notifies the scheduler of new
    jobs.
    """

    database: Database
    home: Home
    launching: JobSubmission
    evaluations: EvaluationCommands
    clock: Callable[[], float]
    requeue: Callable[[Transaction, Job], None]
    wake: Callable[[], None]


@dataclass(frozen=True)
class ServiceContext:
    """Dependencies of a service, which runs as long as the engine."""

    database: Database
    home: Home
    launcher: Launcher
    devices: Sequence[str]


@dataclass(frozen=True)
class Loop:
    """Repeated work while the engine runs.

    step: does it once and returns the maximum seconds until the next step. thread: name of its own thread,
    for steps that take too long for the queue's; without one it is stepped with the queue. stop: asks a
    running step to end soon. patience: seconds to wait for that when the engine stops.
    """

    step: Callable[[], float]
    thread: str = ""
    stop: Callable[[], None] = lambda: None
    patience: float = 5.0


class Service(Protocol):
    """Service that runs as long as the engine, which steps it each time before jobs are claimed."""

    def step(self) -> float | None:
        """Do one step; return the maximum seconds until the next, or None if it needs none by itself."""
        ...

    def close(self) -> None:
        """Stop, when the engine stops; may be called when already stopped."""
        ...


def _allow_dataset(tx: Transaction, dataset_id: str, name: str) -> None:
    """Default: the feature uses no data set."""


@dataclass(frozen=True)
class EngineFeature:
    """Declaration of a feature, `FEATURE` in `engine/<name>/feature.py`.

    - handlers: by kind of job, as declared in the store
    - build_commands: returns the commands by name
    - store_run: what the feature queues in the transaction that ends a run
    - names_path: whether one of its rows refers to a path within the home folder, which is then kept
    - services: by the name that the server knows them by
    - list_sent_endpoints: endpoints that it has sent keys to (`store.core.metric_options.Endpoint`), which
      others may then use with the same keys
    - queue_scheduled: queues the check of a monitor's schedule (`StoreFeature.scheduled_check`); returns the
      job's id
    - check_dataset_unused, check_split_unchanged, check_job_unused: raise StateError if the feature needs a
      data set or a job that is to be deleted, or the parts of a data set that is to be split again
    - list_dependent_jobs: ids of jobs that end and are deleted with one of its jobs, as nothing else needs
      them
    - query_bodies: models of the bodies of its queries that name files or models
    - build_loops: repeated work, with access to commands
    - find_created_subject: what it created in a transaction, if that is no job
    """

    handlers: Mapping[str, JobHandler] = field(default_factory=dict)
    build_commands: Callable[[CommandContext], Mapping[str, Command]] = lambda context: {}
    store_run: Callable[[Transaction, Job, float], None] = lambda tx, job, at: None
    names_path: Callable[[Queryable, str], bool] = lambda db, path: False
    services: Mapping[str, Callable[[ServiceContext], Service]] = field(default_factory=dict)
    list_sent_endpoints: Callable[[Queryable], Iterable[Mapping[str, Any]]] = lambda db: ()
    queue_scheduled: Callable[[CommandContext, Transaction, Config], str] | None = None
    check_dataset_unused: Callable[[Transaction, str, str], None] = _allow_dataset  # called with id and name
    check_split_unchanged: Callable[[Transaction, str, str], None] = _allow_dataset
    check_job_unused: Callable[[Transaction, Home, Job], None] = lambda tx, home, job: None
    list_dependent_jobs: Callable[[Job], Iterable[str]] = lambda job: ()
    query_bodies: Mapping[str, type[Config]] = field(default_factory=dict)
    build_loops: Callable[[CommandContext], Sequence[Loop]] = lambda context: ()
    find_created_subject: Callable[[Transaction], ActivitySubject | None] = lambda tx: None


def load_engine_features() -> Mapping[str, EngineFeature]:
    """Return the features' declarations to the engine, by name."""
    features: Mapping[str, EngineFeature] = load_features("engine")
    return features


def is_path_named(db: Queryable, path: str) -> bool:
    """Whether a row of any feature refers to the path within the home folder."""
    return any(feature.names_path(db, path) for feature in load_engine_features().values())
