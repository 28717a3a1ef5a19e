"""Alerts of endpoints: open until somebody says that they have seen them, and one at a time of each
subject."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, TypedDict

from store.contract.errors import NotFoundError
from store.db.named_query import named_query
from store.db.records import records, scalar
from store.documents.serving.monitor import AlertKind, AlertOutcome, MonitorAlert

if TYPE_CHECKING:
    from store.db.database import Queryable, Transaction

TITLES = {
    "drift": "Something has changed",
    "quality": "Answers are worse than they may be",
    "errors": "Too many requests fail",
    "latency": "Answers take too long",
}

WORST_FIRST: tuple[AlertKind, ...] = ("errors", "latency", "quality", "drift")


class WorstAlert(MonitorAlert):
    """With the endpoint's name, and how many are open of it."""

    name: str
    n: int


class OpenAlerts(TypedDict):
    """Alerts of an endpoint that nobody has acknowledged."""

    name: str  # of the endpoint
    n: int
    worst: MonitorAlert


@named_query
def open_alerts(db: Queryable, endpoint_id: str) -> list[MonitorAlert]:
    """Those that nobody has acknowledged, the newest first."""
    sql = (
        "SELECT * FROM monitor_alert WHERE endpoint_id = ? AND acknowledged_at IS NULL"
        " ORDER BY raised_at DESC, alert_id"
    )
    return records(db.query(sql, [endpoint_id]), MonitorAlert)


@named_query
def past_alerts(db: Queryable, endpoint_id: str, limit: int = 20) -> list[MonitorAlert]:
    """Those that somebody has acknowledged, the newest first."""
    sql = (
        "SELECT * FROM monitor_alert WHERE endpoint_id = ? AND acknowledged_at IS NOT NULL"
        " ORDER BY acknowledged_at DESC, alert_id LIMIT ?"
    )
    return records(db.query(sql, [endpoint_id, limit]), MonitorAlert)


@named_query
def open_by_endpoint(db: Queryable) -> dict[str, OpenAlerts]:
    """Endpoint -> its alerts that nobody has acknowledged, where it has any."""
    severity = f"list_position({list(WORST_FIRST)!r}, kind)"
    sql = f"""
        SELECT a.*, e.name, count(*) OVER (PARTITION BY endpoint_id) AS n
        FROM monitor_alert a JOIN endpoint e USING (endpoint_id) WHERE acknowledged_at IS NULL
        QUALIFY row_number() OVER (
            PARTITION BY endpoint_id ORDER BY {severity}, raised_at DESC, alert_id
        ) = 1
        ORDER BY {severity}, name"""
    rows = records(db.query(sql), WorstAlert)
    return {row["endpoint_id"]: {"name": row["name"], "n": row["n"], "worst": row} for row in rows}


def get(db: Queryable, alert_id: str) -> MonitorAlert:
    """By id. Raises NotFoundError."""
    rows = records(db.query("SELECT * FROM monitor_alert WHERE alert_id = ?", [alert_id]), MonitorAlert)
    if not rows:
        raise NotFoundError(
            f"There is no alert {alert_id}.", fix="The page Monitor lists those that are open."
        )
    return rows[0]


@named_query
def of_endpoint(db: Queryable, alert_id: str, endpoint_id: str) -> MonitorAlert:
    """An alert of this endpoint. Raises NotFoundError (alert)."""
    try:
        alert = get(db, alert_id)
    except NotFoundError as error:
        raise NotFoundError(error.message, fix=error.fix, field="alert") from error
    if alert["endpoint_id"] != endpoint_id:
        raise NotFoundError(
            f"The alert {alert_id} is of another endpoint.", fix="Name that endpoint.", field="alert"
        )
    return alert


def is_open(db: Queryable, endpoint_id: str, kind: str, subject: str) -> bool:
    """Whether one of this subject waits for somebody already."""
    sql = (
        "SELECT count(*) FROM monitor_alert WHERE endpoint_id = ? AND kind = ? AND subject = ?"
        " AND acknowledged_at IS NULL"
    )
    return bool(scalar(db.query(sql, [endpoint_id, kind, subject])))


def last_acknowledged(db: Queryable, endpoint_id: str, kind: str, subject: str) -> datetime | None:
    """When one of this subject was acknowledged last."""
    sql = "SELECT max(acknowledged_at) FROM monitor_alert WHERE endpoint_id = ? AND kind = ? AND subject = ?"
    moment: datetime | None = scalar(db.query(sql, [endpoint_id, kind, subject]))
    return moment


def insert(tx: Transaction, alert: MonitorAlert) -> None:
    """A new alert."""
    columns = ", ".join(alert)
    marks = ", ".join("?" * len(alert))
    tx.execute(f"INSERT INTO monitor_alert ({columns}) VALUES ({marks})", list(alert.values()))


def acknowledge(
    tx: Transaction, alert_id: str, by: tuple[str, str], outcome: AlertOutcome | None, note: str, at: datetime
) -> None:
    """By a person's id and name."""
    tx.execute(
        "UPDATE monitor_alert SET acknowledged_by = ?, acknowledged_by_name = ?, outcome = ?, note = ?,"
        " acknowledged_at = ? WHERE alert_id = ?",
        [*by, outcome, note, at, alert_id],
    )
