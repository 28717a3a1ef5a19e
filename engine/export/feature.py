"""The export feature of the engine: two kinds of job, their commands, and permanent folders."""

from __future__ import annotations

from collections.abc import Mapping

from engine.export import job_handlers
from engine.export.export_commands import ExportCommands
from engine.server.command import Command
from engine.server.features import CommandContext, EngineFeature
from engine.server.job_handling import JobHandler
from store.db.database import Queryable
from store.export import exports


def build_commands(context: CommandContext) -> Mapping[str, Command]:
    return ExportCommands(context.database, context.home, context.launching, context.evaluations).table()


def names_path(db: Queryable, path: str) -> bool:
    """Whether an export owns that folder, or its zip file; exports take a free name."""
    return exports.is_named(db, path.removesuffix(".zip"))


FEATURE = EngineFeature(
    handlers={
        exports.KIND: JobHandler(
            job_handlers.specify_model_export,
            job_handlers.store_model_export,
            job_handlers.list_compared_datasets,
        ),
        exports.VERIFY: JobHandler(
            job_handlers.specify_model_verification, list_datasets=job_handlers.list_compared_datasets
        ),
    },
    build_commands=build_commands,
    names_path=names_path,
)
