"""Endpoints: what is to be served. How one stands is told by its gateway, in its folder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from store.contract.errors import NotFoundError
from store.db.named_query import named_query
from store.db.records import records, to_json
from store.documents.serving.endpoint import EndpointRow
from store.queries import jobs

if TYPE_CHECKING:
    from store.db.database import Queryable, Transaction

_COLUMNS = (
    "endpoint_id, name, wanted, epoch(wanted_at) AS wanted_at, settings, created_by, created_by_name,"
    " epoch(created_at) AS created_at"
)


def listed(db: Queryable) -> list[EndpointRow]:
    """All of them, by name."""
    return records(
        db.query(f"SELECT {_COLUMNS} FROM endpoint ORDER BY lower(name)"), EndpointRow, ["settings"]
    )


def get(db: Queryable, endpoint: str) -> EndpointRow:
    """The endpoint with this id or name. Raises NotFoundError."""
    sql = (
        f"SELECT {_COLUMNS} FROM endpoint WHERE endpoint_id = $1 OR name = $1 ORDER BY endpoint_id = $1 DESC"
    )
    rows = records(db.query(sql, [endpoint]), EndpointRow, ["settings"])
    if not rows:
        raise NotFoundError(f"There is no endpoint {endpoint!r}.", fix="List them with: tunebench endpoints")
    return rows[0]


def names(db: Queryable) -> set[str]:
    """Those that are taken."""
    return {str(name) for name in db.query("SELECT name FROM endpoint")["name"].to_pylist()}


def add(tx: Transaction, row: EndpointRow) -> None:
    """A new one."""
    before = [row["endpoint_id"], row["name"], row["wanted"], jobs.utc(row["wanted_at"])]
    after = [to_json(row["settings"]), row["created_by"], row["created_by_name"], jobs.utc(row["created_at"])]
    tx.execute("INSERT INTO endpoint VALUES (?, ?, ?, ?, ?, ?, ?, ?)", [*before, *after])
    tx.made["endpoint"].append(row["endpoint_id"])


def set_wanted(tx: Transaction, endpoint_id: str, wanted: str, at: float) -> None:
    """Whether it is to run."""
    sql = "UPDATE endpoint SET wanted = ?, wanted_at = ? WHERE endpoint_id = ?"
    tx.execute(sql, [wanted, jobs.utc(at), endpoint_id])


def set_settings(tx: Transaction, endpoint_id: str, settings: Mapping[str, Any]) -> None:
    """Other settings."""
    tx.execute("UPDATE endpoint SET settings = ? WHERE endpoint_id = ?", [to_json(settings), endpoint_id])


def delete(tx: Transaction, endpoint_id: str) -> None:
    """It and its keys."""
    tx.execute("DELETE FROM endpoint_key WHERE endpoint_id = ?", [endpoint_id])
    tx.execute("DELETE FROM endpoint WHERE endpoint_id = ?", [endpoint_id])


@named_query
def servable_aliases(db: Queryable) -> list[str]:
    """NAME@ALIAS of all registered models, by name."""
    sql = """
        SELECT m.name || '@' || a.alias AS reference
        FROM model_alias a JOIN registered_model m USING (model_id) ORDER BY lower(m.name), a.alias"""
    return [str(reference) for reference in db.query(sql)["reference"].to_pylist()]
