"""Monitoring in the engine: log ingestion, tests, and alerts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from engine.monitoring.alerts import POLL_SECONDS, WebhookSender
from engine.monitoring.checks import MonitorSchedules
from engine.monitoring.commands import MonitorCommands
from engine.monitoring.job_handlers import (
    build_judging_spec,
    build_watch_spec,
    save_judging_result,
    save_watch_result,
    stage_answers,
    stage_requests,
)
from engine.monitoring.loop import MonitoringLoop
from engine.server.command import Command
from engine.server.features import CommandContext, EngineFeature, Loop
from engine.server.job_handling import JobHandler
from store.db.database import Queryable
from store.jobs import job_queue
from store.monitoring.config import KIND as JUDGING
from store.monitoring.monitors import KIND as WATCHING


def build_commands(context: CommandContext) -> Mapping[str, Command]:
    return MonitorCommands(context.database, context.home, context.evaluations, context.clock).table()


def build_loops(context: CommandContext) -> Sequence[Loop]:
    """The monitoring loop and, separately, webhook messages: a webhook that hangs must not delay log
    ingestion."""
    monitoring = MonitoringLoop(context.database, context.home, MonitorSchedules(context), context.clock)
    sender = WebhookSender(context.database, context.home, clock=context.clock)

    def send() -> float:
        sender.step()
        return POLL_SECONDS

    return (Loop(monitoring.step), Loop(send, "webhooks", sender.stop, patience=1.0))


def list_sent_endpoints(db: Queryable) -> Iterator[Mapping[str, Any]]:
    """Judges that were called."""
    for job in job_queue.list_of_kind(db, JUDGING):
        yield job.config["judge"]


FEATURE = EngineFeature(
    handlers={
        JUDGING: JobHandler(build_judging_spec, save_judging_result, stage_inputs=stage_answers),
        WATCHING: JobHandler(build_watch_spec, save_watch_result, stage_inputs=stage_requests),
    },
    build_commands=build_commands,
    build_loops=build_loops,
    list_sent_endpoints=list_sent_endpoints,
)
