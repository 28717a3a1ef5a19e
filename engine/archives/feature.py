"""Archive feature of the engine: bundles are written and opened, and a run's figures compared with a
bundle's.
"""

from __future__ import annotations

from collections.abc import Mapping

from engine.archives.commands import BundleCommands
from engine.archives.job_handlers import specify_bundle, specify_reproduction, store_opened_bundle
from engine.server.command import Command
from engine.server.features import CommandContext, EngineFeature
from engine.server.job_handling import JobHandler
from store.core.errors import NotFoundError
from store.core.schemas import Job
from store.db.database import Transaction
from store.runs import runs


def list_bundled_datasets(tx: Transaction, job: Job) -> set[str]:
    """Return the data set of the bundled run, if the run still exists."""
    try:
        return {runs.get_run(tx, job.config["run"]).dataset_id}
    except NotFoundError:
        return set()


def build_commands(context: CommandContext) -> Mapping[str, Command]:
    return BundleCommands(context.database, context.launching).table()


FEATURE = EngineFeature(
    handlers={
        "bundle": JobHandler(specify_bundle, list_datasets=list_bundled_datasets),
        "open_bundle": JobHandler(store_result=store_opened_bundle),
        "reproduction": JobHandler(specify_reproduction),
    },
    build_commands=build_commands,
)
