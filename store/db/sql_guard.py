"""Check that untrusted SQL is one statement that reads tables and Parquet files, and nothing else.

There are three barriers, each sufficient for what it blocks: (1) this check, before anything runs: a single
statement of limited depth, of type SELECT, whose syntax tree has no writing node and calls only table
functions of a short list; (2) the read-only transaction in which it runs (`store.db.connection`); (3) the
confinement of the whole database (`store.db.connection`). The list is needed because DuckDB always lets SQL
read its own database file (`read_blob`), and because table functions can change the process
(`enable_profiling`, `register_external_resource`) from inside a SELECT. Calls that can't be interrupted are
rejected too; anything else that can't be interrupted runs in its own process (`store.db.statements`).

Size of function results. DuckDB evaluates a call in one step, and for constants even before the statement
starts: it can't be interrupted during it, and the result is not subject to its memory limit.
`length(rpad('a', 2000000000, 'b'))` takes more than a minute and gigabytes. The size argument of every such
call therefore has to be a literal number, and small. In FROM, `range` and `generate_series` produce rows one
by one and are not limited.

Length and depth of the text, checked before any parser. DuckDB's parser and planner take superlinear time for
names of many parts, for chains of set operations and for nesting, can't be interrupted, and allocate outside
of their memory limit: a name with 20,000 dots takes minutes to plan. One pass over the tokens of the text
bounds all three.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import duckdb

from store.core.errors import QueryError
from store.db.schema import SECRET_TABLES

MAX_BYTES = 64 * 1024  # of a statement written by a person
MAX_NESTED = 200  # nested brackets and CASE
MAX_PARTS = 16  # of a name: catalog, schema, table, column and struct fields
MAX_SETS = 200  # UNION, EXCEPT and INTERSECT in total
SHORTER = "Split it, or put the values into a list: WHERE name IN (…)."

# Unambiguous tokens: comments, quoted strings and names, then words, dots and brackets.
_WORDS = re.compile(
    r"""(?P<comment>--[^\n]*|/\*.*?\*/)|(?P<dollar>\$\w*\$).*?(?P=dollar)|'(?:[^']|'')*'|"(?:[^"]|"")*"(?P<name>)"""
    r"""|(?P<word>[^\W\d]\w*)|(?P<dot>\.)|(?P<open>[(\[{])|(?P<close>[)\]}])|(?P<space>\s+)|.""",
    re.DOTALL,
)
_SETS = frozenset({"union", "except", "intersect"})


def find_length_problem(sql: str) -> str:
    """Return why a person's statement is too long; "" if it is not."""
    size = len(sql.encode("utf-8", "surrogatepass"))
    return f"The statement is {size:,} bytes long; it may have {MAX_BYTES:,}." if size > MAX_BYTES else ""


def find_depth_problem(sql: str) -> str:
    """Return why a statement is nested too deeply; "" if it is not."""
    depth = sets = dots = 0
    for token in _WORDS.finditer(sql):
        kind = token.lastgroup
        if kind == "dot":
            dots += 1
            if dots >= MAX_PARTS:
                return f"A name in the statement has more than {MAX_PARTS} parts."
            continue
        if kind in ("name", "word"):
            word = token[0].lower()
            sets += word in _SETS
            depth += {"case": 1, "end": -1}.get(word, 0)
        elif kind == "open":
            depth += 1
        elif kind == "close":
            depth -= 1
        if kind not in ("name", "word", "space", "comment"):
            dots = 0
        if depth > MAX_NESTED:
            return f"The statement is nested deeper than {MAX_NESTED} brackets."
        if sets > MAX_SETS:
            return f"The statement has more than {MAX_SETS} UNION, EXCEPT or INTERSECT."
    return ""


MAX_MADE_BY_A_CALL = 10_000  # characters or entries that one call may produce
_SIZED = {"rpad": 1, "lpad": 1, "list_resize": 1, "array_resize": 1, "bitstring": 1}  # index of the size
_SERIES = ("range", "generate_series")
_FORMATS = {  # a width that is large, or taken from an argument
    "printf": re.compile(r"%[^A-Za-z%]*(?:[0-9]{4}|\*)"),
    "format": re.compile(r"\{[^}]*(?:[0-9]{4}|\{)"),
}
GROWING = frozenset({*_SIZED, *_SERIES, *_FORMATS, "repeat"})

Node = dict[str, Any]


def find_oversized_calls(tree: Any) -> tuple[str, int] | None:
    """Find the first call in DuckDB's serialized tree whose size is not a small number. Returns the problem
    and its position in bytes.
    """
    return next(_list_faults(tree, within=False), None)


def _list_faults(value: Any, *, within: bool) -> Iterator[tuple[str, int]]:
    """Yield problem and position of each such call. `within`: inside such a call or a lambda, where sizes
    would multiply.
    """
    if isinstance(value, list):
        for item in value:
            yield from _list_faults(item, within=within)
        return
    if not isinstance(value, dict):
        return
    if value.get("type") == "TABLE_FUNCTION" and "arguments" in value.get("function", ()):
        yield from _list_faults(value["function"]["arguments"], within=within)
        value = {key: part for key, part in value.items() if key != "function"}
    name = str(value.get("function_name", "")).lower()
    if name in GROWING:
        if why := _find_fault(name, value, within):
            yield f"{name} {why}", int(value["query_location"])
        within = True
    within = within or value.get("class") == "LAMBDA"
    for part in value.values():
        yield from _list_faults(part, within=within)


def _find_fault(name: str, call: Node, within: bool) -> str:
    if within:
        return "is inside another call that creates texts or lists, where their sizes multiply"
    given = [_read_literal(argument["expression"]) for argument in call["arguments"]]
    if name in _FORMATS:
        text = given[0] if given else None
        if not isinstance(text, str) or _FORMATS[name].search(text):
            return "needs a plain text as its first value, with widths below 1,000"
        return ""
    size = _estimate_size(name, given)
    if size is None:
        return "needs its size as a plain number, not one that is worked out"
    return (
        f"makes more than {MAX_MADE_BY_A_CALL:,} characters or entries" if size > MAX_MADE_BY_A_CALL else ""
    )


def _estimate_size(name: str, given: list[int | str | None]) -> int | None:
    """Return the maximum size of the call's result; None if its arguments don't determine it."""
    if name in _SIZED:
        size = given[_SIZED[name]] if len(given) > _SIZED[name] else 0
        return size if isinstance(size, int) else None
    if name == "repeat":
        what, times = given if len(given) == 2 else (None, None)
        return len(what) * times if isinstance(what, str) and isinstance(times, int) else None
    bounds = [bound for bound in given if isinstance(bound, int)]
    if not bounds or len(bounds) != len(given):
        return None
    return abs(bounds[1] - bounds[0] if len(bounds) > 1 else bounds[0])


def _read_literal(node: Node) -> int | str | None:
    """Return an integer or string literal; None for any other node."""
    literal = node.get("literal") or {}
    if literal.get("kind") == "STRING":
        return str(literal["text"])
    if literal.get("kind") == "INTEGER":
        return int(literal["text"])
    return None


# Table functions that only read Parquet files of the allowed folders, the catalog, or their arguments.
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
GROWING_FIX = (
    f"Give a size up to {MAX_MADE_BY_A_CALL:,}; in FROM, range and generate_series make rows of any number."
)
READS_ONLY = "/sql only reads: send one SELECT. Changes go through commands."

# Keys of the serialized tree; quotes inside literals are escaped there, so text can't imitate a key.
_CALLS = re.compile(r'[{,]"function_name":"((?:[^"\\]|\\.)*)"')
_TABLES = re.compile(r'[{,]"type":"BASE_TABLE",.*?"table_name":"((?:[^"\\]|\\.)*)"')
_TABLE_NAMES = re.compile(r'[{,]"table_name":"((?:[^"\\]|\\.)*)"')  # anywhere a table can be named
_NAMED = re.compile(r'\{"key":"((?:[^"\\]|\\.)*)","value":\{"aliases"')  # common table expressions
_CATALOGUE = re.compile(r'[{,]"type":"SHOW_REF"|"function_name":"(?:duckdb_|pragma_)')
_WRITES = re.compile(r'[{,]"type":"(INSERT|UPDATE|DELETE|MERGE\w*|TRUNCATE)_QUERY_NODE"')


@dataclass(frozen=True)
class _Verdict:
    """Why a text is rejected and what to do, or whether it refers to tables."""

    refused: str = ""
    fix: str = ""
    names_tables: bool = False


class Guard:
    """Checks SQL texts; uses `cursor` for parsing and caches its decisions."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection) -> None:
        self._cursor = cursor
        self._lock = threading.Lock()
        # only once, because it takes longer than anything else when opening a store
        sql = "SELECT DISTINCT function_type, lower(function_name) FROM duckdb_functions()"
        names: dict[str, set[str]] = {}
        for kind, name in cursor.execute(sql).fetchall():
            names.setdefault(kind, set()).add(name)
        tables = {name for kind in ("table", "table_macro", "pragma") for name in names.get(kind, ())}
        scalars = {name for kind in ("scalar", "aggregate", "macro") for name in names.get(kind, ())}
        self._denied = (tables - scalars - ALLOWED_TABLE_FUNCTIONS) | DENIED_SCALARS
        self._verdict = lru_cache(maxsize=512)(self._examine)

    def check(self, sql: str) -> None:
        """Raise QueryError, with the reason, unless `sql` is a single reading statement."""
        verdict = self._verdict(sql)
        if verdict.refused:
            raise QueryError(verdict.refused, fix=verdict.fix)

    def names_tables(self, sql: str) -> bool:
        """Return whether an allowed statement refers to possible tables, or reads the catalog."""
        return self._verdict(sql).names_tables

    def _examine(self, sql: str) -> _Verdict:
        if reason := find_depth_problem(sql):
            return _Verdict(reason, SHORTER)
        try:
            sql.encode()  # rejects lone surrogates
            with self._lock:
                statements = self._cursor.extract_statements(sql)
                if problem := _check_statement_kind(statements):
                    return problem
                # fetch all rows: an open result holds a transaction, for which DuckDB retains all later
                # changes
                ((tree,),) = self._cursor.execute("SELECT json_serialize_sql(?::VARCHAR)", [sql]).fetchall()
            calls = {name.lower() for name in _CALLS.findall(tree)}
            grown = find_oversized_calls(json.loads(tree)) if calls & GROWING else None
        except (duckdb.Error, ValueError, RecursionError) as error:
            return _Verdict(format_duckdb_error(error))
        if not tree.startswith('{"error":false'):
            return _Verdict("This statement can't be checked, so it is not run.", READS_ONLY)
        if write := _WRITES.search(tree):
            return _Verdict(f"The statement contains {add_article(write[1])}, which writes.", READS_ONLY)
        if denied := sorted(calls & self._denied):
            return _Verdict(
                f"The function {denied[0]} can't be used here.",
                "Tables, views, and Parquet files through read_parquet can be read.",
            )
        if closed := sorted({name.lower() for name in _TABLE_NAMES.findall(tree)} & SECRET_TABLES):
            return _Verdict(f"The table {closed[0]} can't be read by SQL statements.")
        if grown:
            return _Verdict(f"{grown[0]}.", GROWING_FIX)
        tables = set(_TABLES.findall(tree)) - set(_NAMED.findall(tree))
        return _Verdict(names_tables=bool(tables or _CATALOGUE.search(tree)))


def _check_statement_kind(statements: list[duckdb.Statement]) -> _Verdict | None:
    if not statements:
        return _Verdict("The statement is empty.", READS_ONLY)
    if len(statements) > 1:
        return _Verdict(f"There are {len(statements)} statements.", "Send them one by one.")
    try:
        kind = statements[0].type
    except ValueError:  # a statement type that DuckDB's Python binding has no name for
        return _Verdict("The statement is none that reads.", READS_ONLY)
    if kind != duckdb.StatementType.SELECT:
        return _Verdict(f"The statement is {add_article(kind.name)}.", READS_ONLY)
    return None


def add_article(word: str) -> str:
    """Add the article to a keyword: `INSERT` → `an INSERT`."""
    return f"{'an' if word[0] in 'AEIOU' else 'a'} {word.replace('_', ' ')}"


def format_duckdb_error(error: Exception) -> str:
    """Return DuckDB's error message on one line, without the excerpt of the statement."""
    text = str(error).split("\nLINE ")[0].split("\n\nLINE ")[0]
    return " ".join(text.split())[:600] or type(error).__name__
