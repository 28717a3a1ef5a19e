"""Endpoints and their keys in the store; a key is stored as the SHA-256 of its secret."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypedDict

from store.core.errors import NotFoundError
from store.db.named_query import named_query
from store.db.records import read_records, to_json
from store.jobs import job_queue
from store.serving.schemas import EndpointKey, EndpointRow, GatewayKey

if TYPE_CHECKING:
    from store.db.database import Queryable, Transaction

_COLUMNS = (
    "endpoint_id, name, wanted, epoch(wanted_at) AS wanted_at, settings, created_by, created_by_name,"
    " epoch(created_at) AS created_at"
)


def listed(db: Queryable) -> list[EndpointRow]:
    """Return all endpoints, sorted by name."""
    return read_records(
        db.query(f"SELECT {_COLUMNS} FROM endpoint ORDER BY lower(name)"), EndpointRow, ["settings"]
    )


def get(db: Queryable, endpoint: str) -> EndpointRow:
    """Return the endpoint with this id or name. Raises NotFoundError."""
    sql = (
        f"SELECT {_COLUMNS} FROM endpoint WHERE endpoint_id = $1 OR name = $1 ORDER BY endpoint_id = $1 DESC"
    )
    rows = read_records(db.query(sql, [endpoint]), EndpointRow, ["settings"])
    if not rows:
        raise NotFoundError(f"There is no endpoint {endpoint!r}.", fix="List them with: tunebench endpoints")
    return rows[0]


def list_names(db: Queryable) -> set[str]:
    """Return the names in use."""
    return {str(name) for name in db.query("SELECT name FROM endpoint")["name"].to_pylist()}


def add(tx: Transaction, row: EndpointRow) -> None:
    """Insert an endpoint."""
    first_columns = [row.endpoint_id, row.name, row.wanted, job_queue.to_utc(row.wanted_at)]
    last_columns = [
        to_json(row.settings),
        row.created_by,
        row.created_by_name,
        job_queue.to_utc(row.created_at),
    ]
    tx.execute("INSERT INTO endpoint VALUES (?, ?, ?, ?, ?, ?, ?, ?)", [*first_columns, *last_columns])
    tx.made["endpoint"].append(row.endpoint_id)


def set_running(tx: Transaction, endpoint_id: str, wanted: str, at: float) -> None:
    """Set whether the endpoint should run."""
    sql = "UPDATE endpoint SET wanted = ?, wanted_at = ? WHERE endpoint_id = ?"
    tx.execute(sql, [wanted, job_queue.to_utc(at), endpoint_id])


def set_settings(tx: Transaction, endpoint_id: str, settings: Mapping[str, Any]) -> None:
    """Replace the settings."""
    tx.execute("UPDATE endpoint SET settings = ? WHERE endpoint_id = ?", [to_json(settings), endpoint_id])


def delete(tx: Transaction, endpoint_id: str) -> None:
    """Delete an endpoint and its keys."""
    tx.execute("DELETE FROM endpoint_key WHERE endpoint_id = ?", [endpoint_id])
    tx.execute("DELETE FROM endpoint WHERE endpoint_id = ?", [endpoint_id])


@named_query
def servable_aliases(db: Queryable) -> list[str]:
    """Return NAME@ALIAS for all registered models, sorted by name."""
    sql = """
        SELECT m.name || '@' || a.alias AS reference
        FROM model_alias a JOIN registered_model m USING (model_id) ORDER BY lower(m.name), a.alias"""
    return [str(reference) for reference in db.query(sql)["reference"].to_pylist()]


_KEY_SEEN = """
    SELECT key_id, endpoint_id, person_id, person_name, name, requests_per_minute, tokens_per_day,
           epoch(created_at) AS created_at, epoch(used_at) AS used_at, epoch(revoked_at) AS revoked_at
    FROM endpoint_key
"""


class NewEndpointKey(TypedDict):
    """A row of table `endpoint_key`, in column order, without the times of use and revocation."""

    key_id: str
    endpoint_id: str
    person_id: str
    person_name: str
    name: str
    secret: str
    requests_per_minute: int | None
    tokens_per_day: int | None
    created_at: datetime


def add_key(tx: Transaction, key: NewEndpointKey) -> None:
    """Insert a key."""
    tx.execute("INSERT INTO endpoint_key VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, NULL, NULL)", list(key.values()))


def list_keys(db: Queryable, endpoint_id: str) -> list[EndpointKey]:
    """Return all keys of an endpoint, valid ones first, then newest first."""
    order = "ORDER BY endpoint_key.revoked_at IS NOT NULL, endpoint_key.created_at DESC, key_id"
    return read_records(db.query(f"{_KEY_SEEN} WHERE endpoint_id = ? {order}", [endpoint_id]), EndpointKey)


def get_key(db: Queryable, key_id: str) -> EndpointKey:
    """Return a key. Raises NotFoundError."""
    rows = read_records(db.query(f"{_KEY_SEEN} WHERE key_id = ?", [key_id]), EndpointKey)
    if not rows:
        raise NotFoundError(f"There is no key {key_id!r}.", fix="`tunebench endpoint keys NAME` lists them.")
    return rows[0]


def list_gateway_keys(db: Queryable, endpoint_id: str) -> list[GatewayKey]:
    """Return valid keys of active people; the owner of the home folder has no account."""
    sql = """
        SELECT k.key_id, k.secret AS sha256, k.person_id, k.requests_per_minute, k.tokens_per_day
        FROM endpoint_key k LEFT JOIN person p USING (person_id)
        WHERE k.endpoint_id = ? AND k.revoked_at IS NULL AND coalesce(p.active, true) ORDER BY k.key_id
    """
    return read_records(db.query(sql, [endpoint_id]), GatewayKey)


def revoke_key(tx: Transaction, key_id: str, at: datetime) -> None:
    """Revoke a key."""
    tx.execute("UPDATE endpoint_key SET revoked_at = ? WHERE key_id = ? AND revoked_at IS NULL", [at, key_id])


def touch_key(tx: Transaction, key_id: str, at: datetime) -> None:
    """Record when a key was last used."""
    tx.execute("UPDATE endpoint_key SET used_at = ? WHERE key_id = ?", [at, key_id])
