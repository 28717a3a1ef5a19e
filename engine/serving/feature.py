"""The engine's serving feature: endpoints, their keys, and the supervisor of their gateways."""

from __future__ import annotations

from collections.abc import Mapping

from engine.server.command import Command
from engine.server.features import CommandContext, EngineFeature, ServiceContext
from engine.serving.endpoint_commands import EndpointCommands, find_created_subject
from engine.serving.endpoint_folders import check_not_served
from engine.serving.supervisor import Supervisor
from store.core.home import Home
from store.core.schemas import Job
from store.db.database import Transaction


def build_commands(context: CommandContext) -> Mapping[str, Command]:
    return EndpointCommands(context.database, context.home, context.clock).table()


def build_supervisor(context: ServiceContext) -> Supervisor:
    return Supervisor(context.database, context.home)


def check_job_not_served(tx: Transaction, home: Home, job: Job) -> None:
    """Raise StateError if an endpoint that should be running serves the job's model."""
    check_not_served(tx, home, home.jobs / job.job_id, job.title)


FEATURE = EngineFeature(
    build_commands=build_commands,
    services={"endpoints": build_supervisor},
    check_job_unused=check_job_not_served,
    find_created_subject=find_created_subject,
)
