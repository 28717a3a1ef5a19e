"""The versions of registered models as a list."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, TypedDict

from store.db.named_query import named_query
from store.db.records import records, scalar

if TYPE_CHECKING:
    from store.db.database import Queryable


class ListedVersion(TypedDict):
    """A version with the aliases that stand at it."""

    name: str  # of the model
    version: int
    aliases: list[str]
    run_id: str | None
    base_model: str | None
    adapter: bool
    notes: str
    created_by_name: str
    created_at: datetime


@named_query
def count(db: Queryable) -> int:
    """How many versions there are."""
    return int(scalar(db.query("SELECT count(*) FROM model_version")))


@named_query
def newest(db: Queryable, limit: int) -> list[ListedVersion]:
    """So many of them, those registered last first."""
    sql = """
        SELECT m.name, v.version, coalesce(a.aliases, []) AS aliases, v.run_id, v.base_model, v.adapter,
               v.notes, v.created_by_name, v.created_at
        FROM model_version v JOIN registered_model m USING (model_id)
        LEFT JOIN (
            SELECT model_id, version, list(alias ORDER BY alias) AS aliases FROM model_alias GROUP BY ALL
        ) a USING (model_id, version)
        ORDER BY v.created_at DESC, m.name, v.version DESC LIMIT ?"""
    return records(db.query(sql, [limit]), ListedVersion)
