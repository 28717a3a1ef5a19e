"""Alerts of endpoints and the webhook they are sent to. At most one alert per kind and subject is open."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, TypedDict

from store.core.errors import NotFoundError
from store.core.monitoring_schemas import (
    AlertKind,
    AlertOutcome,
    MonitorAlert,
    WebhookDelivery,
    WebhookSettings,
)
from store.db.named_query import named_query
from store.db.records import read_records, read_scalar

if TYPE_CHECKING:
    from store.db.database import Queryable, Transaction

TITLES = {
    "drift": "Drift detected",
    "quality": "Quality issue",
    "errors": "High error rate",
    "latency": "High latency",
}

WORST_FIRST: tuple[AlertKind, ...] = ("errors", "latency", "quality", "drift")


@dataclass(kw_only=True)
class WorstAlert(MonitorAlert):
    """The most severe open alert, with the endpoint's name and the number of open alerts."""

    name: str
    n: int


class OpenAlerts(TypedDict):
    """Open alerts of an endpoint."""

    name: str  # of the endpoint
    n: int
    worst: WorstAlert


@named_query
def open_alerts(db: Queryable, endpoint_id: str) -> list[MonitorAlert]:
    """Open alerts, the newest first."""
    sql = (
        "SELECT * FROM monitor_alert WHERE endpoint_id = ? AND acknowledged_at IS NULL"
        " ORDER BY raised_at DESC, alert_id"
    )
    return read_records(db.query(sql, [endpoint_id]), MonitorAlert)


@named_query
def past_alerts(db: Queryable, endpoint_id: str, limit: int = 20) -> list[MonitorAlert]:
    """Acknowledged alerts, the newest first."""
    sql = (
        "SELECT * FROM monitor_alert WHERE endpoint_id = ? AND acknowledged_at IS NOT NULL"
        " ORDER BY acknowledged_at DESC, alert_id LIMIT ?"
    )
    return read_records(db.query(sql, [endpoint_id, limit]), MonitorAlert)


@named_query
def open_by_endpoint(db: Queryable) -> dict[str, OpenAlerts]:
    """Endpoint id -> its open alerts, if any."""
    severity = f"list_position({list(WORST_FIRST)!r}, kind)"
    sql = f"""
        SELECT a.*, e.name, count(*) OVER (PARTITION BY endpoint_id) AS n
        FROM monitor_alert a JOIN endpoint e USING (endpoint_id) WHERE acknowledged_at IS NULL
        QUALIFY row_number() OVER (
            PARTITION BY endpoint_id ORDER BY {severity}, raised_at DESC, alert_id
        ) = 1
        ORDER BY {severity}, name"""
    rows = read_records(db.query(sql), WorstAlert)
    return {row.endpoint_id: {"name": row.name, "n": row.n, "worst": row} for row in rows}


def get(db: Queryable, alert_id: str) -> MonitorAlert:
    """By id. Raises NotFoundError."""
    rows = read_records(db.query("SELECT * FROM monitor_alert WHERE alert_id = ?", [alert_id]), MonitorAlert)
    if not rows:
        raise NotFoundError(
            f"Alert {alert_id} does not exist.", fix="Open alerts are listed on the Monitor page."
        )
    return rows[0]


@named_query
def of_endpoint(db: Queryable, alert_id: str, endpoint_id: str) -> MonitorAlert:
    """An alert of this endpoint. Raises NotFoundError (alert)."""
    try:
        alert = get(db, alert_id)
    except NotFoundError as error:
        raise NotFoundError(error.message, fix=error.fix, field="alert") from error
    if alert.endpoint_id != endpoint_id:
        raise NotFoundError(
            f"Alert {alert_id} belongs to another endpoint.", fix="Use that endpoint.", field="alert"
        )
    return alert


def is_open(db: Queryable, endpoint_id: str, kind: str, subject: str) -> bool:
    """Whether an alert of this subject is open."""
    sql = (
        "SELECT count(*) FROM monitor_alert WHERE endpoint_id = ? AND kind = ? AND subject = ?"
        " AND acknowledged_at IS NULL"
    )
    return bool(read_scalar(db.query(sql, [endpoint_id, kind, subject])))


def find_last_acknowledged(db: Queryable, endpoint_id: str, kind: str, subject: str) -> datetime | None:
    """When an alert of this subject was last acknowledged."""
    sql = "SELECT max(acknowledged_at) FROM monitor_alert WHERE endpoint_id = ? AND kind = ? AND subject = ?"
    moment: datetime | None = read_scalar(db.query(sql, [endpoint_id, kind, subject]))
    return moment


def insert(tx: Transaction, alert: MonitorAlert) -> None:
    """Store a new alert."""
    row = vars(alert)
    places = ", ".join(f"${name}" for name in row)
    tx.execute(f"INSERT INTO monitor_alert ({', '.join(row)}) VALUES ({places})", row)


def acknowledge(
    tx: Transaction, alert_id: str, by: tuple[str, str], outcome: AlertOutcome | None, note: str, at: datetime
) -> None:
    """Acknowledge an alert. by: id and name of a person."""
    tx.execute(
        "UPDATE monitor_alert SET acknowledged_by = ?, acknowledged_by_name = ?, outcome = ?, note = ?,"
        " acknowledged_at = ? WHERE alert_id = ?",
        [*by, outcome, note, at, alert_id],
    )


ONLY = "alerts"  # id of the only webhook
FURTHEST = timedelta(hours=3)  # no attempt is this far ahead unless the clock was set back


@named_query
def webhook(db: Queryable) -> WebhookSettings | None:
    """The webhook; None if not set."""
    rows = read_records(db.query("SELECT * FROM webhook WHERE webhook_id = ?", [ONLY]), WebhookSettings)
    return rows[0] if rows else None


def get_webhook_secret(db: Queryable) -> str:
    """The secret that signs messages. Only the engine can read it; SQL of requests cannot."""
    rows = db.query("SELECT secret FROM webhook_secret WHERE webhook_id = ?", [ONLY]).to_pylist()
    return str(rows[0]["secret"]) if rows else ""


def set_webhook(tx: Transaction, url: str, secret: str, by: str, at: datetime) -> None:
    """Set or remove the webhook. Pending messages to the previous one are dropped."""
    tx.execute(
        "UPDATE webhook_delivery SET state = 'given_up', trouble = 'The webhook was changed.', ended_at = ?"
        " WHERE state = 'waiting'",
        [at],
    )
    tx.execute("DELETE FROM webhook")
    tx.execute("DELETE FROM webhook_secret")
    if url:
        tx.execute("INSERT INTO webhook VALUES (?, ?, ?, ?)", [ONLY, url, by, at])
        tx.execute("INSERT INTO webhook_secret VALUES (?, ?)", [ONLY, secret])


def queue_messages(tx: Transaction, delivery_id: str, alert_id: str | None, body: str, at: datetime) -> None:
    """Queue a message to send now."""
    tx.execute(
        "INSERT INTO webhook_delivery VALUES (?, ?, ?, ?, 'waiting', 0, ?, NULL, NULL, ?, NULL)",
        [delivery_id, ONLY, alert_id, body, at, at],
    )


def list_due_messages(db: Queryable, at: datetime, limit: int = 10) -> list[WebhookDelivery]:
    """Messages whose next attempt is due, the oldest first."""
    sql = (
        "SELECT * FROM webhook_delivery WHERE state = 'waiting' AND (next_at <= ? OR next_at > ?)"
        " ORDER BY queued_at, delivery_id LIMIT ?"
    )
    return read_records(db.query(sql, [at, at + FURTHEST, limit]), WebhookDelivery)


@named_query
def deliveries(db: Queryable, limit: int = 20) -> list[WebhookDelivery]:
    """Messages, the newest first."""
    sql = "SELECT * FROM webhook_delivery ORDER BY queued_at DESC, delivery_id LIMIT ?"
    return read_records(db.query(sql, [limit]), WebhookDelivery)


def note_attempt(
    tx: Transaction,
    delivery: WebhookDelivery,
    *,
    status: int | None,
    trouble: str,
    next_at: datetime | None,
    at: datetime,
) -> None:
    """Record an attempt. next_at: of the next one, None if there is none."""
    sent = not trouble
    state = "sent" if sent else "given_up" if next_at is None else "waiting"
    tx.execute(
        "UPDATE webhook_delivery SET state = ?, attempts = attempts + 1, next_at = coalesce(?, next_at),"
        " status = ?,"
        " trouble = ?, ended_at = ? WHERE delivery_id = ? AND state = 'waiting'",
        [
            state,
            next_at,
            status,
            trouble or None,
            None if state == "waiting" else at,
            delivery.delivery_id,
        ],
    )
