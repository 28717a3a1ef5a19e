"""Opening DuckDB confined to the store's files, and running one statement in a read-only transaction with a
time limit while its rows are streamed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import duckdb
import pyarrow as pa

from store.core.errors import QueryError, StateError
from store.db.sql_guard import READS_ONLY, Guard, format_duckdb_error


def connect(path: Path | str, memory: int, **config: Any) -> duckdb.DuckDBPyConnection:
    """Open the database file `path`, or ":memory:"; `memory` in bytes, `config` for DuckDB. Raises
    StateError.
    """
    try:
        return duckdb.connect(
            str(path),
            config={
                "memory_limit": f"{memory // 2**20}MiB",
                "python_enable_replacements": False,  # SQL can't read variables of this process
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
                **config,
            },
        )
    except duckdb.Error as error:
        if "lock on file" in str(error):
            raise StateError(
                f"Another process has the store {path} open.",
                fix="Stop the other engine, or set TUNEBENCH_HOME to another folder.",
            ) from error
        why = f"The store {path} can't be opened: {str(error).splitlines()[0]}"
        if "WAL" in why:  # what was written since the last checkpoint
            raise StateError(
                why,
                fix=f"Restore a copy of the home folder. Or move {path}.wal away: the engine then starts"
                " without the changes that only this file contains, and lists them.",
            ) from error
        raise StateError(
            why,
            fix="Restore a copy of it, or move the file away to start with an empty store.",
        ) from error


def confine(root: duckdb.DuckDBPyConnection, folders: Sequence[Path]) -> None:
    """Forbid access to files outside `folders` and any change of settings from here on."""
    listed = ", ".join("'" + f"{folder}/".replace("'", "''") + "'" for folder in folders)
    root.execute(f"SET allowed_directories = [{listed}]")
    root.execute("SET enable_external_access = false")
    root.execute("SET lock_configuration = true")


# A reader owns its cursor: whatever happens, `close()` interrupts the statement, ends the transaction and
# releases the cursor. It may be closed from a thread other than the reading one (if a client disconnects).

Params = Sequence[Any] | Mapping[str, Any]  # of a statement, by position or name: values with an SQL type
BATCH_ROWS = 65_536
WATCH_SECONDS = 0.1  # between checks of the time limits
INTERRUPT_SECONDS = 0.02  # between attempts to stop a statement
LESS = "Ask for fewer rows, or filter by run_id, name or step."

# What DuckDB and the Arrow stream over it raise for a failing statement: OSError while rows are streamed,
# ValueError and TypeError for parameters without an SQL type.
FAILURES = (duckdb.Error, OSError, ValueError, TypeError, NotImplementedError, RuntimeError, MemoryError)


class StatementWatchdog:
    """Stops statements that exceed their time limit. One thread serves all of them and runs only while there
    are any: a timer thread for each would cost a busy engine several milliseconds per statement.
    """

    def __init__(self) -> None:
        self._readings: set[StatementReader] = set()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def add(self, reading: StatementReader) -> None:
        with self._changed:
            self._readings.add(reading)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="sql-time-limit", daemon=True)
                self._thread.start()

    def remove(self, reading: StatementReader) -> None:
        with self._changed:
            self._readings.discard(reading)
            if not self._readings:
                self._changed.notify_all()

    def close_all(self) -> None:
        """Stop all running statements."""
        with self._changed:
            readings = list(self._readings)
        for reading in readings:
            reading.close()

    def wait_for_readings(self, seconds: float) -> None:
        """Wait until no statement is running, at most `seconds`."""
        if self._readings:
            with self._changed:
                self._changed.wait_for(lambda: not self._readings, seconds)

    def _run(self) -> None:
        idle_since = time.monotonic()
        while True:
            time.sleep(WATCH_SECONDS)
            now = time.monotonic()
            with self._changed:
                if self._readings:
                    idle_since = now
                elif now - idle_since > 10:
                    self._thread = None
                    return
                late = [reading for reading in self._readings if now > reading.deadline]
            for reading in late:
                reading.time_out()


class StatementReader:
    """Record batches of one SELECT: `start()` sets `schema`, iterate once, `close()`; or use it as a context
    manager.

    Start and iteration raise QueryError if the statement fails or takes too long.
    """

    schema: pa.Schema

    def __init__(
        self,
        cursor: duckdb.DuckDBPyConnection,
        sql: str,
        params: Params,
        timeout: float,
        guard: Guard,
        watch: StatementWatchdog,
        deadline: float | None = None,
    ) -> None:
        self._cursor, self._guard, self._watch = cursor, guard, watch
        self._sql, self._params, self._timeout = sql, params, timeout
        self._agreed_deadline = deadline
        self._reader: pa.RecordBatchReader | None = None
        self._timed_out = False
        self._busy = threading.Lock()  # held while DuckDB works for this reader
        self.closed = self._closing = False
        self.deadline = float("inf")
        watch.add(self)

    def start(self) -> None:
        """Check the statement and start it; if no deadline was given, its time limit starts here."""
        with self._busy:
            self._guard.check(self._sql)
            if self._closing:
                raise QueryError("The reading was closed before its first row.")
            agreed = self._agreed_deadline
            self.deadline = time.monotonic() + self._timeout if agreed is None else agreed
            try:
                self._cursor.execute("BEGIN TRANSACTION READ ONLY")
                reader = self._cursor.sql(self._sql, params=self._params).to_arrow_reader(BATCH_ROWS)
                self._reader, self.schema = reader, reader.schema
            except FAILURES as error:
                raise self._failed(error) from error

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        while (batch := self.next_batch()) is not None:
            yield batch

    def next_batch(self) -> pa.RecordBatch | None:
        """Return the next batch, or None after the last."""
        with self._busy:
            if self._closing:
                raise QueryError("The reading was closed before its last row.")
            try:
                return self._reader.read_next_batch() if self._reader else None
            except StopIteration:
                return None
            except FAILURES as error:
                raise self._failed(error) from error

    def close(self) -> None:
        """Stop the statement if it is running and end its transaction; may be called twice."""
        self._closing = True
        # An interrupt just before a statement starts is lost, so repeat it until it takes effect.
        while not self._busy.acquire(timeout=INTERRUPT_SECONDS):
            self._cursor.interrupt()
        try:
            if not self.closed:
                self.closed = True
                self._reader = None  # with unread rows it would keep the transaction open
                self._cursor.close()
        finally:
            self._busy.release()
            self._watch.remove(self)

    def __enter__(self) -> Self:
        try:
            self.start()
        except QueryError:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def time_out(self) -> None:
        """Stop the statement because its time limit is exceeded."""
        self._timed_out = True
        self._cursor.interrupt()

    def _failed(self, error: Exception) -> QueryError:
        if self._timed_out:
            return QueryError(
                f"The statement took longer than {self._timeout:.2g} s and was stopped.",
                fix=LESS,
            )
        reason = format_duckdb_error(error)
        if isinstance(error, duckdb.OutOfMemoryException | MemoryError):
            return QueryError("The statement needs more memory than one may use.", fix=LESS)
        writes = "read-only mode" in reason
        return QueryError("The statement writes." if writes else reason, fix=READS_ONLY if writes else "")
