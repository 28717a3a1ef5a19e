"""Transfer feature of the engine: every run on every data set, in one job."""

from __future__ import annotations

from collections.abc import Mapping

from engine.server.command import Command
from engine.server.features import CommandContext, EngineFeature
from engine.server.job_handling import JobHandler
from engine.server.job_specs import build_named_dataset
from engine.transfer.commands import TransferCommands
from store.core.schemas import Job
from store.data import datasets
from store.db.database import Queryable
from store.jobs.schemas import JobSpecDetails


def specify_transfer_matrix(db: Queryable, job: Job) -> JobSpecDetails:
    """Return the data sets of a transfer matrix that still exist."""
    present = [datasets.find_dataset(db, name) for name in job.config["datasets"]]
    return {
        "datasets": [
            {"dataset": build_named_dataset(dataset), "split": datasets.get_split_fields(dataset)}
            for dataset in present
            if dataset
        ]
    }


def build_commands(context: CommandContext) -> Mapping[str, Command]:
    return {
        **TransferCommands(context.database, context.launching).table(),
    }


FEATURE = EngineFeature(
    handlers={
        "transfer": JobHandler(specify_transfer_matrix),
    },
    build_commands=build_commands,
)
