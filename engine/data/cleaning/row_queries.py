"""SQL queries over the rows of a recipe: rows that match a filter, and values of columns.

A user's expression must be a single expression over one row. DuckDB's own parser analyzes it, so nothing can
be hidden from the check: node types that depend on the row alone are allowed, everything else (subqueries,
aggregates, windows, parameters) is rejected by name. Functions must be deterministic, or the same recipe on
the same rows would make two versions, and no call may produce a large value (`store.db.sql_guard`), because
it could not be interrupted.

The in-memory DuckDB is restricted to the folders of the working files and of the signal sidecars before the
first query. Columns have the names of `store.data.filters`. Base columns have the current texts; signals were
measured on the version that the row comes from.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from functools import cached_property, lru_cache
from typing import Any, NotRequired, TypedDict, cast

import duckdb
import numpy as np
import pyarrow as pa

from engine.data.cleaning.working_rows import WorkingRows
from engine.worker.job import JobCancelled, WorkerJob
from engine.worker.temporary_folder import use_temporary_folder
from store.core.errors import ConfigError, DataError
from store.data.filters import BASE, SOURCE, Filter, build_column_sql, check_column, quote_identifier
from store.data.signals import GROUP_OF, GROUPS
from store.db.sql_guard import find_oversized_calls
from store.jobs.schemas import OrderDataset

FIX = "Write a condition on the columns of one row, such as: answer_words > 3 AND language = 'en'."
_SELECT = "SELECT "
_PLAIN = {"COLUMN_REF", "CONSTANT", "COMPARISON", "CONJUNCTION", "OPERATOR", "CASE", "CAST", "BETWEEN"}
_PLAIN |= {"FUNCTION", "LAMBDA", "COLLATE", "TYPE"}
_PARSER_MESSAGES = {  # DuckDB's messages about the SELECT around the expression
    "Only SELECT statements": "it is more than one expression",
    "SELECT clause without selection list": "it is empty",
}
_NAMES = {
    "SUBQUERY": "a subquery",
    "WINDOW": "a window function, which reads other rows",
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
    """Output of DuckDB's parser for a text: its statements, or the error."""

    statements: list[dict[str, Any]]
    error: NotRequired[bool]
    error_message: NotRequired[str]
    position: NotRequired[str]


def check_expression(expression: str) -> frozenset[str]:
    """Validate the expression and return the columns that it references.

    Raises ConfigError (field expression), with the position if known, unless the text is a single expression
    over one row that uses only deterministic functions.
    """
    tree = _parse(expression)
    _parse(expression, before="(\n", after="\n)")  # as in filters; some texts are only valid without ( )
    if len(tree["statements"]) != 1:
        raise _make_expression_error(expression, "it is more than one statement")
    node = tree["statements"][0]["node"]
    if node.get("type") != "SELECT_NODE" or node["cte_map"]["map"]:
        raise _make_expression_error(expression, "it is a subquery")
    if node["from_table"]["type"] != "EMPTY" or node["modifiers"] or node["qualify"] or node["sample"]:
        raise _make_expression_error(expression, "it is a subquery")
    if any(node[part] for part in ("where_clause", "group_expressions", "having")):
        raise _make_expression_error(expression, "it is a subquery")
    if len(node["select_list"]) != 1 or node["select_list"][0]["alias"]:
        raise _make_expression_error(expression, "it is more than one expression")
    if grown := find_oversized_calls(node["select_list"]):
        raise _make_expression_error(expression, grown[0], grown[1] - len(_SELECT))
    columns: set[str] = set()
    _check_node(expression, node["select_list"][0], frozenset(), columns)
    return frozenset(columns)


def _parse(expression: str, before: str = "", after: str = "") -> SqlTree:
    """Return DuckDB's JSON serialization of the statements."""
    sql = f"{_SELECT}{before}{expression}{after}"
    try:
        expression.encode()
        row = open_duckdb_parser().execute("SELECT json_serialize_sql(?::VARCHAR)", [sql]).fetchone()
    except (duckdb.Error, UnicodeEncodeError, RecursionError) as error:
        raise _make_expression_error(expression, " ".join(str(error).split())[:200]) from error
    tree: SqlTree = json.loads(row[0] if row else "{}")
    if tree.get("error"):
        message = str(tree.get("error_message", "it can't be read"))
        message = next(
            (ours for theirs, ours in _PARSER_MESSAGES.items() if message.startswith(theirs)), message
        )
        position = str(tree.get("position", ""))
        at = int(position) - len(_SELECT + before) if position.isdigit() else None
        raise _make_expression_error(expression, message, at)
    return tree


def _check_node(expression: str, node: SqlNode, local: frozenset[str], columns: set[str]) -> None:
    """Walk the tree and raise ConfigError at a node that is not over one row.

    `local`: names that an enclosing lambda binds.
    """
    kind, at = node["class"], int(node["query_location"]) - len(_SELECT)
    if kind not in _PLAIN:
        raise _make_expression_error(expression, f"it holds {_NAMES.get(kind, kind.lower())}", at)
    if kind == "COLUMN_REF":
        names = node["column_names"]
        if names[0] not in local:
            _check_column(expression, names, at, columns)
        return
    if kind == "FUNCTION":
        _check_function(expression, node, at)
    if kind == "LAMBDA":
        local |= {
            name for part in _iterate_children(node.get("lhs")) for name in part.get("column_names", [])
        }
    for child in _iterate_children({key: value for key, value in node.items() if key != "class"}):
        _check_node(expression, child, local, columns)


def _iterate_children(value: object) -> Iterator[SqlNode]:
    """Yield the nearest nodes (dicts with a class) below a value of the tree."""
    if isinstance(value, dict):
        if "class" in value:
            yield cast("SqlNode", value)  # the structure that DuckDB serializes
            return
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _iterate_children(item)


def _check_column(expression: str, names: list[str], at: int, columns: set[str]) -> None:
    if len(names) > 1:
        whole = ".".join(names)
        raise _make_expression_error(
            expression, f'{whole} is not a column; with a dot in its name it is "{whole}"', at
        )
    columns.add(names[0])


def _check_function(expression: str, node: SqlNode, at: int) -> None:
    name = str(node["function_name"]).lower()
    if name in ("struct_extract", "array_extract"):
        return
    kinds = _list_functions().get(name)
    if kinds is None:
        raise _make_expression_error(expression, f"there is no function {name}", at)
    if "row" not in kinds:
        if "aggregate" in kinds:
            raise _make_expression_error(expression, f"{name} reads other rows", at)
        what = "gives another answer every time" if "unsteady" in kinds else "can't be used in a condition"
        raise _make_expression_error(expression, f"{name} {what}", at)
    if node.get("distinct") or node.get("filter") or node["order_bys"]["orders"]:
        raise _make_expression_error(expression, f"{name} is used as an aggregate", at)


@lru_cache(maxsize=1)
def _list_functions() -> dict[str, set[str]]:
    """Return name -> kinds: row (over one row and deterministic), unsteady, aggregate or table."""
    kinds: dict[str, set[str]] = {}
    rows = open_duckdb_parser().execute(
        "SELECT function_name, function_type, stability FROM duckdb_functions()"
    )
    for name, kind, stability in rows.fetchall():
        if kind in ("scalar", "macro"):
            kind = "row" if kind == "macro" or stability == "CONSISTENT" else "unsteady"
        kinds.setdefault(name.lower(), set()).add(kind)
    for name in ("error", "write_log", "sleep_ms"):
        kinds.get(name, set()).discard("row")
    return kinds


@lru_cache(maxsize=1)
def open_duckdb_parser() -> duckdb.DuckDBPyConnection:
    """Open an empty database that can parse but has no external access."""
    connection = duckdb.connect(":memory:", config={"python_enable_replacements": False, "threads": 1})
    connection.execute("SET enable_external_access = false")
    return connection


def _make_expression_error(expression: str, why: str, at: int | None = None) -> ConfigError:
    raw = expression.encode("utf-8", "replace")  # DuckDB's positions are in bytes
    where = ""
    if at is not None and 0 <= at <= len(raw):
        where = f" at character {len(raw[:at].decode('utf-8', 'ignore')) + 1}"
    excerpt = " ".join(expression.split())
    excerpt = excerpt if len(excerpt) <= 80 else excerpt[:79] + "…"
    return ConfigError(
        f"The expression {excerpt!r} can't be used{where}: {why}.", fix=FIX, field="expression"
    )


MEMORY = "1GiB"
POLL_SECONDS = 0.1  # seconds between checks for cancellation


class RowQueries:
    """SQL queries over a WorkingRows; must be closed with `close`.

    The database is opened by the first query, because most recipes need none.
    """

    def __init__(self, work: WorkingRows) -> None:
        self._work = work

    @cached_property
    def _sql(self) -> duckdb.DuckDBPyConnection:
        work = self._work
        sql = duckdb.connect(
            ":memory:",
            config={
                "memory_limit": MEMORY,
                "threads": 2,
                "temp_directory": str(work.folder / "spill"),
                "preserve_insertion_order": False,
                "python_enable_replacements": False,
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
            },
        )
        folders = (work.home.datasets, work.folder)
        listed = ", ".join("'" + f"{folder.resolve()}/".replace("'", "''") + "'" for folder in folders)
        sql.execute(f"SET allowed_directories = [{listed}]")
        sql.execute("SET enable_external_access = false")
        sql.execute("SET lock_configuration = true")
        return sql

    def close(self) -> None:
        if "_sql" in vars(self):
            self._sql.close()

    def matching(self, where: Filter) -> np.ndarray:
        """Return the numbers of the living rows for which the filter is true (not null), in order: int64.

        Raises ConfigError for columns that don't exist or were not measured, expressions that are not a
        condition on one row, regular expressions that RE2 rejects, and values of the wrong type.
        """
        named = where.columns()
        if where.search or where.regex:
            named.add("text")
        if where.row_ids is not None:
            named.add("row_id")
        if where.expression.strip():
            named |= self._spelled(check_expression(where.expression))
        self._check(named)
        condition, params = where.where(named)
        try:
            matches = self._ask(f"SELECT row_id FROM ({self.relation(named)}) WHERE {condition}", params)
        except duckdb.Error as error:
            raise _make_filter_error(error, "where") from error
        return np.sort(matches["row_id"].to_numpy())

    def values(self, columns: Collection[str]) -> pa.Table:
        """Return row_id and `columns` of the living rows, in order. Raises ConfigError like `matching`."""
        self._check(columns)
        try:
            return self._ask(f"SELECT * FROM ({self.relation(columns)}) ORDER BY row_id", [])
        except duckdb.Error as error:
            raise _make_filter_error(error, "column") from error

    def relation(self, columns: Collection[str]) -> str:
        """Build the SQL that selects row_id and `columns` of the living rows; the columns must be valid."""
        groups = sorted({GROUP_OF[name] for name in columns if _is_signal(name)})
        tables = [f"{quote_identifier(group)} AS ({self._signals(group)})" for group in groups]
        joins = [
            f"LEFT JOIN {quote_identifier(group)} ON {quote_identifier(group)}.row_id = r.row_id"
            for group in groups
        ]
        selected = ["r.row_id AS row_id"]
        selected += [
            f"{build_column_sql(name)} AS {quote_identifier(name)}"
            for name in sorted(columns)
            if name != "row_id"
        ]
        files = ", ".join(_quote_literal(str(file)) for file in self._work.files)
        return (
            f"{'WITH ' + ', '.join(tables) if tables else ''} SELECT {', '.join(selected)}"
            f" FROM read_parquet([{files}]) r SEMI JOIN living ON living.row_id = r.row_id {' '.join(joins)}"
        )

    # -- columns --------------------------------------------------------------------------------------

    def available_columns(self) -> set[str]:
        """Return the base columns, and the signals measured for every data set that rows come from."""
        groups = [set(origin.dataset["signals"]) for origin in self._work.origins]
        measured = set.intersection(*groups)
        return set(BASE) | {s.column for name in measured for s in GROUPS[name].signals}

    def _spelled(self, names: Collection[str]) -> set[str]:
        """Return the names in the spelling of the columns, because SQL names are case-insensitive."""
        spelling = {name.lower(): name for name in (*BASE, *GROUP_OF)}
        return {spelling.get(name.lower(), name) for name in names}

    def _check(self, columns: Collection[str]) -> None:
        available = self.available_columns()
        for name in columns:
            if name.startswith(SOURCE):
                self._check_source(name)
                continue
            for origin in self._work.origins[1:]:
                if _is_signal(name) and GROUP_OF[name] not in origin.dataset["signals"]:
                    raise ConfigError(
                        f"{name} was not measured for {origin.dataset['name']}, which was mixed in before.",
                        fix=f"Measure {GROUPS[GROUP_OF[name]].title} of it, or put this step before the mix.",
                        field="where",
                    )
            check_column(name, available)

    def _check_source(self, name: str) -> None:
        """Raise ConfigError if no row has this source column."""
        column = name.removeprefix(SOURCE)
        files = ", ".join(_quote_literal(str(file)) for file in self._work.files)
        there = self._ask(
            f"SELECT count(*) AS n FROM read_parquet([{files}]) WHERE list_contains(json_keys(source), ?)",
            [column],
        )
        if there["n"][0].as_py():
            return
        first = self._ask(f"SELECT source FROM read_parquet([{files}]) LIMIT 1", [])["source"][0].as_py()
        raise ConfigError(
            f"No row has the column {column!r} in its file.",
            fix=f"The first row has {', '.join(json.loads(first))}.",
            field="where",
        )

    def _signals(self, group: str) -> str:
        columns = ", ".join(quote_identifier(signal.column) for signal in GROUPS[group].signals)
        parts = []
        for place, origin in enumerate(self._work.origins):
            path = self._work.home.signals(origin.dataset["fingerprint"], group)
            if not path.exists():
                raise DataError(f"The measured signals {path} no longer exist.", fix="Measure them again.")
            if origin.numbers is None:
                parts.append(f"SELECT row_id, {columns} FROM read_parquet({_quote_literal(str(path))})")
            else:
                parts.append(
                    f"SELECT m.number AS row_id, {columns} FROM read_parquet({_quote_literal(str(path))}) s"
                    f" JOIN mixed_{place} m ON m.row_id = s.row_id"
                )
        return " UNION ALL ".join(parts)

    # -- queries --------------------------------------------------------------------------------------

    def _ask(self, sql: str, params: list[Any]) -> pa.Table:
        tables = {"living": pa.table({"row_id": pa.array(self._work.living())})}
        for place, origin in enumerate(self._work.origins):
            if origin.numbers is not None:
                numbers, row_ids = pa.array(origin.numbers), pa.array(origin.row_ids)
                tables[f"mixed_{place}"] = pa.table({"number": numbers, "row_id": row_ids})
        for name, table in tables.items():
            self._sql.register(name, table)
        try:
            with self._stoppable():
                return self._sql.sql(sql, params=params).to_arrow_table()
        except duckdb.InterruptException as error:
            raise JobCancelled from error
        finally:
            for name in tables:
                self._sql.unregister(name)

    @contextmanager
    def _stoppable(self) -> Iterator[None]:
        """Interrupt the running statement when the job is cancelled."""
        over = threading.Event()

        def watch() -> None:
            while not over.wait(POLL_SECONDS):
                if self._work.job.cancel_requested.is_set():
                    self._sql.interrupt()

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()


def _is_signal(name: str) -> bool:
    return name in GROUP_OF and name not in BASE


def _quote_literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _make_filter_error(error: duckdb.Error, field: str) -> ConfigError:
    reason = " ".join(str(error).split("\nLINE ")[0].split("\n\nLINE ")[0].split())[:300]
    if isinstance(error, duckdb.OutOfMemoryException):
        return ConfigError("The filter needs too much memory.", fix="Ask for something simpler.", field=field)
    return ConfigError(f"The filter can't be worked out: {reason}.", fix="Correct the filter.", field=field)


def find_matching_rows(job: WorkerJob, dataset: OrderDataset, where: Filter) -> np.ndarray:
    """Return the numbers of the rows that match the filter, in order: int64.

    `dataset` includes the groups of signals that were measured for it. Raises ConfigError (field where) for
    columns that the data set doesn't have, and for an expression that is not a condition on one row.
    """
    with (
        use_temporary_folder(job, what="what the filter needs", again="try again") as folder,
        closing(RowQueries(WorkingRows(job, dataset, {}, folder))) as ask,
    ):
        try:
            return ask.matching(where)
        except ConfigError as error:
            raise ConfigError(error.message, fix=error.fix, field="where") from error
