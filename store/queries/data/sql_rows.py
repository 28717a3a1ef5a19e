"""The table `rows` of a data set as SQL that people write sees it: the file's own columns by their own names,
beside those of every data set and what was measured.

The file's names come first: where it has a column `text` or `language`, that is what these names mean, and
Tunebench's own is `tunebench_text` (SQL does not tell case apart). Only `row_id` is always the number of the
row. Whether a statement may run is the engine's to say (`store.db.sql_guard`).
"""

from __future__ import annotations

import re
from typing import Any

from store.config.data.filters import SOURCE, quoted
from store.queries.data.explore import DatasetTable

# A statement longer than this, with all columns of a wide file, names those alone that the user's text names.
MOST_BYTES = 32 * 1024
_PLAIN = re.compile(r"[a-z_][a-z0-9_]*", re.IGNORECASE)
_WORDS = """
all analyse analyze and any array as asc asymmetric both case cast check collate column constraint create
default deferrable desc describe distinct do else end except false fetch for foreign from grant group having
in initially intersect into lambda lateral leading limit not null offset on only or order pivot pivot_longer
pivot_wider placing primary qualify references returning select show some summarize symmetric table then to
trailing true union unique unpivot using variadic when where window with
"""
_RESERVED = frozenset(_WORDS.split())


def columns(rows: DatasetTable) -> dict[str, str]:
    """Name in SQL -> name of the column in `rows.known`; the file's own first, then those of every data set,
    then signals."""
    named = {"row_id": "row_id"}
    taken = {"row_id"}
    own = [name for name in rows.columns if name.startswith(SOURCE)]
    others = [name for name in rows.columns if not name.startswith(SOURCE) and name != "row_id"]
    for name in [*own, *others]:
        before = "file_" if name.startswith(SOURCE) else "tunebench_"
        free = name.removeprefix(SOURCE) or before
        while free.lower() in taken:
            free = f"{before}{free}"
        taken.add(free.lower())
        named[free] = name
    return named


def spelled(name: str) -> str:
    """A column's name as it is written in a statement: in quotes where it needs them."""
    return name if _PLAIN.fullmatch(name) and name.lower() not in _RESERVED else quoted(name)


def select_over(rows: DatasetTable, sql: str) -> tuple[str, list[Any]]:
    """A user's SELECT over `rows` as one statement, with its parameters."""
    named = columns(rows)
    statement, files = _over(rows, sql, named)
    if len(statement.encode()) - len(sql.encode()) > MOST_BYTES:
        text = sql.lower()
        named = {name: column for name, column in named.items() if name.lower() in text}
        statement, files = _over(rows, sql, named)
    return statement, files


def _over(rows: DatasetTable, sql: str, named: dict[str, str]) -> tuple[str, list[Any]]:
    relation, files = rows.relation(named.values())
    taken = [f"{quoted(column)} AS {quoted(name)}" for name, column in named.items() if name != "row_id"]
    selected = f"SELECT {', '.join(['row_id', *taken])} FROM ({relation})"
    return f"WITH rows AS ({selected})\nSELECT * FROM (\n{sql.strip().rstrip(';')}\n)", files
