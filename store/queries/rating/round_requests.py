"""Which logged requests the items of a rating round stand for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from store.contract.states import ALIVE
from store.db.named_query import named_query
from store.db.records import records
from store.documents.rating.round import RoundRequest
from store.queries.jobs import placeholders

if TYPE_CHECKING:
    from store.db.database import Queryable, Transaction

FILE = "links.parquet"  # held in the folder of the round's job: these columns
COLUMNS = pa.schema(
    [
        ("item_id", pa.int32()),
        ("endpoint_id", pa.string()),
        ("request_id", pa.string()),
        ("asked_at", pa.timestamp("us")),
        ("version", pa.string()),
        ("role", pa.string()),
        ("label", pa.string()),
        ("random", pa.bool_()),
        ("probability", pa.float64()),
        ("reasons", pa.list_(pa.string())),
    ]
)


@named_query
def of_round(db: Queryable, round_id: str) -> list[RoundRequest]:
    """By item; none for a round of other prompts."""
    sql = f"""SELECT {", ".join(COLUMNS.names)} FROM round_request WHERE round_id = ?
              ORDER BY item_id, asked_at, request_id, role"""
    return records(db.query(sql, [round_id]), RoundRequest)


def telling_items(db: Queryable, round_id: str) -> set[int]:
    """Items that are not of the random draw, and so judge nothing; none of a round of other prompts."""
    sql = "SELECT DISTINCT item_id FROM round_request WHERE round_id = ? AND NOT random"
    return set(db.query(sql, [round_id])["item_id"].to_pylist())


def being_made(db: Queryable, endpoint_id: str) -> list[str]:
    """Titles of rounds of this endpoint's requests that are not there yet."""
    alive = sorted(ALIVE)
    sql = f"""SELECT title FROM job WHERE kind = 'round' AND status IN ({placeholders(alive)})
              AND config ->> '$.round.requests.endpoint' = ? ORDER BY created_at"""
    return [str(title) for title in db.query(sql, [*alive, endpoint_id])["title"].to_pylist()]


def insert(tx: Transaction, round_id: str, rows: pa.Table) -> None:
    """With the round, in the same transaction; columns as COLUMNS."""
    with tx.table("asked_requests", rows):
        tx.execute(
            f"INSERT INTO round_request SELECT ?, {', '.join(COLUMNS.names)} FROM asked_requests", [round_id]
        )
