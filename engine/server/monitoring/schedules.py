"""What a monitor asks for again and again: the evaluation of the golden set, and a bias check."""

from __future__ import annotations

from collections.abc import Callable

from engine.server.scheduling.monitor_alerting import Warned, raise_alert
from engine.server.topics.bias_commands import BiasCommands
from engine.server.topics.evaluation_commands import EvaluationCommands
from store.config.serving.monitor_config import MonitorSettings
from store.contract.errors import TunebenchError
from store.contract.states import ALIVE
from store.contract.steady_clock import is_recent
from store.db.database import Database, Transaction
from store.queries import jobs
from store.queries.monitoring import golden, monitor_alerts, monitors, scheduled_bias
from store.queries.monitoring.golden import GoldenRun
from store.queries.monitoring.scheduled_bias import ScheduledCheck

BIAS, BIAS_START = "bias", "bias-start"  # subjects of its alerts: something is worse; it can't be started


class Schedules:
    """Of the monitors of one store."""

    def __init__(self, database: Database, evaluations: EvaluationCommands, bias: BiasCommands) -> None:
        self.database, self.evaluations, self.bias = database, evaluations, bias

    def ask_for_golden(self, endpoint_id: str, at: float) -> bool:
        """The evaluation, where it is due and the one before has ended."""
        settings = self._settings(endpoint_id)
        past = golden.runs(self.database, endpoint_id)
        if settings.golden is None or not _due(past, settings.golden.every_hours, at):
            return False
        evaluate = settings.golden.evaluate

        def queue(tx: Transaction) -> None:
            golden.add(tx, endpoint_id, self.evaluations.queue(tx, evaluate), jobs.utc(at))

        return self._queued(endpoint_id, "golden", "The evaluation", queue, at)

    def ask_for_bias(self, endpoint_id: str, at: float) -> bool:
        """The bias check, where it is due; and an alert where the last one found something worse."""
        settings = self._settings(endpoint_id)
        if settings.bias is None:
            return False
        past = scheduled_bias.checks(self.database, endpoint_id)
        self._warn_of_bias(endpoint_id, past, at)
        if not _due(past, settings.bias.every_hours, at):
            return False
        check = settings.bias.check

        def queue(tx: Transaction) -> None:
            scheduled_bias.add(tx, endpoint_id, self.bias.queue(tx, check), jobs.utc(at))

        return self._queued(endpoint_id, BIAS_START, "The bias check", queue, at)

    def _settings(self, endpoint_id: str) -> MonitorSettings:
        return monitors.settings(monitors.find(self.database, endpoint_id))

    def _queued(
        self, endpoint_id: str, subject: str, what: str, queue: Callable[[Transaction], None], at: float
    ) -> bool:
        try:
            with self.database.transaction() as tx:
                queue(tx)
        except TunebenchError as error:
            warned = Warned(
                "quality", subject, f"{what} on a schedule can't be started. {error.message}",
                error.fix or "Change the schedule in the settings below.", at,
            )  # fmt: skip
            with self.database.transaction() as tx:
                raise_alert(tx, endpoint_id, warned, at)
            return False
        return True

    def _warn_of_bias(self, endpoint_id: str, past: list[ScheduledCheck], at: float) -> None:
        """Of the newest that has finished, unless somebody has seen an alert since."""
        newest = next((check for check in past if check["finished_at"] is not None), None)
        if newest is None or not newest["worse"] or newest["finished_at"] is None:
            return
        seen = monitor_alerts.last_acknowledged(self.database, endpoint_id, "quality", BIAS)
        if seen is not None and seen >= newest["finished_at"]:
            return
        warned = Warned(
            "quality", BIAS,
            f"A scheduled bias check of {newest['model']} against {newest['against']}: {newest['sentence']}",
            "Look at the check on the page Evaluations, at the pairs that changed most. The version before"
            " answers meanwhile, if it is promoted back.",
            jobs.epoch(newest["finished_at"]),
        )  # fmt: skip
        with self.database.transaction() as tx:
            raise_alert(tx, endpoint_id, warned, at)


def _due(past: list[GoldenRun] | list[ScheduledCheck], every_hours: float, at: float) -> bool:
    """Whether all have ended, and none began since. One that began in a time that lies ahead did so before
    the clock was set back."""
    return all(
        each["status"] not in ALIVE and not is_recent(jobs.epoch(each["queued_at"]), at, every_hours * 3_600)
        for each in past
    )
