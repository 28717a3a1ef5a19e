"""Keys of endpoints, each known by the SHA-256 of its secret. For the engine alone."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, TypedDict

from store.contract.errors import NotFoundError
from store.db.records import records
from store.documents.serving.endpoint import EndpointKey, GatewayKey

if TYPE_CHECKING:
    from store.db.database import Queryable, Transaction

_SEEN = """
    SELECT key_id, endpoint_id, person_id, person_name, name, requests_per_minute, tokens_per_day,
           epoch(created_at) AS created_at, epoch(used_at) AS used_at, epoch(revoked_at) AS revoked_at
    FROM endpoint_key
"""


class NewEndpointKey(TypedDict):
    """A row of table `endpoint_key`, in its order, without use and end."""

    key_id: str
    endpoint_id: str
    person_id: str
    person_name: str
    name: str
    secret: str
    requests_per_minute: int | None
    tokens_per_day: int | None
    created_at: datetime


def add(tx: Transaction, key: NewEndpointKey) -> None:
    """A new key."""
    tx.execute("INSERT INTO endpoint_key VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, NULL, NULL)", list(key.values()))


def of_endpoint(db: Queryable, endpoint_id: str) -> list[EndpointKey]:
    """All keys of one, those that work first, newest first."""
    order = "ORDER BY endpoint_key.revoked_at IS NOT NULL, endpoint_key.created_at DESC, key_id"
    return records(db.query(f"{_SEEN} WHERE endpoint_id = ? {order}", [endpoint_id]), EndpointKey)


def get(db: Queryable, key_id: str) -> EndpointKey:
    """One key. Raises NotFoundError."""
    rows = records(db.query(f"{_SEEN} WHERE key_id = ?", [key_id]), EndpointKey)
    if not rows:
        raise NotFoundError(f"There is no key {key_id!r}.", fix="`tunebench endpoint keys NAME` lists them.")
    return rows[0]


def for_gateway(db: Queryable, endpoint_id: str) -> list[GatewayKey]:
    """Those that work, of people who may sign in; the owner of the home folder has no account."""
    sql = """
        SELECT k.key_id, k.secret AS sha256, k.person_id, k.requests_per_minute, k.tokens_per_day
        FROM endpoint_key k LEFT JOIN person p USING (person_id)
        WHERE k.endpoint_id = ? AND k.revoked_at IS NULL AND coalesce(p.active, true) ORDER BY k.key_id
    """
    return records(db.query(sql, [endpoint_id]), GatewayKey)


def revoke(tx: Transaction, key_id: str, at: datetime) -> None:
    """It opens nothing from now on."""
    tx.execute("UPDATE endpoint_key SET revoked_at = ? WHERE key_id = ? AND revoked_at IS NULL", [at, key_id])


def touch(tx: Transaction, key_id: str, at: datetime) -> None:
    """It was used last then."""
    tx.execute("UPDATE endpoint_key SET used_at = ? WHERE key_id = ?", [at, key_id])
