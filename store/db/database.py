"""The only DuckDB connection, owned by the engine.

Invariants: one writer at a time (`transaction()` holds a lock, so commits never conflict); every other
statement runs in a read-only transaction on its own cursor, trusted (`query`) or checked (`reads`, `stream`);
SQL written by people runs in a separate process (`written`); SQL can only reach files in the folders
`readable`, which can't be changed once the database is open. Migrations are applied first.
"""

from __future__ import annotations

import re
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import duckdb
import psutil
import pyarrow as pa

from store.core.errors import BusyError, StateError
from store.core.schemas import LostCommits
from store.db.commit_journal import CommitJournal
from store.db.connection import Params, StatementReader, StatementWatchdog, confine, connect
from store.db.records import read_all, to_json
from store.db.schema import MIGRATIONS
from store.db.sql_guard import Guard
from store.db.statements import Statement, StatementPool

STATEMENT_SECONDS = 30.0  # queries of the screens are interrupted after this
CLOSE_SECONDS = 10.0  # our own statements take milliseconds
MEMORY_SHARE = 0.25  # of the machine's memory; the rest is for the workers


_TARGET = re.compile(r"\s*(?:INSERT\s+(?:OR\s+\w+\s+)?INTO|UPDATE|DELETE\s+FROM)\s+(\w+)", re.IGNORECASE)


class Queryable(Protocol):
    """Argument of query functions: `Database` and `Transaction` in the engine, `Client` elsewhere."""

    def query(self, sql: str, params: Params = ()) -> pa.Table: ...


class Transaction:
    """Transaction from `Database.transaction()`: its statements are all committed or all rolled back."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection, by: str | None) -> None:
        self._cursor = cursor
        self.by = by  # person_id of the command's requester; None for the engine itself
        self.made: defaultdict[str, list[str]] = defaultdict(list)  # table -> ids of new rows
        self.changed = Counter[str]()  # table -> rows added, changed or removed
        self.writes = False

    def execute(self, sql: str, params: Params = ()) -> int:
        """Run a statement that changes rows and return the number of changed rows."""
        self.writes = True
        self._cursor.execute(sql, params)
        row = self._cursor.fetchone() if self._cursor.description else None
        count = int(row[0]) if row and isinstance(row[0], int) else 0
        if count and (target := _TARGET.match(sql)):
            self.changed[target[1]] += count
        return count

    def query(self, sql: str, params: Params = ()) -> pa.Table:
        """Return rows as seen by this transaction, including its own changes."""
        return _table(self._cursor, sql, params)

    @contextmanager
    def table(self, name: str, rows: pa.Table) -> Iterator[None]:
        """Make `rows` available to statements of the block as the table `name`; rows are not copied."""
        self._cursor.register(name, rows)  # visible to this cursor only
        try:
            yield
        finally:
            self._cursor.unregister(name)


class Database:
    """The store in the file `path`; SQL may read Parquet files in the folders `readable`.

    Raises StateError if another process has the file open, if it is damaged, or if a newer Tunebench wrote
    it.
    """

    def __init__(self, path: Path, readable: Sequence[Path]) -> None:
        self.path = Path(path).resolve()
        self._write_lock = threading.Lock()
        self._writer: int | None = None  # the thread in a transaction
        self._thread = threading.local()  # person that each thread acts for
        self._watch = StatementWatchdog()
        self._commits = 0
        folders = [Path(folder).resolve() for folder in readable]
        memory_limit = max(2**30, int(psutil.virtual_memory().total * MEMORY_SHARE))
        self._root = connect(self.path, memory_limit, checkpoint_threshold="64MiB")
        aside = self.path.parent / "cache" / "statements"
        self._statements = StatementPool(self.path, folders, aside, self._hold)
        self._journal = CommitJournal(self.path)
        self._number: int | None = None  # of the last commit, once commits are numbered
        try:
            confine(self._root, folders)
            self._migrate()
            self.lost = self._number_commits()
            self._guard = Guard(self._root.cursor())
            with self.transaction() as tx:
                tx.execute(
                    "INSERT INTO setting VALUES ('home', ?) ON CONFLICT DO UPDATE SET value = excluded.value",
                    [str(self.path.parent)],
                )
                if self.lost:
                    tx.execute(
                        "INSERT INTO setting VALUES ('lost_commits', ?)"
                        " ON CONFLICT DO UPDATE SET value = excluded.value",
                        [to_json(self.lost)],
                    )
        except BaseException:
            self._root.close()
            raise

    def query(self, sql: str, params: Params = ()) -> pa.Table:
        """Return the rows of a trusted statement. It can't write; use `transaction()` for that."""
        cursor = self._root.cursor()
        try:
            cursor.execute("BEGIN TRANSACTION READ ONLY")
            return _table(cursor, sql, params)
        finally:
            cursor.close()

    @contextmanager
    def acting(self, person_id: str, add: Callable[[Transaction], None]) -> Iterator[None]:
        """Attribute what this thread writes during the block to a person: transactions carry their id, and
        `add` is called on each before commit to add what belongs to the change.
        """
        self._thread.acting = person_id, add
        try:
            yield
        finally:
            del self._thread.acting

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Open a write transaction: committed at the end of the block, rolled back if it raises."""
        by, add = getattr(self._thread, "acting", (None, None))
        if self._writer == threading.get_ident():
            raise RuntimeError("A transaction was opened inside a transaction of the same thread.")
        with self._write_lock:
            self._writer = threading.get_ident()
            cursor = self._root.cursor()
            try:
                cursor.execute("BEGIN TRANSACTION")
                tx = Transaction(cursor, by)
                yield tx
                if add is not None:
                    add(tx)
                number = self._number + 1 if tx.writes and self._number is not None else None
                if number is not None:
                    cursor.execute("UPDATE commit_number SET number = ?", [number])
                cursor.execute("COMMIT")
                self._commits += 1
                if number is not None:
                    self._number = number
                    self._journal.add(number, tx.changed)
            finally:
                cursor.close()  # rolls back uncommitted changes
                self._writer = None

    def stream(
        self,
        sql: str,
        params: Params = (),
        *,
        timeout: float = STATEMENT_SECONDS,
        deadline: float | None = None,
    ) -> StatementReader:
        """Return a reader of the record batches of one SELECT, streamed while they are produced; the caller
        starts and closes it. It raises QueryError if the statement is anything else, fails, or takes
        longer than `timeout` seconds; if it is part of a larger operation, its time ends at `deadline`
        (monotonic). The result is never truncated.
        """
        cursor = self._root.cursor()
        return StatementReader(cursor, sql, params, timeout, self._guard, self._watch, deadline)

    def written(
        self,
        sql: str,
        params: Params = (),
        *,
        timeout: float = STATEMENT_SECONDS,
        deadline: float | None = None,
    ) -> Statement:
        """Return a statement written by a person, run in its own process on the store as of its start. The
        process is killed with its memory after `timeout` seconds, or at `deadline` as in `stream`. Raises
        QueryError if the statement is too long.
        """
        left = timeout if deadline is None else max(0.001, deadline - time.monotonic())
        return self._statements.statement(sql, params, left, timeout)

    def reads(self, seconds: float = STATEMENT_SECONDS) -> QueryReader:
        """Return a reader for one requested query function, with a time limit for all of its statements
        together.
        """
        return QueryReader(self, seconds)

    def stop_written(self) -> None:
        """Kill statements written by people, when the engine is asked to stop."""
        self._statements.stop()

    @contextmanager
    def _hold(self, seconds: float) -> Iterator[int]:
        """Block commits during the block; yields the number of commits so far."""
        if not self._write_lock.acquire(timeout=seconds):
            raise BusyError("The store was written to for all of the statement's time.", fix="Try again.")
        try:
            yield self._commits
        finally:
            self._write_lock.release()

    def give_way(self, seconds: float) -> None:
        """Wait until running untrusted statements have finished, at most `seconds`.

        For long work that can wait: on a machine with few cores it would slow down every screen.
        """
        self._watch.wait_for_readings(seconds)

    def close(self) -> None:
        """Write everything into the database file and release it: untrusted statements are stopped, our own
        are waited for, at most `CLOSE_SECONDS`.
        """
        self._statements.close()
        self._watch.close_all()
        deadline = time.monotonic() + CLOSE_SECONDS
        with self._write_lock:
            while True:
                try:
                    self._root.close()
                    return self._journal.close(self._number or 0)
                except duckdb.ResourceInUseException:  # a statement of another thread is running
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.01)

    def _number_commits(self) -> LostCommits | None:
        """Start numbering commits; return earlier commits that the store lacks."""
        with self.transaction() as tx:
            tx.execute("CREATE TABLE IF NOT EXISTS commit_number (number BIGINT NOT NULL)")  # has one row
            tx.execute("INSERT INTO commit_number SELECT 0 WHERE NOT EXISTS (FROM commit_number)")
        kept = int(self.query("SELECT number FROM commit_number").column("number")[0].as_py())
        lost = self._journal.lost(kept)
        self._number = self._journal.begin(kept)
        return lost

    def _migrate(self) -> None:
        with self.transaction() as tx:
            tx.execute(
                "CREATE TABLE IF NOT EXISTS migration"
                " (name VARCHAR PRIMARY KEY, applied_at TIMESTAMP NOT NULL)"
            )
            done = set(tx.query("SELECT name FROM migration").column("name").to_pylist())
        if newer := sorted(done - {name for name, _ in MIGRATIONS}):
            raise StateError(
                f"The store {self.path} was written by a newer Tunebench: it has {newer[-1]!r}.",
                fix="Update Tunebench, or set TUNEBENCH_HOME to another folder.",
            )
        for name, script in MIGRATIONS:
            if name not in done:
                with self.transaction() as tx:
                    tx.execute(script)
                    tx.execute("INSERT INTO migration VALUES (?, ?)", [name, utc_now()])


class QueryReader:
    """Checked statements of one query function, with a common time limit that starts now. `written`: they
    contain SQL written by a person. May be closed from another thread.
    """

    written = False

    def __init__(self, database: Database, seconds: float) -> None:
        self._database = database
        self._seconds, self._deadline = seconds, time.monotonic() + seconds
        self._current: Statement | StatementReader | None = None
        self._closed = False

    def query(self, sql: str, params: Params = ()) -> pa.Table:
        """Return all rows of one SELECT. Raises QueryError if it fails or takes too long, BusyError."""
        if self.written:
            statement = self._database.written(sql, params, timeout=self._seconds, deadline=self._deadline)
            self._begin(statement)
            return read_all(statement)
        reading = self._database.stream(sql, params, timeout=self._seconds, deadline=self._deadline)
        self._begin(reading)
        with reading:
            return pa.Table.from_batches(list(reading), reading.schema)

    def _begin(self, statement: Statement | StatementReader) -> None:
        self._current = statement
        if self._closed:
            statement.close()

    def close(self) -> None:
        """Stop the running statement; no further statement runs."""
        self._closed = True
        if self._current is not None:
            self._current.close()


def utc_now() -> datetime:
    """Return the current time as the store represents it: UTC, without a time zone."""
    return datetime.now(UTC).replace(tzinfo=None)


def _table(cursor: duckdb.DuckDBPyConnection, sql: str, params: Params) -> pa.Table:
    return cursor.sql(sql, params=params).to_arrow_table()
