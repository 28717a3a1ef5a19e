"""Improvements of registered models, and their schedules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from store.contract.errors import NotFoundError
from store.db.records import records
from store.documents.tables.improvement import (
    AT_WORK,
    Improvement,
    ImprovementSchedule,
    ImprovementState,
)

if TYPE_CHECKING:
    from store.db.database import Queryable

JSON_COLUMNS = ["config", "facts", "trouble"]
MOST = 200


def get(db: Queryable, name: str) -> Improvement:
    """By id, or the newest of that name. Raises NotFoundError."""
    sql = """
        SELECT * FROM improvement WHERE improvement_id = $1 OR name = $1
        ORDER BY improvement_id <> $1, begun_at DESC LIMIT 1"""
    rows = records(db.query(sql, [name]), Improvement, JSON_COLUMNS)
    if not rows:
        raise NotFoundError(
            f"There is no improvement {name!r}.",
            fix="`tunebench improvements` lists them.",
            field="improvement",
        )
    return rows[0]


def of_model(db: Queryable, model_id: str, *, limit: int = MOST) -> list[Improvement]:
    """The newest first."""
    sql = "SELECT * FROM improvement WHERE model_id = ? ORDER BY begun_at DESC, improvement_id DESC LIMIT ?"
    return records(db.query(sql, [model_id, limit]), Improvement, JSON_COLUMNS)


def in_states(db: Queryable, states: Sequence[ImprovementState] = AT_WORK) -> list[Improvement]:
    """Of all models, the oldest first."""
    sql = "SELECT * FROM improvement WHERE list_contains($1, state) ORDER BY begun_at, improvement_id"
    return records(db.query(sql, [list(states)]), Improvement, JSON_COLUMNS)


def schedule(db: Queryable, model_id: str) -> ImprovementSchedule | None:
    """The schedule of a model; None where there is none."""
    sql = "SELECT * FROM improvement_schedule WHERE model_id = ?"
    rows = records(db.query(sql, [model_id]), ImprovementSchedule, ["config", "trouble"])
    return rows[0] if rows else None
