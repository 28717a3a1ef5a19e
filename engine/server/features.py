"""What a feature declares to the engine: its kinds of job, its commands, and what it has a say in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from engine.server.command import Command
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
    """What commands are made of: one store, and who queues jobs in it."""

    database: Database
    home: Home
    launching: JobSubmission
    evaluations: EvaluationCommands
    clock: Callable[[], float]


@dataclass(frozen=True)
class ServiceContext:
    """What a service is made of, which lives as long as the engine."""

    database: Database
    home: Home
    launcher: Launcher
    devices: Sequence[str]


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


def _do_nothing(tx: Transaction, job: Job, at: float) -> None:
    """The end of a run asks for nothing more."""


def _name_nothing(db: Queryable, path: str) -> bool:
    return False


def _send_nothing(db: Queryable) -> Iterable[Mapping[str, Any]]:
    return ()


@dataclass(frozen=True)
class EngineFeature:
    """As `FEATURE` in `engine/<name>/feature.py`. handlers: by the kinds of job that it has declared in the
    store. build_commands: by their names. keep_run: what it asks for in the transaction that ends a run.
    names_path: whether a row of its names a path within the home folder, which then stays. services: by the
    name that the server knows them by. list_sent_endpoints: the documents of those that it has sent keys to
    (`store.core.metric_options.Endpoint`), which others may then use with the same keys. queue_scheduled: the
    check that a monitor's schedule asks for (`StoreFeature.scheduled_check`); the id of its job.
    """

    handlers: Mapping[str, JobHandler] = field(default_factory=dict)
    build_commands: Callable[[CommandContext], Mapping[str, Command]] = _build_no_commands
    keep_run: Callable[[Transaction, Job, float], None] = _do_nothing
    names_path: Callable[[Queryable, str], bool] = _name_nothing
    services: Mapping[str, Callable[[ServiceContext], Service]] = field(default_factory=dict)
    list_sent_endpoints: Callable[[Queryable], Iterable[Mapping[str, Any]]] = _send_nothing
    queue_scheduled: Callable[[CommandContext, Transaction, Config], str] | None = None


def load_engine_features() -> Mapping[str, EngineFeature]:
    """What the features declare to the engine, by their names."""
    features: Mapping[str, EngineFeature] = load_features("engine")
    return features


def is_path_named(db: Queryable, path: str) -> bool:
    """Whether a row of some feature names the path within the home folder."""
    return any(feature.names_path(db, path) for feature in load_engine_features().values())
