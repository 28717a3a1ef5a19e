"""How DuckDB is opened and shut off from all files but the store's, and one statement while its rows
stream, in a read-only transaction with a time limit.
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
    """The database file `path`, or ":memory:"; `memory` in bytes, `config` of DuckDB. Raises StateError."""
    try:
        return duckdb.connect(
            str(path),
            config={
                "memory_limit": f"{memory // 2**20}MiB",
                "python_enable_replacements": False,  # SQL never sees variables of this process
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
        if "WAL" in why:  # what is written since the log was last merged into the file
            raise StateError(
                why,
                fix=f"Put a copy of the home folder back. Or move {path}.wal away: the engine then starts"
                " without what is in it alone, and says what that is.",
            ) from error
        raise StateError(
            why,
            fix="Put a copy of it back, or move the file away to begin with an empty store.",
        ) from error


def confine(root: duckdb.DuckDBPyConnection, folders: Sequence[Path]) -> None:
    """No file outside `folders` can be reached, and no setting be changed, from here on."""
    listed = ", ".join("'" + f"{folder}/".replace("'", "''") + "'" for folder in folders)
    root.execute(f"SET allowed_directories = [{listed}]")
    root.execute("SET enable_external_access = false")
    root.execute("SET lock_configuration = true")


# One statement while its rows stream, in a read-only transaction with a time limit.
#
# The reading owns its cursor: whatever happens, `close()` interrupts the statement, ends the transaction
# and lets the cursor go. It may be closed from another thread than the one that reads (a client that
# hung up).

Params = Sequence[Any] | Mapping[str, Any]  # of a statement, by place or name: values that have an SQL type
BATCH_ROWS = 65_536
WATCH_SECONDS = 0.1  # between two looks at the time limits
INTERRUPT_SECONDS = 0.02  # between two attempts to stop a statement
LESS = "Ask for fewer rows, or filter by run_id, name or step."

# What DuckDB and the Arrow stream over it raise for a statement that can't run: OSError once rows flow,
# ValueError and TypeError for parameters that have no SQL type.
FAILURES = (duckdb.Error, OSError, ValueError, TypeError, NotImplementedError, RuntimeError, MemoryError)


class StatementWatchdog:
    """Stops readings whose time is over. One thread for all of them, there only while one is under way:
    a timer thread for each would cost a busy engine several milliseconds a statement.
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
        """Stop every reading that is under way."""
        with self._changed:
            readings = list(self._readings)
        for reading in readings:
            reading.close()

    def wait_for_readings(self, seconds: float) -> None:
        """Wait until no reading is under way, at most so long."""
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
    """Record batches of one SELECT: `start()` gives `schema`, iterate once, `close()`; or use as a context.

    Raises QueryError from the start or the iteration where the statement fails or takes too long.
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
        self._busy = threading.Lock()  # held while DuckDB works for this reading
        self.closed = self._closing = False
        self.deadline = float("inf")
        watch.add(self)

    def start(self) -> None:
        """Check the statement and begin it; its time runs from here where no deadline was given."""
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
        """The next batch, or None after the last."""
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
        """Stop the statement if it still runs and end its transaction; may be called twice."""
        self._closing = True
        # An interrupt that comes just before a statement begins is lost: repeat it until it is heard.
        while not self._busy.acquire(timeout=INTERRUPT_SECONDS):
            self._cursor.interrupt()
        try:
            if not self.closed:
                self.closed = True
                self._reader = None  # with rows left in it, it would keep the transaction open
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
        """Stop the statement because its time is over."""
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
