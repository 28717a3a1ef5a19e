"""Commands of monitors: settings, acknowledging alerts, judging requests, and the alert webhook."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

from engine.monitoring import sequential_tests
from engine.monitoring.alerts import check_url
from engine.monitoring.checks import SUBJECT
from engine.monitoring.drift import WATCHED_SIGNALS, restart_test
from engine.monitoring.sequential_tests import PACES
from engine.server.command import ActivitySubject, Command
from engine.server.evaluation_commands import EvaluationCommands
from store.core.config import Config
from store.core.errors import ConfigError, NotFoundError, StateError
from store.core.home import Home
from store.core.job_kinds import ALIVE
from store.core.monitoring_schemas import AlertOutcome, TestState
from store.core.schemas import Person
from store.data import datasets
from store.db.database import Database, Queryable, Transaction
from store.evaluation import evaluations
from store.http.schemas import EmptyAnswer, JobQueued
from store.jobs import job_queue
from store.monitoring import logged_requests, monitor_alerts, monitors, side_by_side
from store.monitoring.config import (
    KIND,
    AlertAcknowledgement,
    JudgeRequests,
    MonitorConfig,
    MonitorSettings,
    RequestJudgingConfig,
    Webhook,
)
from store.monitoring.logged_requests import JudgingWindow
from store.people import settings

MIN_SECRET = 16  # characters


class WebhookTrial(Config):
    """An empty body."""


class MonitorCommands:
    """Commands of monitors on one store."""

    def __init__(
        self,
        database: Database,
        home: Home,
        evaluation_commands: EvaluationCommands,
        clock: Callable[[], float],
    ) -> None:
        self.database, self.home, self.clock = database, home, clock
        self.evaluations = evaluation_commands

    def table(self) -> dict[str, Command]:
        """Commands by name."""
        return {
            "set_monitor": Command(MonitorConfig, self.set_monitor, _find_endpoint_subject, by_person=True),
            "acknowledge_alert": Command(
                AlertAcknowledgement, self.acknowledge_alert, _find_alert_subject, by_person=True
            ),
            "judge_requests": Command(
                JudgeRequests, self.judge_requests, _find_judging_subject, makes_work=True
            ),
            "set_webhook": Command(Webhook, self.set_webhook, _find_webhook_subject, by_person=True),
            "try_webhook": Command(WebhookTrial, self.try_webhook, _find_webhook_subject),
        }

    def set_monitor(self, body: MonitorConfig, person: Person) -> EmptyAnswer:
        """Replace the settings. Tests restart if a setting that they depend on has changed. Raises
        NotFoundError and ConfigError with the field at fault."""
        with self.database.transaction() as tx:
            endpoint = monitors.endpoint(tx, body.endpoint)
            settings = self._resolved(tx, body.settings)
            at = job_queue.to_utc(self.clock())
            monitors.configure(tx, endpoint.endpoint_id, settings, person.name, at)
        return {}

    def _resolved(self, tx: Transaction, settings: MonitorSettings) -> MonitorSettings:
        """Settings with ids instead of names, which may change."""
        changes: dict[str, str] = {}
        try:
            if settings.reference == "dataset":
                changes["dataset"] = datasets.get_dataset(tx, settings.dataset).dataset_id
            elif settings.reference == "evaluation":
                changes["evaluation"] = evaluations.get(tx, settings.evaluation).evaluation_id
            if settings.golden:
                self.evaluations.checked_run(tx, settings.golden.evaluate)
        except NotFoundError as error:
            raise ConfigError(error.message, fix=error.fix, field=settings.reference) from error
        return settings.model_copy(update=changes)

    def acknowledge_alert(self, body: AlertAcknowledgement, person: Person) -> EmptyAnswer:
        """Acknowledge an alert and restart the test that raised it. Raises StateError if it is already
        acknowledged."""
        with self.database.transaction() as tx:
            alert = monitor_alerts.get(tx, body.alert)
            if alert.acknowledged_at is not None:
                raise StateError(
                    f"{alert.acknowledged_by_name} has already acknowledged this alert.",
                    fix="Reload the page.",
                )
            is_test = alert.kind == "drift" or alert.subject in PACES
            outcome = body.outcome if is_test else None
            by = person.person_id, person.name
            at = job_queue.to_utc(self.clock())
            monitor_alerts.acknowledge(tx, body.alert, by, outcome, body.note, at)
            if outcome is not None:
                _restart_test(tx, alert.endpoint_id, alert.subject, outcome)
            if (alert.kind, alert.subject) == ("quality", SUBJECT):  # restarts the comparison
                for pair in side_by_side.listed(tx, alert.endpoint_id):
                    if pair.role == SUBJECT:
                        side_by_side.end(tx, pair, at)
        return {}

    def judge_requests(self, body: JudgeRequests) -> JobQueued:
        """Queue a judge run on logged responses. Raises NotFoundError, and StateError if one is already
        queued or running."""
        at = self.clock()
        with self.database.transaction() as tx:
            endpoint = monitors.endpoint(tx, body.endpoint)
            past = logged_requests.judgings(tx, endpoint.endpoint_id)
            if any(job.status in ALIVE for job in past):
                raise StateError(
                    f"A judge is already running for {endpoint.name}.", fix="Wait until it finishes."
                )
            end = job_queue.to_utc(at)
            window = JudgingWindow(endpoint.endpoint_id, end - timedelta(hours=body.hours), end)
            judge = body.judge
            if "max_calls" not in judge.model_fields_set:  # enough for all responses
                answers = body.rows + logged_requests.list_rated_answers(tx, window)
                judge = judge.model_copy(update={"max_calls": answers * (1 + judge.retries)})
            place = {"endpoint": window.endpoint_id, "start": window.start, "end": end}
            asked = RequestJudgingConfig.parse(body.model_dump() | {"judge": judge.model_dump()} | place)
            job_id, title = job_queue.create_id("job", at), f"Judge requests of {endpoint.name}"
            document = asked.model_dump(mode="json", exclude_none=True)
            job_queue.insert(tx, job_queue.NewJob(job_id, KIND, title, document, at))
        return {"job_id": job_id}

    def set_webhook(self, body: Webhook, person: Person) -> EmptyAnswer:
        """Set the webhook; an empty URL removes it. Raises ConfigError (url, secret)."""
        if body.url:
            check_url(body.url, settings.get_address_policy(self.database, self.home))
            if len(body.secret) < MIN_SECRET:
                raise ConfigError(
                    f"secret has {len(body.secret)} characters; at least {MIN_SECRET} are required.",
                    fix="Use a longer secret, and the same one on the receiving server.",
                    field="secret",
                )
        with self.database.transaction() as tx:
            monitor_alerts.set_webhook(tx, body.url, body.secret, person.name, job_queue.to_utc(self.clock()))
        return {}

    def try_webhook(self, body: WebhookTrial) -> EmptyAnswer:
        """Queue a test message. Raises StateError if no webhook is set."""
        at = self.clock()
        with self.database.transaction() as tx:
            if monitor_alerts.webhook(tx) is None:
                raise StateError("No webhook is set.", fix="Set a webhook first.")
            message = json.dumps({"event": "trial", "sent_at": f"{job_queue.to_utc(at).isoformat()}Z"})
            monitor_alerts.queue_messages(
                tx, job_queue.create_id("message", at), None, message, job_queue.to_utc(at)
            )
        return {}


def _restart_test(tx: Transaction, endpoint_id: str, name: str, outcome: AlertOutcome) -> None:
    monitor = monitors.find(tx, endpoint_id)
    if monitor is None:
        return
    same = outcome == "same_reference"

    def next_state(state: TestState) -> TestState:
        return restart_test(state, same_reference=same) if state.name == name else state

    if name in PACES and monitor.pace:
        tests = [
            sequential_tests.restart_pace_test(test, same_reference=same) if test.name == name else test
            for test in monitor.pace.tests
        ]
        monitors.save_pace(tx, endpoint_id, replace(monitor.pace, tests=tests))
        return
    monitors.restart_tests(tx, endpoint_id, [next_state(state) for state in monitor.states])


def _find_endpoint_subject(db: Queryable, body: MonitorConfig, _: Person) -> ActivitySubject:
    endpoint = monitors.endpoint(db, body.endpoint)
    return ActivitySubject("setting", f"monitor-{endpoint.endpoint_id}", f"the monitor of {endpoint.name}")


def _find_judging_subject(db: Queryable, body: JudgeRequests) -> ActivitySubject:
    endpoint = monitors.endpoint(db, body.endpoint)
    return ActivitySubject("setting", f"monitor-{endpoint.endpoint_id}", endpoint.name)


def _find_alert_subject(db: Queryable, body: AlertAcknowledgement, _: Person) -> ActivitySubject:
    alert = monitor_alerts.get(db, body.alert)
    named = [each.name for each in monitors.endpoints(db) if each.endpoint_id == alert.endpoint_id]
    name = named[0] if named else alert.endpoint_id
    watched = [each.noun for each in WATCHED_SIGNALS.values() if each.name == alert.subject]
    detail = watched[0] if watched else alert.kind
    return ActivitySubject("setting", f"monitor-{alert.endpoint_id}", f"the monitor of {name}", detail)


def _find_webhook_subject(*_: object) -> ActivitySubject:
    return ActivitySubject("setting", "webhook", "the alert webhook")
