"""The map of a data set: where its rows lie, and what is drawn of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from store.config.data.filters import quoted
from store.db.named_query import named_query
from store.queries.data.explore import DatasetTable

if TYPE_CHECKING:
    from store.db.database import Queryable

DRAWN = 20_000  # points: a browser moves so many without delay
TEXT = 240  # characters of a row that hovering shows
MAX_VALUES = 2_000  # to choose from; a list of more is searched by nobody


@named_query
def points(db: Queryable, rows: DatasetTable, text: str, column: str) -> pa.Table:
    """row_id, x, y, topic, text and value (of the column) of at most `DRAWN` rows, always the same. text: the
    column of what a row says. Raises ConfigError for a column that is none."""
    relation, files = rows.relation(["x", "y", "cluster", text, column], TEXT)
    sql = (
        f"SELECT row_id, x, y, cluster AS topic, {quoted(text)} AS text, {quoted(column)} AS value"
        f" FROM ({relation}) ORDER BY hash(row_id), row_id LIMIT {DRAWN}"
    )
    return db.query(sql, files)


@named_query
def values(db: Queryable, rows: DatasetTable, column: str) -> list[str]:
    """The values of a category, the most frequent first. Raises ConfigError for a column that is none."""
    relation, files = rows.relation([column])
    name = quoted(column)
    sql = (
        f"SELECT {name}::VARCHAR AS value FROM ({relation}) WHERE {name} IS NOT NULL"
        f" GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT {MAX_VALUES}"
    )
    listed: list[str] = db.query(sql, files)["value"].to_pylist()
    return listed


@named_query
def places(db: Queryable, rows: DatasetTable) -> pa.Table:
    """row_id, x and y of every row."""
    relation, files = rows.relation(["x", "y"])
    return db.query(f"SELECT row_id, x, y FROM ({relation})", files)
