"""Registry feature of the engine: version numbers, and aliases that move through gates."""

from __future__ import annotations

from collections.abc import Mapping

from engine.registry.gate_commands import GateCommands
from engine.registry.version_commands import AliasCommands, RegisterCommands
from engine.registry.version_keeping import store_version
from engine.server.command import Command
from engine.server.features import CommandContext, EngineFeature
from engine.server.job_handling import JobHandler
from store.registry.config import KIND


def build_commands(context: CommandContext) -> Mapping[str, Command]:
    database, evaluations, clock = context.database, context.evaluations, context.clock
    return {
        **RegisterCommands(database, context.launching, evaluations, clock).table(),
        **AliasCommands(database, context.home, clock).table(),
        **GateCommands(database, evaluations, clock).table(),
    }


FEATURE = EngineFeature(
    handlers={KIND: JobHandler(store_result=store_version)},
    build_commands=build_commands,
)
