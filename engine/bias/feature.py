"""Bias feature of the engine: checks after a run, by a command, or on a monitor's schedule."""

from __future__ import annotations

from collections.abc import Mapping

from engine.bias.commands import BiasCommands
from engine.bias.job_handlers import (
    list_grouped_datasets,
    queue_check_of_run,
    specify_bias_check,
    store_bias,
)
from engine.server.command import Command
from engine.server.features import CommandContext, EngineFeature
from engine.server.job_handling import JobHandler
from store.bias.config import KIND, BiasConfig
from store.core.config import Config
from store.db.database import Transaction


def build_commands(context: CommandContext) -> Mapping[str, Command]:
    return _build_bias_commands(context).table()


def queue_scheduled(context: CommandContext, tx: Transaction, check: Config) -> str:
    """Queue a scheduled check; return the job id. Raises ConfigError and StateError if it can't run now."""
    return _build_bias_commands(context).queue(tx, BiasConfig.parse(check.model_dump(exclude_none=True)))


def _build_bias_commands(context: CommandContext) -> BiasCommands:
    return BiasCommands(context.database, context.launching, context.evaluations)


FEATURE = EngineFeature(
    handlers={KIND: JobHandler(specify_bias_check, store_bias, list_grouped_datasets)},
    build_commands=build_commands,
    store_run=queue_check_of_run,
    queue_scheduled=queue_scheduled,
)
