"""Retraining feature of the engine: improvements of registered models, and the rows that they gather."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from engine.registry.gate_commands import GateCommands
from engine.registry.version_commands import AliasCommands, RegisterCommands
from engine.retraining.commands import ImproveCommands
from engine.retraining.initiation import ImprovementStarter
from engine.retraining.job_handlers import (
    check_job_not_improving,
    list_feedback_datasets,
    store_feedback_rows,
)
from engine.retraining.job_spec import build_feedback_spec, stage_candidates
from engine.retraining.loop import ImprovementLoop, ImprovementQueues
from engine.server.command import Command
from engine.server.features import CommandContext, EngineFeature, Loop
from engine.server.job_handling import JobHandler
from store.retraining.improvements import check_not_improving, check_split_unchanged


def build_commands(context: CommandContext) -> Mapping[str, Command]:
    database, clock = context.database, context.clock
    aliases = AliasCommands(database, context.home, clock)
    return ImproveCommands(database, aliases, ImprovementStarter(clock), context.requeue, clock).table()


def build_loop(context: CommandContext) -> ImprovementLoop:
    """Build the loop that runs improvements, which queues work as the commands do."""
    database, clock, launching = context.database, context.clock, context.launching
    work = ImprovementQueues(
        launching,
        GateCommands(database, context.evaluations, clock),
        RegisterCommands(database, launching, context.evaluations, clock),
    )
    return ImprovementLoop(database, work, ImprovementStarter(clock), wake=context.wake, clock=clock)


def build_loops(context: CommandContext) -> Sequence[Loop]:
    """Return the loop, for a thread of its own: previewing a launch takes seconds, which would block the
    queue.

    When the engine stops, its asks end too, so a running step finishes soon.
    """
    return (Loop(build_loop(context).step, "improving"),)


FEATURE = EngineFeature(
    handlers={
        "gather_rows": JobHandler(
            build_feedback_spec, store_feedback_rows, list_feedback_datasets, stage_candidates
        ),
    },
    build_commands=build_commands,
    build_loops=build_loops,
    check_dataset_unused=check_not_improving,
    check_split_unchanged=check_split_unchanged,
    check_job_unused=check_job_not_improving,
)
