"""What a feature declares to the engine: its kinds of job, its commands, and what it has a say in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from engine.server.command import Command
from engine.server.evaluation_commands import EvaluationCommands
from engine.server.job_handling import JobHandler
from engine.server.job_submission import JobSubmission
from engine.server.local_launcher import Launcher
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


def _build_no_commands(context: CommandContext) -> Mapping[str, Command]:
    return {}


def _do_nothing(tx: Transaction, job: Job, at: float) -> None:
    """The end of a run asks for nothing more."""


def _name_nothing(db: Queryable, path: str) -> bool:
    return False


@dataclass(frozen=True)
class EngineFeature:
    """As `FEATURE` in `engine/<name>/feature.py`. handlers: by the kinds of job that it has declared in the
    store. build_commands: by their names. keep_run: what it asks for in the transaction that ends a run.
    names_path: whether a row of its names a path within the home folder, which then stays. services: by the
    name that the server knows them by.
    """

    handlers: Mapping[str, JobHandler] = field(default_factory=dict)
    build_commands: Callable[[CommandContext], Mapping[str, Command]] = _build_no_commands
    keep_run: Callable[[Transaction, Job, float], None] = _do_nothing
    names_path: Callable[[Queryable, str], bool] = _name_nothing
    services: Mapping[str, Callable[[ServiceContext], Any]] = field(default_factory=dict)


def load_engine_features() -> Mapping[str, EngineFeature]:
    """What the features declare to the engine, by their names."""
    features: Mapping[str, EngineFeature] = load_features("engine")
    return features
