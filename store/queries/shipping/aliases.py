"""Aliases of registered models: where they stand, who moved them, their gates, and the way back."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from store.db.named_query import named_query
from store.db.records import records, to_json
from store.documents.shipping.gate import AliasMove, GateLine
from store.documents.tables.person import Person

if TYPE_CHECKING:
    from store.db.database import Queryable, Transaction


@named_query
def standing(db: Queryable, model_id: str, alias: str) -> int | None:
    """The number of the version that has an alias; None where none has."""
    sql = "SELECT version FROM model_alias WHERE model_id = ? AND alias = ?"
    rows = db.query(sql, [model_id, alias])["version"].to_pylist()
    return int(rows[0]) if rows else None


@named_query
def moves(db: Queryable, model_id: str, alias: str = "", *, limit: int = 500) -> list[AliasMove]:
    """The log of a model, or of one alias, newest first."""
    sql = """
        SELECT * FROM alias_move WHERE model_id = $1 AND ($2 = '' OR alias = $2)
        ORDER BY moved_at DESC, move_id DESC LIMIT $3"""
    return records(db.query(sql, [model_id, alias, limit]), AliasMove, ["gate"])


@named_query
def before(db: Queryable, model_id: str, alias: str) -> int | None:
    """The version that "back" gives an alias to: that which had it before the present one got it, as far as
    it is still there. Going back twice goes two versions back, never to and fro."""
    stack: list[int] = []
    for move in reversed(moves(db, model_id, alias, limit=100_000)):
        if move["kind"] == "back":
            while stack and move["to_version"] is not None and stack[-1] != move["to_version"]:
                stack.pop()
        elif move["to_version"] is not None:
            stack.append(move["to_version"])
    present = db.query("SELECT version FROM model_version WHERE model_id = ?", [model_id])
    there = set(present["version"].to_pylist())
    current = standing(db, model_id, alias)
    earlier = [number for number in stack if number in there and number != current]
    return earlier[-1] if earlier else None


@named_query
def gate(db: Queryable, model_id: str, alias: str) -> GateLine | None:
    """What is asked of a version that is to take an alias; None where nothing was ever set."""
    sql = """
        SELECT model_id, alias, config, changed_by_name, changed_at FROM model_gate
        WHERE model_id = ? AND alias = ?"""
    return next(iter(records(db.query(sql, [model_id, alias]), GateLine, ["config"])), None)


def gates(db: Queryable, model_id: str) -> list[GateLine]:
    """All gates of a model, by alias."""
    sql = """
        SELECT model_id, alias, config, changed_by_name, changed_at FROM model_gate
        WHERE model_id = ? ORDER BY alias"""
    return records(db.query(sql, [model_id]), GateLine, ["config"])


# -- writes -----------------------------------------------------------------------------------------


def move(tx: Transaction, line: AliasMove) -> None:
    """Put an alias to its new place, and write down who did it and why."""
    tx.execute("DELETE FROM model_alias WHERE model_id = ? AND alias = ?", [line["model_id"], line["alias"]])
    if line["to_version"] is not None:
        tx.execute(
            "INSERT INTO model_alias (model_id, alias, version, moved_at) VALUES (?, ?, ?, ?)",
            [line["model_id"], line["alias"], line["to_version"], line["moved_at"]],
        )
    row: dict[str, Any] = {**line, "gate": to_json(line["gate"]) if line["gate"] else None}
    places = ", ".join(f"${name}" for name in row)
    tx.execute(f"INSERT INTO alias_move ({', '.join(row)}) VALUES ({places})", row)


def set_gate(
    tx: Transaction, model_id: str, alias: str, config: dict[str, Any], person: Person, at: datetime
) -> None:
    """Another gate in place of what there was."""
    tx.execute("DELETE FROM model_gate WHERE model_id = ? AND alias = ?", [model_id, alias])
    tx.execute(
        "INSERT INTO model_gate VALUES (?, ?, ?, ?, ?, ?)",
        [model_id, alias, to_json(config), person["person_id"], person["name"], at],
    )
