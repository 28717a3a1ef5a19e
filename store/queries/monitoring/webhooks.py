"""Where alerts are sent, and what became of each message."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from store.db.named_query import named_query
from store.db.records import records
from store.documents.serving.monitor import WebhookDelivery, WebhookSet

if TYPE_CHECKING:
    from store.db.database import Queryable, Transaction

ONLY = "alerts"  # the id of the webhook that there is
FURTHEST = timedelta(hours=3)  # no attempt is put off for so long: the clock was set back


@named_query
def webhook(db: Queryable) -> WebhookSet | None:
    """Where alerts are sent; None: nowhere."""
    rows = records(db.query("SELECT * FROM webhook WHERE webhook_id = ?", [ONLY]), WebhookSet)
    return rows[0] if rows else None


def secret(db: Queryable) -> str:
    """What messages are signed with; for the engine alone, as SQL of requests can't read it."""
    rows = db.query("SELECT secret FROM webhook_secret WHERE webhook_id = ?", [ONLY]).to_pylist()
    return str(rows[0]["secret"]) if rows else ""


def set_webhook(tx: Transaction, url: str, secret: str, by: str, at: datetime) -> None:
    """Another one, or none; what waits for the past one is given up."""
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


def queue(tx: Transaction, delivery_id: str, alert_id: str | None, body: str, at: datetime) -> None:
    """A message that is to be sent at once."""
    tx.execute(
        "INSERT INTO webhook_delivery VALUES (?, ?, ?, ?, 'waiting', 0, ?, NULL, NULL, ?, NULL)",
        [delivery_id, ONLY, alert_id, body, at, at],
    )


def due(db: Queryable, at: datetime, limit: int = 10) -> list[WebhookDelivery]:
    """Messages whose next attempt is due, the oldest first."""
    sql = (
        "SELECT * FROM webhook_delivery WHERE state = 'waiting' AND (next_at <= ? OR next_at > ?)"
        " ORDER BY queued_at, delivery_id LIMIT ?"
    )
    return records(db.query(sql, [at, at + FURTHEST, limit]), WebhookDelivery)


@named_query
def deliveries(db: Queryable, limit: int = 20) -> list[WebhookDelivery]:
    """The newest messages first."""
    sql = "SELECT * FROM webhook_delivery ORDER BY queued_at DESC, delivery_id LIMIT ?"
    return records(db.query(sql, [limit]), WebhookDelivery)


def note_attempt(
    tx: Transaction,
    delivery: WebhookDelivery,
    *,
    status: int | None,
    trouble: str,
    next_at: datetime | None,
    at: datetime,
) -> None:
    """How an attempt went; next_at: of the next one, None where there is none."""
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
            delivery["delivery_id"],
        ],
    )
