"""What of a foreign SQL text may run: one statement that reads tables and Parquet files, nothing else.

Three walls, each enough for what it stops: (1) here, before anything runs: one statement, not too deep
(`store.db.sql_depth`), of the type SELECT, whose syntax tree has no writing node and calls only table
functions of a short list; (2) the read-only transaction in which it runs (`store.db.reading`); (3) the
confinement of the whole database (`store.db.connection`). The list is needed because DuckDB always lets SQL
read its own database file (`read_blob`), and because table functions can change the process
(`enable_profiling`, `register_external_resource`) from inside a SELECT. Calls that could not be interrupted
are refused as well (`store.db.sql_growth`); what else can't be interrupted runs in a process of its own
(`store.db.statements`).
"""

from __future__ import annotations

import json
import re
import threading
from dataclasses import dataclass
from functools import lru_cache

import duckdb

from store.contract.errors import QueryError
from store.db.sql_depth import SHORTER, too_deep
from store.db.sql_growth import GROWING, MOST, oversized

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
_TABLES = re.compile(r'[{,]"type":"BASE_TABLE",.*?"table_name":"((?:[^"\\]|\\.)*)"')
_NAMED = re.compile(r'\{"key":"((?:[^"\\]|\\.)*)","value":\{"aliases"')  # common table expressions
_CATALOGUE = re.compile(r'[{,]"type":"SHOW_REF"|"function_name":"(?:duckdb_|pragma_)')
_WRITES = re.compile(r'[{,]"type":"(INSERT|UPDATE|DELETE|MERGE\w*|TRUNCATE)_QUERY_NODE"')


@dataclass(frozen=True)
class _Verdict:
    """Why a text is refused and what to do about it, or whether it names tables."""

    refused: str = ""
    fix: str = ""
    names_tables: bool = False


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
        verdict = self._verdict(sql)
        if verdict.refused:
            raise QueryError(verdict.refused, fix=verdict.fix)

    def names_tables(self, sql: str) -> bool:
        """Whether a statement that may run names what may be a table, or looks at the catalogue."""
        return self._verdict(sql).names_tables

    def _examine(self, sql: str) -> _Verdict:
        if reason := too_deep(sql):
            return _Verdict(reason, SHORTER)
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
            return _Verdict(explain(error))
        if not tree.startswith('{"error":false'):
            return _Verdict("This statement can't be checked, so it is not run.", READS_ONLY)
        if write := _WRITES.search(tree):
            return _Verdict(f"The statement holds {article(write[1])}, which writes.", READS_ONLY)
        if denied := sorted(calls & self._denied):
            return _Verdict(
                f"The function {denied[0]} can't be used here.",
                "Tables, views, and Parquet files through read_parquet can be read.",
            )
        if grown:
            return _Verdict(f"{grown[0]}.", GROWING_FIX)
        tables = set(_TABLES.findall(tree)) - set(_NAMED.findall(tree))
        return _Verdict(names_tables=bool(tables or _CATALOGUE.search(tree)))


def _shape(statements: list[duckdb.Statement]) -> _Verdict | None:
    if not statements:
        return _Verdict("There is no statement.", READS_ONLY)
    if len(statements) > 1:
        return _Verdict(f"There are {len(statements)} statements.", "Send them one by one.")
    try:
        kind = statements[0].type
    except ValueError:  # a type of statement that DuckDB's Python binding has no name for
        return _Verdict("The statement is none that reads.", READS_ONLY)
    if kind != duckdb.StatementType.SELECT:
        return _Verdict(f"The statement is {article(kind.name)}.", READS_ONLY)
    return None


def article(word: str) -> str:
    """`INSERT` → `an INSERT`."""
    return f"{'an' if word[0] in 'AEIOU' else 'a'} {word.replace('_', ' ')}"


def explain(error: Exception) -> str:
    """What DuckDB says, on one line, without the picture of the place and the class of the error twice."""
    text = str(error).split("\nLINE ")[0].split("\n\nLINE ")[0]
    return " ".join(text.split())[:600] or type(error).__name__
