"""Alerts of an endpoint and their webhook. At most one alert per subject is open, and its message is queued
in the same transaction.

Messages are signed, time-limited, sent only to addresses that the policy allows, and sent by their own
thread. A message that is interrupted by a crash is sent again; receivers identify duplicates by `alert_id`.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import urlsplit

import httpx

from engine.monitoring.changes import measure_change
from engine.monitoring.drift import compute_log_threshold
from engine.monitoring.endpoint_status import compute_slowdown, find_change_time
from engine.monitoring.status_text import PACE_ADVICE, describe_pace_alarm
from engine.monitoring.text import ADVICE, describe_alarm
from store.core.address_policy import AddressPolicy
from store.core.errors import ConfigError
from store.core.home import Home
from store.core.monitoring_schemas import AlertKind, MonitorAlert, PaceTest, TestState, WebhookDelivery
from store.db.database import Database, Transaction
from store.http.outgoing import create_checked_client
from store.jobs import job_queue
from store.monitoring import monitor_alerts, monitors, traffic
from store.monitoring.config import MonitorSettings
from store.monitoring.traffic import format_category_name
from store.people import settings


class AlertDetails(NamedTuple):
    """The content of an alert. since: Unix time, s; places: first and last request behind it."""

    kind: AlertKind
    subject: str
    reason: str
    advice: str
    since: float
    places: tuple[int, int] | None = None


def raise_alert(tx: Transaction, endpoint_id: str, warned: AlertDetails, at: float) -> None:
    """Store the alert and queue its message, unless an alert of the same subject is open."""
    if monitor_alerts.is_open(tx, endpoint_id, warned.kind, warned.subject):
        return
    first, last = warned.places or (None, None)
    alert = MonitorAlert(
        alert_id=job_queue.create_id("alert", at),
        endpoint_id=endpoint_id,
        kind=warned.kind,
        subject=warned.subject,
        reason=warned.reason,
        advice=warned.advice,
        first_place=first,
        last_place=last,
        since=job_queue.to_utc(warned.since),
        raised_at=job_queue.to_utc(at),
        acknowledged_by=None,
        acknowledged_by_name=None,
        acknowledged_at=None,
        outcome=None,
        note=None,
    )
    monitor_alerts.insert(tx, alert)
    if monitor_alerts.webhook(tx):
        monitor_alerts.queue_messages(
            tx,
            job_queue.create_id("message", at),
            alert.alert_id,
            _build_message(tx, alert),
            job_queue.to_utc(at),
        )


def raise_drift_alerts(
    tx: Transaction, endpoint_id: str, states: list[TestState], settings: MonitorSettings, at: float
) -> None:
    """Raise an alert for each monitored value whose test has crossed its threshold."""
    limit = compute_log_threshold(settings.alpha, len(settings.watched))
    for state in states:
        place = state.alarm_place
        if place is None or state.alarm_at is None:
            continue
        if monitor_alerts.is_open(tx, endpoint_id, "drift", state.name):
            continue
        lowest_place, lowest_at = state.lowest_place, state.lowest_at
        first = place if lowest_place is None else lowest_place
        since = state.alarm_at if lowest_at is None else lowest_at
        changed = traffic.read_values_between(tx, endpoint_id, state.name, (first, place))
        reason = describe_alarm(
            state,
            limit,
            settings.alpha,
            len(settings.watched),
            measure_change(state, changed),
            format_category_name,
        )
        warned = AlertDetails("drift", state.name, reason, ADVICE[state.name], since, (first, place))
        raise_alert(tx, endpoint_id, warned, at)


def raise_pace_alerts(
    tx: Transaction, endpoint_id: str, tests: list[PaceTest], settings: MonitorSettings, at: float
) -> None:
    """Raise latency and error rate alerts whose test has crossed its threshold."""
    for test in tests:
        place, alarm_at = test.alarm_place, test.alarm_at
        if place is None or alarm_at is None:
            continue
        since = find_change_time(test)
        first = test.since.place
        kind: AlertKind = "latency" if test.name == "slower" else "errors"
        reason = describe_pace_alarm(test, since, compute_slowdown(test), settings.alpha)
        places = (place if first is None else first, place)
        raise_alert(
            tx,
            endpoint_id,
            AlertDetails(kind, test.name, reason, PACE_ADVICE[test.name], since, places),
            at,
        )


def _build_message(tx: Transaction, alert: MonitorAlert) -> str:
    """The webhook message; it contains no request text."""
    named = [each.name for each in monitors.endpoints(tx) if each.endpoint_id == alert.endpoint_id]
    message = {
        "event": "alert",
        "alert_id": alert.alert_id,
        "endpoint": named[0] if named else alert.endpoint_id,
        "endpoint_id": alert.endpoint_id,
        "kind": alert.kind,
        "subject": alert.subject,
        "title": monitor_alerts.TITLES[alert.kind],
        "reason": alert.reason,
        "advice": alert.advice,
        "since": f"{alert.since.isoformat()}Z",
        "raised_at": f"{alert.raised_at.isoformat()}Z",
        "page": f"/monitor?endpoint={alert.endpoint_id}",
    }
    return json.dumps(message, ensure_ascii=False)


CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 10.0  # until the response headers; the body is not read
TOTAL_SECONDS = 15.0  # in total, however slow the response
SIGNATURE_HEADER = "Tunebench-Signature"


class DeliveryResult(NamedTuple):
    """status: of the response, None if there was none. trouble: why the delivery failed, empty if it
    succeeded."""

    status: int | None
    trouble: str


def sign_message(secret: str, at: float, body: str) -> str:
    """t=SECONDS,v1=HEX: HMAC-SHA256 of "SECONDS.BODY". The time protects against replays."""
    stamp = int(at)
    digest = hmac.new(secret.encode(), f"{stamp}.{body}".encode(), hashlib.sha256).hexdigest()
    return f"t={stamp},v1={digest}"


def check_url(url: str, policy: AddressPolicy) -> None:
    """Raise ConfigError (url) for an invalid webhook URL. Host names are resolved when a message is sent."""
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = -1
    if parts.scheme not in ("http", "https") or not parts.hostname or port == -1:
        raise ConfigError(
            f"{url!r} is not a valid webhook URL.",
            fix="Enter a URL that starts with https://.",
            field="url",
        )
    if parts.username or parts.password:
        raise ConfigError(
            "The URL contains a username or password.",
            fix="Remove it; messages are signed with the secret.",
            field="url",
        )
    policy.check(url, "url")


def send_message(url: str, secret: str, body: str, at: float, policy: AddressPolicy) -> DeliveryResult:
    """Send one message. A status of 200 to 299 is a success. Returns within TOTAL_SECONDS."""
    outcome: list[DeliveryResult] = []
    thread = threading.Thread(
        target=lambda: outcome.append(_send(url, secret, body, at, policy)), daemon=True
    )
    thread.start()
    thread.join(TOTAL_SECONDS)
    return outcome[0] if outcome else DeliveryResult(None, f"No response within {TOTAL_SECONDS:.0f} s.")


def _send(url: str, secret: str, body: str, at: float, policy: AddressPolicy) -> DeliveryResult:
    headers = {"Content-Type": "application/json", "User-Agent": "Tunebench"}
    headers[SIGNATURE_HEADER] = sign_message(secret, at, body)
    timeout = httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS)
    try:
        check_url(url, policy)
        with (
            create_checked_client(url, policy, timeout) as client,
            client.stream("POST", url, content=body.encode(), headers=headers) as answer,
        ):
            status = answer.status_code
    except ConfigError as error:
        return DeliveryResult(None, str(error))
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        return DeliveryResult(None, str(error) or type(error).__name__)
    if 200 <= status < 300:
        return DeliveryResult(status, "")
    moved = " Redirects are not followed." if 300 <= status < 400 else ""
    return DeliveryResult(status, f"The server returned status {status}.{moved}")


# Webhook messages have their own thread, so that a webhook that hangs delays neither jobs nor log ingestion.
#
# A message is stored before it is sent, so none is lost. A message that is interrupted by a crash is sent
# again; receivers identify duplicates by `alert_id`.

POLL_SECONDS = 2.0
RETRY_SECONDS = (10.0, 60.0, 300.0, 1_800.0, 7_200.0)  # before the second attempt, the third, …


class WebhookSender:
    """Sends due messages until stopped. post: the function that sends one message."""

    def __init__(
        self,
        database: Database,
        home: Home,
        post: Callable[[str, str, str, float, AddressPolicy], DeliveryResult] = send_message,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.database, self.home, self.post, self.clock = database, home, post, clock
        self._ended = threading.Event()

    def step(self, now: float | None = None) -> int:
        """Send due messages; returns how many."""
        at = self.clock() if now is None else now
        due = monitor_alerts.list_due_messages(self.database, job_queue.to_utc(at))
        for delivery in due:
            if self._ended.is_set():
                break
            self._deliver(delivery, at)
        return len(due)

    def stop(self) -> None:
        """Send no more messages after the current one."""
        self._ended.set()

    def _deliver(self, delivery: WebhookDelivery, at: float) -> None:
        webhook = monitor_alerts.webhook(self.database)
        if webhook is None:
            outcome = DeliveryResult(None, "The webhook was removed.")
        else:
            policy = settings.get_address_policy(self.database, self.home)
            secret = monitor_alerts.get_webhook_secret(self.database)
            outcome = self.post(webhook.url, secret, delivery.body, at, policy)
        left = delivery.attempts < len(RETRY_SECONDS) and webhook is not None
        again = job_queue.to_utc(at + RETRY_SECONDS[delivery.attempts]) if outcome.trouble and left else None
        if self._ended.is_set():
            return  # the store may be closed; the message is sent again
        with self.database.transaction() as tx:
            monitor_alerts.note_attempt(
                tx,
                delivery,
                status=outcome.status,
                trouble=outcome.trouble,
                next_at=again,
                at=job_queue.to_utc(at),
            )
