"""An alert of an endpoint: raised once of each subject, and sent to the webhook in the same transaction."""

from __future__ import annotations

import json
from typing import NamedTuple

from engine.diagnostics.drift.drift_words import ADVICE, alarm_reason
from engine.diagnostics.drift.pace_words import PACE_ADVICE, changed_at, pace_reason
from engine.diagnostics.drift.watching import threshold
from store.config.serving.monitor_config import MonitorSettings
from store.db.database import Transaction
from store.documents.serving.drift import PaceTest, TestState
from store.documents.serving.monitor import AlertKind, MonitorAlert
from store.queries import jobs
from store.queries.monitoring import monitor_alerts, monitors, signal_counts, webhooks
from store.words.watched_names import readable_name


class Warned(NamedTuple):
    """What an alert says. since: Unix time, s; places: of the requests behind it."""

    kind: AlertKind
    subject: str
    reason: str
    advice: str
    since: float
    places: tuple[int, int] | None = None


def raise_alert(tx: Transaction, endpoint_id: str, warned: Warned, at: float) -> None:
    """Keep the alert and queue its message, unless one of the same subject is open."""
    if monitor_alerts.is_open(tx, endpoint_id, warned.kind, warned.subject):
        return
    first, last = warned.places or (None, None)
    alert: MonitorAlert = {
        "alert_id": jobs.new_id("alert", at),
        "endpoint_id": endpoint_id,
        "kind": warned.kind,
        "subject": warned.subject,
        "reason": warned.reason,
        "advice": warned.advice,
        "first_place": first,
        "last_place": last,
        "since": jobs.utc(warned.since),
        "raised_at": jobs.utc(at),
        "acknowledged_by": None,
        "acknowledged_by_name": None,
        "acknowledged_at": None,
        "outcome": None,
        "note": None,
    }
    monitor_alerts.insert(tx, alert)
    if webhooks.webhook(tx):
        webhooks.queue(tx, jobs.new_id("message", at), alert["alert_id"], _message(tx, alert), jobs.utc(at))


def raise_drift(
    tx: Transaction, endpoint_id: str, states: list[TestState], settings: MonitorSettings, at: float
) -> None:
    """Of each watched value whose test has gone over its threshold."""
    limit = threshold(settings.alpha, len(settings.watched))
    for state in states:
        place = state["alarm_place"]
        if place is None or state["alarm_at"] is None:
            continue
        if monitor_alerts.is_open(tx, endpoint_id, "drift", state["name"]):
            continue
        lowest_place, lowest_at = state["lowest_place"], state["lowest_at"]
        first = place if lowest_place is None else lowest_place
        since = state["alarm_at"] if lowest_at is None else lowest_at
        changed = signal_counts.values_between(tx, endpoint_id, state["name"], (first, place))
        reason = alarm_reason(state, limit, settings.alpha, len(settings.watched), changed, readable_name)
        warned = Warned("drift", state["name"], reason, ADVICE[state["name"]], since, (first, place))
        raise_alert(tx, endpoint_id, warned, at)


def raise_pace(
    tx: Transaction, endpoint_id: str, tests: list[PaceTest], settings: MonitorSettings, at: float
) -> None:
    """Of answers that are slower, and of more failures, where their test has gone over its threshold."""
    for test in tests:
        place, alarm_at = test["alarm_place"], test["alarm_at"]
        if place is None or alarm_at is None:
            continue
        since = changed_at(test)
        first = test["since"]["place"]
        kind: AlertKind = "latency" if test["name"] == "slower" else "errors"
        reason = pace_reason(test, settings.alpha)
        places = (place if first is None else first, place)
        raise_alert(
            tx, endpoint_id, Warned(kind, test["name"], reason, PACE_ADVICE[test["name"]], since, places), at
        )


def _message(tx: Transaction, alert: MonitorAlert) -> str:
    """As the webhook gets it: no text of a request."""
    named = [each["name"] for each in monitors.endpoints(tx) if each["endpoint_id"] == alert["endpoint_id"]]
    message = {
        "event": "alert",
        "alert_id": alert["alert_id"],
        "endpoint": named[0] if named else alert["endpoint_id"],
        "endpoint_id": alert["endpoint_id"],
        "kind": alert["kind"],
        "subject": alert["subject"],
        "title": monitor_alerts.TITLES[alert["kind"]],
        "reason": alert["reason"],
        "advice": alert["advice"],
        "since": f"{alert['since'].isoformat()}Z",
        "raised_at": f"{alert['raised_at'].isoformat()}Z",
        "page": f"/monitor?endpoint={alert['endpoint_id']}",
    }
    return json.dumps(message, ensure_ascii=False)
