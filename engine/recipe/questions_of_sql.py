"""What the steps of a recipe ask of the rows in SQL: which match a filter, which value a column has.

DuckDB in memory reads the working files and the sidecars of signals, and nothing else: it is confined to
their folders before the first question. Columns have the names of `store.config.data.filters`; base columns
are those of the present texts, signals those that were measured on the version that the row comes from.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from engine.recipe import expression
from engine.recipe.working import Origin, Working
from engine.worker.job import Cancelled
from store.catalog.signals import GROUP_OF, GROUPS
from store.config.data.filters import BASE, SOURCE, Filter, check_column, column_sql, quoted
from store.contract.errors import ConfigError, DataError

MEMORY = "1GiB"
LOOK_EVERY = 0.1  # seconds between two looks at a request to stop


class RowQueries:
    """SQL over one Working; `close` it at the end. Most recipes ask nothing: it is opened by the first that
    does."""

    def __init__(self, work: Working) -> None:
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
        """The numbers of living rows for which the filter is true (not null), in order: int64.

        Raises ConfigError for columns that are not there or were not measured, for expressions that are more
        than that, for regular expressions that RE2 refuses, and for values that do not fit.
        """
        named = where.columns()
        if where.search or where.regex:
            named.add("text")
        if where.row_ids is not None:
            named.add("row_id")
        if where.expression.strip():
            named |= self._spelled(expression.check(where.expression))
        self._check(named)
        condition, params = where.where(named)
        try:
            matches = self._ask(f"SELECT row_id FROM ({self.relation(named)}) WHERE {condition}", params)
        except duckdb.Error as error:
            raise _explained(error, "where") from error
        return np.sort(matches["row_id"].to_numpy())

    def values(self, columns: Collection[str]) -> pa.Table:
        """row_id and these columns of the living rows, in order. Raises ConfigError like `matching`."""
        self._check(columns)
        try:
            return self._ask(f"SELECT * FROM ({self.relation(columns)}) ORDER BY row_id", [])
        except duckdb.Error as error:
            raise _explained(error, "column") from error

    def relation(self, columns: Collection[str]) -> str:
        """SQL of the living rows with row_id and these columns, which must be known."""
        groups = sorted({GROUP_OF[name] for name in columns if _is_signal(name)})
        tables = [f"{quoted(group)} AS ({self._signals(group)})" for group in groups]
        joins = [f"LEFT JOIN {quoted(group)} ON {quoted(group)}.row_id = r.row_id" for group in groups]
        selected = ["r.row_id AS row_id"]
        selected += [f"{column_sql(name)} AS {quoted(name)}" for name in sorted(columns) if name != "row_id"]
        files = ", ".join(_literal(str(file)) for file in self._work.files)
        return (
            f"{'WITH ' + ', '.join(tables) if tables else ''} SELECT {', '.join(selected)}"
            f" FROM read_parquet([{files}]) r SEMI JOIN living ON living.row_id = r.row_id {' '.join(joins)}"
        )

    # -- columns --------------------------------------------------------------------------------------

    def available_columns(self) -> set[str]:
        """Base columns and the signals that were measured of every data set that rows come from."""
        groups = [set(origin.dataset["signals"]) for origin in self._work.origins]
        measured = set.intersection(*groups)
        return set(BASE) | {s.column for name in measured for s in GROUPS[name].signals}

    def _spelled(self, names: Collection[str]) -> set[str]:
        """Names in an expression as the columns are spelled: SQL does not tell case apart."""
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
        """Raise ConfigError where no row has this column of the file."""
        column = name.removeprefix(SOURCE)
        files = ", ".join(_literal(str(file)) for file in self._work.files)
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
        columns = ", ".join(quoted(signal.column) for signal in GROUPS[group].signals)
        parts = []
        for place, origin in enumerate(self._work.origins):
            path = self._work.home.signals(origin.dataset["fingerprint"], group)
            if not path.exists():
                raise DataError(f"The measured signals {path} are gone.", fix="Measure them again.")
            if origin.numbers is None:
                parts.append(f"SELECT row_id, {columns} FROM read_parquet({_literal(str(path))})")
            else:
                parts.append(
                    f"SELECT m.number AS row_id, {columns} FROM read_parquet({_literal(str(path))}) s"
                    f" JOIN mixed_{place} m ON m.row_id = s.row_id"
                )
        return " UNION ALL ".join(parts)

    # -- queries --------------------------------------------------------------------------------------

    def _ask(self, sql: str, params: list[Any]) -> pa.Table:
        tables = {"living": pa.table({"row_id": pa.array(self._work.living())})}
        for place, origin in enumerate(self._work.origins):
            if origin.numbers is not None:
                tables[f"mixed_{place}"] = _numbers(origin)
        for name, table in tables.items():
            self._sql.register(name, table)
        try:
            with self._stoppable():
                return self._sql.sql(sql, params=params).to_arrow_table()
        except duckdb.InterruptException as error:
            raise Cancelled from error
        finally:
            for name in tables:
                self._sql.unregister(name)

    @contextmanager
    def _stoppable(self) -> Iterator[None]:
        """A request to stop interrupts the statement."""
        over = threading.Event()

        def watch() -> None:
            while not over.wait(LOOK_EVERY):
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


def _numbers(origin: Origin) -> pa.Table:
    return pa.table({"number": pa.array(origin.numbers), "row_id": pa.array(origin.row_ids)})


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _explained(error: duckdb.Error, field: str) -> ConfigError:
    reason = " ".join(str(error).split("\nLINE ")[0].split("\n\nLINE ")[0].split())[:300]
    if isinstance(error, duckdb.OutOfMemoryException):
        return ConfigError("The filter needs too much memory.", fix="Ask for something simpler.", field=field)
    return ConfigError(f"The filter can't be worked out: {reason}.", fix="Correct the filter.", field=field)
