"""What of a foreign SQL text may run: one statement that reads tables and Parquet files, nothing else.

Three walls, each enough for what it stops: (1) here, before anything runs: one statement, of the type
SELECT, whose syntax tree has no writing node and calls only table functions of a short list; (2) the
read-only transaction in which it runs (`store.reading`); (3) the confinement of the whole database
(`store.database`). The list is needed because DuckDB always lets SQL read its own database file
(`read_blob`), and because table functions can change the process (`enable_profiling`,
`register_external_resource`) from inside a SELECT. Calls that could not be interrupted are refused as well
(`store.sql_growth`).
"""

from __future__ import annotations

import json
import re
import threading
from functools import lru_cache

import duckdb

from store.errors import QueryError
from store.sql_growth import GROWING, MOST, oversized

# Table functions that read Parquet files of the allowed folders, the catalog, or their arguments alone.
ALLOWED_TABLE_FUNCTIONS = frozenset(
    {
        *("read_parquet", "parquet_scan", "parquet_metadata", "parquet_schema"),
        *("parquet_file_metadata", "parquet_kv_metadata", "glob"),
        *("range", "generate_series", "unnest", "repeat", "repeat_row", "json_each", "json_tree"),
        *("duckdb_tables", "duckdb_columns", "duckdb_views", "duckdb_constraints", "duckdb_functions"),
        *("duckdb_types", "duckdb_keywords", "pragma_table_info", "pragma_version"),
    }
)
DENIED_SCALARS = frozenset({"write_log", "nextval", "setval"})
GROWING_FIX = f"Give a size up to {MOST:,}; in FROM, range and generate_series make rows of any number."
READS_ONLY = "/sql only reads: send one SELECT. Changes go through commands."

# Keys of the serialised tree; a quote inside a literal is escaped there, so text can't imitate a key.
_CALLS = re.compile(r'[{,]"function_name":"((?:[^"\\]|\\.)*)"')
_WRITES = re.compile(r'[{,]"type":"(INSERT|UPDATE|DELETE|MERGE\w*|TRUNCATE)_QUERY_NODE"')


class Guard:
    """Decides about SQL texts; keeps `cursor` for parsing, remembers what it decided."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection) -> None:
        self._cursor = cursor
        self._lock = threading.Lock()
        # once, for it takes longer than all else at the opening of a store
        found = cursor.execute("SELECT DISTINCT function_type, lower(function_name) FROM duckdb_functions()")
        names: dict[str, set[str]] = {}
        for kind, name in found.fetchall():
            names.setdefault(kind, set()).add(name)
        tables = {name for kind in ("table", "table_macro", "pragma") for name in names.get(kind, ())}
        scalars = {name for kind in ("scalar", "aggregate", "macro") for name in names.get(kind, ())}
        self._denied = (tables - scalars - ALLOWED_TABLE_FUNCTIONS) | DENIED_SCALARS
        self._verdict = lru_cache(maxsize=512)(self._examine)

    def check(self, sql: str) -> None:
        """Raise QueryError, with the reason, unless `sql` is one statement that only reads."""
        if error := self._verdict(sql):
            raise QueryError(error[0], fix=error[1])

    def _examine(self, sql: str) -> tuple[str, str] | None:
        """Why `sql` is refused and what to do about it, or None."""
        try:
            sql.encode()  # a lone surrogate has no place in SQL
            with self._lock:
                statements = self._cursor.extract_statements(sql)
                if problem := _shape(statements):
                    return problem
                row = self._cursor.execute("SELECT json_serialize_sql(?::VARCHAR)", [sql]).fetchone()
            tree = row[0] if row else ""
            calls = {name.lower() for name in _CALLS.findall(tree)}
            grown = oversized(json.loads(tree)) if calls & GROWING else None
        except (duckdb.Error, ValueError, RecursionError) as error:
            return explain(error), ""
        if not tree.startswith('{"error":false'):
            return "This statement can't be checked, so it is not run.", READS_ONLY
        if found := _WRITES.search(tree):
            return f"The statement holds {article(found[1])}, which writes.", READS_ONLY
        if denied := sorted(calls & self._denied):
            return (
                f"The function {denied[0]} can't be used here.",
                "Tables, views, and Parquet files through read_parquet can be read.",
            )
        return (f"{grown[0]}.", GROWING_FIX) if grown else None


def _shape(statements: list[duckdb.Statement]) -> tuple[str, str] | None:
    if not statements:
        return "There is no statement.", READS_ONLY
    if len(statements) > 1:
        return f"There are {len(statements)} statements.", "Send them one by one."
    kind = statements[0].type
    if kind != duckdb.StatementType.SELECT:
        return f"The statement is {article(kind.name)}.", READS_ONLY
    return None


def article(word: str) -> str:
    """`INSERT` → `an INSERT`."""
    return f"{'an' if word[0] in 'AEIOU' else 'a'} {word.replace('_', ' ')}"


def explain(error: Exception) -> str:
    """What DuckDB says, on one line, without the picture of the place and the class of the error twice."""
    text = str(error).split("\nLINE ")[0].split("\n\nLINE ")[0]
    return " ".join(text.split())[:600] or type(error).__name__
