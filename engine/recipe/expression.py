"""What of an SQL expression that a user typed may stand in a filter: one expression over one row.

DuckDB's own parser says what the text is, so that nothing can be hidden from the check: a list of kinds of
nodes that depend on the row alone is let through, everything else (subqueries, aggregates, windows,
parameters) is refused by name. Functions must give the same answer every time, or the same recipe on the same
rows would make two versions; and no call may make more than a little (`store.db.sql_guard`), or it could not
be stopped.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NotRequired, TypedDict, cast

import duckdb

from store.contract.errors import ConfigError
from store.db.sql_guard import oversized

FIX = "Write a condition on the columns of one row, such as: answer_words > 3 AND language = 'en'."
_SELECT = "SELECT "
_PLAIN = {"COLUMN_REF", "CONSTANT", "COMPARISON", "CONJUNCTION", "OPERATOR", "CASE", "CAST", "BETWEEN"}
_PLAIN |= {"FUNCTION", "LAMBDA", "COLLATE", "TYPE"}
_SAID = {  # what DuckDB says of the SELECT around the expression
    "Only SELECT statements": "it is more than one expression",
    "SELECT clause without selection list": "it is empty",
}
_NAMES = {
    "SUBQUERY": "a subquery",
    "WINDOW": "a window function, which looks at other rows",
    "STAR": "a *",
    "PARAMETER": "a parameter",
    "POSITIONAL_REFERENCE": "a #number",
}


SqlNode = TypedDict(
    "SqlNode",
    {
        "class": str,
        "query_location": int,
        "alias": str,
        "column_names": NotRequired[list[str]],
        "function_name": NotRequired[str],
        "lhs": NotRequired[object],
        "distinct": NotRequired[bool],
        "filter": NotRequired[object],
        "order_bys": NotRequired[dict[str, list[object]]],
    },
)
"""A part of an expression as DuckDB's parser writes it: what is read of it here."""


class SqlTree(TypedDict):
    """What DuckDB's parser writes of a text: its statements, or why it is none."""

    statements: list[dict[str, Any]]
    error: NotRequired[bool]
    error_message: NotRequired[str]
    position: NotRequired[str]


def check(expression: str) -> frozenset[str]:
    """The columns that the expression names.

    Raises ConfigError (field expression) with the place where it can be told, unless the text is one
    expression over one row, of functions that always give the same answer.
    """
    tree = _parse(expression)
    _parse(expression, before="(\n", after="\n)")  # as filters use it: what only fits unwrapped is refused
    if len(tree["statements"]) != 1:
        raise _refused(expression, "it is more than one statement")
    node = tree["statements"][0]["node"]
    if node.get("type") != "SELECT_NODE" or node["cte_map"]["map"]:
        raise _refused(expression, "it is a query of its own")
    if node["from_table"]["type"] != "EMPTY" or node["modifiers"] or node["qualify"] or node["sample"]:
        raise _refused(expression, "it is a query of its own")
    if any(node[part] for part in ("where_clause", "group_expressions", "having")):
        raise _refused(expression, "it is a query of its own")
    if len(node["select_list"]) != 1 or node["select_list"][0]["alias"]:
        raise _refused(expression, "it is more than one expression")
    if grown := oversized(node["select_list"]):
        raise _refused(expression, grown[0], grown[1] - len(_SELECT))
    columns: set[str] = set()
    _look(expression, node["select_list"][0], frozenset(), columns)
    return frozenset(columns)


def _parse(expression: str, before: str = "", after: str = "") -> SqlTree:
    """DuckDB's JSON of the statements."""
    sql = f"{_SELECT}{before}{expression}{after}"
    try:
        expression.encode()
        row = duckdb_parser().execute("SELECT json_serialize_sql(?::VARCHAR)", [sql]).fetchone()
    except (duckdb.Error, UnicodeEncodeError, RecursionError) as error:
        raise _refused(expression, " ".join(str(error).split())[:200]) from error
    tree: SqlTree = json.loads(row[0] if row else "{}")
    if tree.get("error"):
        message = str(tree.get("error_message", "it can't be read"))
        message = next((ours for theirs, ours in _SAID.items() if message.startswith(theirs)), message)
        position = str(tree.get("position", ""))
        at = int(position) - len(_SELECT + before) if position.isdigit() else None
        raise _refused(expression, message, at)
    return tree


def _look(expression: str, node: SqlNode, local: frozenset[str], columns: set[str]) -> None:
    """Walk the tree; raise ConfigError at what is not of one row. `local`: names that a lambda gives."""
    kind, at = node["class"], int(node["query_location"]) - len(_SELECT)
    if kind not in _PLAIN:
        raise _refused(expression, f"it holds {_NAMES.get(kind, kind.lower())}", at)
    if kind == "COLUMN_REF":
        names = node["column_names"]
        if names[0] not in local:
            _column(expression, names, at, columns)
        return
    if kind == "FUNCTION":
        _function(expression, node, at)
    if kind == "LAMBDA":
        local |= {name for part in _children(node.get("lhs")) for name in part.get("column_names", [])}
    for child in _children({key: value for key, value in node.items() if key != "class"}):
        _look(expression, child, local, columns)


def _children(value: object) -> Iterator[SqlNode]:
    """The nearest nodes (dicts with a class) under a value of the tree."""
    if isinstance(value, dict):
        if "class" in value:
            yield cast("SqlNode", value)  # DuckDB writes it so
            return
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _children(item)


def _column(expression: str, names: list[str], at: int, columns: set[str]) -> None:
    if len(names) > 1:
        whole = ".".join(names)
        raise _refused(expression, f'{whole} is not a column; with a dot in its name it is "{whole}"', at)
    columns.add(names[0])


def _function(expression: str, node: SqlNode, at: int) -> None:
    name = str(node["function_name"]).lower()
    if name in ("struct_extract", "array_extract"):
        return
    kinds = _functions().get(name)
    if kinds is None:
        raise _refused(expression, f"there is no function {name}", at)
    if "row" not in kinds:
        if "aggregate" in kinds:
            raise _refused(expression, f"{name} looks at other rows", at)
        what = "gives another answer every time" if "unsteady" in kinds else "can't be used in a condition"
        raise _refused(expression, f"{name} {what}", at)
    if node.get("distinct") or node.get("filter") or node["order_bys"]["orders"]:
        raise _refused(expression, f"{name} is used as an aggregate", at)


@lru_cache(maxsize=1)
def _functions() -> dict[str, set[str]]:
    """name -> row (of one row, always the same answer), unsteady, aggregate, table."""
    kinds: dict[str, set[str]] = {}
    rows = duckdb_parser().execute("SELECT function_name, function_type, stability FROM duckdb_functions()")
    for name, kind, stability in rows.fetchall():
        if kind in ("scalar", "macro"):
            kind = "row" if kind == "macro" or stability == "CONSISTENT" else "unsteady"
        kinds.setdefault(name.lower(), set()).add(kind)
    for name in ("error", "write_log", "sleep_ms"):
        kinds.get(name, set()).discard("row")
    return kinds


@lru_cache(maxsize=1)
def duckdb_parser() -> duckdb.DuckDBPyConnection:
    """An empty database that parses, and can reach nothing."""
    connection = duckdb.connect(":memory:", config={"python_enable_replacements": False, "threads": 1})
    connection.execute("SET enable_external_access = false")
    return connection


def _refused(expression: str, why: str, at: int | None = None) -> ConfigError:
    raw = expression.encode("utf-8", "replace")  # DuckDB counts bytes
    where = ""
    if at is not None and 0 <= at <= len(raw):
        where = f" at character {len(raw[:at].decode('utf-8', 'ignore')) + 1}"
    excerpt = " ".join(expression.split())
    excerpt = excerpt if len(excerpt) <= 80 else excerpt[:79] + "…"
    return ConfigError(
        f"The expression {excerpt!r} can't be used{where}: {why}.", fix=FIX, field="expression"
    )
