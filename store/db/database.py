"""The one DuckDB connection, owned by the engine.

Invariants: one writer at a time (`transaction()` holds a lock, so no commit ever conflicts); every other
statement runs in a read-only transaction on a cursor of its own, trusted (`query`) or checked (`read_only`,
`stream`); what people write runs in a process of its own (`written`); the files that SQL can reach are those
of the folders in `readable`, and that can't be changed once the database is open. The schema is brought up to
date before anything else is done.
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

STATEMENT_SECONDS = 30.0  # a question of the screens is interrupted after this
CLOSE_SECONDS = 10.0  # our own statements take milliseconds
MEMORY_SHARE = 0.25  # of the machine's memory; the rest is for the workers


_TARGET = re.compile(r"\s*(?:INSERT\s+(?:OR\s+\w+\s+)?INTO|UPDATE|DELETE\s+FROM)\s+(\w+)", re.IGNORECASE)


class Queryable(Protocol):
    """What a query function takes: `Database` and `Transaction` in the engine, `Client` elsewhere."""

    def query(self, sql: str, params: Params = ()) -> pa.Table: ...


class Transaction:
    """What `Database.transaction()` gives: statements that are all kept or all undone."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection, by: str | None) -> None:
        self._cursor = cursor
        self.by = by  # whose command this carries out: a person_id; None for what the engine does by itself
        self.made: defaultdict[str, list[str]] = defaultdict(list)  # table -> ids of rows that are new in it
        self.changed = Counter[str]()  # table -> rows that were added, changed or removed
        self.writes = False

    def execute(self, sql: str, params: Params = ()) -> int:
        """Run a statement that changes rows; the number of rows that it changed."""
        self.writes = True
        self._cursor.execute(sql, params)
        row = self._cursor.fetchone() if self._cursor.description else None
        count = int(row[0]) if row and isinstance(row[0], int) else 0
        if count and (target := _TARGET.match(sql)):
            self.changed[target[1]] += count
        return count

    def query(self, sql: str, params: Params = ()) -> pa.Table:
        """Rows as this transaction sees them, its own changes included."""
        return _table(self._cursor, sql, params)

    @contextmanager
    def table(self, name: str, rows: pa.Table) -> Iterator[None]:
        """Let statements of the block read `rows` as the table `name`; rows are not copied."""
        self._cursor.register(name, rows)  # seen by this cursor alone
        try:
            yield
        finally:
            self._cursor.unregister(name)


class Database:
    """The store in the file `path`; SQL may read the Parquet files under the folders `readable`.

    Raises StateError where another process has the file open, where it is damaged, or where a newer
    Tunebench wrote it.
    """

    def __init__(self, path: Path, readable: Sequence[Path]) -> None:
        self.path = Path(path).resolve()
        self._write_lock = threading.Lock()
        self._writer: int | None = None  # the thread in a transaction
        self._thread = threading.local()  # for whom each thread acts
        self._watch = StatementWatchdog()
        self._commits = 0
        folders = [Path(folder).resolve() for folder in readable]
        self._root = connect(self.path, _compute_memory_limit(), checkpoint_threshold="64MiB")
        aside = self.path.parent / "cache" / "statements"
        self._statements = StatementPool(self.path, folders, aside, self._hold)
        self._journal = CommitJournal(self.path)
        self._number: int | None = None  # of the last commit, once they are numbered
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
        """Rows of a statement of ours. It can't write: that is what `transaction()` is for."""
        cursor = self._root.cursor()
        try:
            cursor.execute("BEGIN TRANSACTION READ ONLY")
            return _table(cursor, sql, params)
        finally:
            cursor.close()

    @contextmanager
    def acting(self, person_id: str, add: Callable[[Transaction], None]) -> Iterator[None]:
        """What this thread writes during the block is done for that person: transactions know whose they are,
        and `add` adds to each of them what belongs to the change before it is committed."""
        self._thread.acting = person_id, add
        try:
            yield
        finally:
            del self._thread.acting

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """One writing transaction: committed at the end of the block, rolled back where it raises."""
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
                cursor.close()  # rolls back what was not committed
                self._writer = None

    def stream(
        self,
        sql: str,
        params: Params = (),
        *,
        timeout: float = STATEMENT_SECONDS,
        deadline: float | None = None,
    ) -> StatementReader:
        """The record batches of one SELECT, while they are made; the caller starts and closes it. It raises
        QueryError where the statement is anything else, fails or takes longer than `timeout` seconds, which
        end at the `deadline` (monotonic) where it is part of more. Nothing is cut: every row is there.
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
        """A statement that a person wrote, in a process of its own over the store as it is when it begins; it
        is ended with its memory after `timeout` seconds, or at the `deadline` as `stream` is. Raises
        QueryError where it is too long.
        """
        left = timeout if deadline is None else max(0.001, deadline - time.monotonic())
        return self._statements.statement(sql, params, left, timeout)

    def reads(self, seconds: float = STATEMENT_SECONDS) -> QueryReader:
        """For one query function that somebody asked for; its statements may take so long all together."""
        return QueryReader(self, seconds)

    def stop_written(self) -> None:
        """Kill the statements that people wrote; for the moment when the engine is asked to stop."""
        self._statements.stop()

    @contextmanager
    def _hold(self, seconds: float) -> Iterator[int]:
        """Let nothing be committed during the block; the number of commits so far."""
        if not self._write_lock.acquire(timeout=seconds):
            raise BusyError("The store was written to for all of the statement's time.", fix="Try again.")
        try:
            yield self._commits
        finally:
            self._write_lock.release()

    def give_way(self, seconds: float) -> None:
        """Let untrusted statements that are under way finish first, waiting at most so long.

        For work that is long and can wait: on a machine with few cores it would slow every screen.
        """
        self._watch.wait_for_readings(seconds)

    def close(self) -> None:
        """Write everything into the database file and let go of it: untrusted statements are stopped,
        our own are waited for, `CLOSE_SECONDS` at most.
        """
        self._statements.close()
        self._watch.close_all()
        deadline = time.monotonic() + CLOSE_SECONDS
        with self._write_lock:
            while True:
                try:
                    self._root.close()
                    return self._journal.close(self._number or 0)
                except duckdb.ResourceInUseException:  # a statement of another thread is under way
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.01)

    def _number_commits(self) -> LostCommits | None:
        """Number commits from here on; what the store lacks of those that were made before."""
        with self.transaction() as tx:
            tx.execute("CREATE TABLE IF NOT EXISTS commit_number (number BIGINT NOT NULL)")  # one row
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
    """Statements of one query function, checked, which may take so many seconds all together, from now on.
    `written`: they hold what a person wrote as SQL. Another thread may close it."""

    written = False

    def __init__(self, database: Database, seconds: float) -> None:
        self._database = database
        self._seconds, self._deadline = seconds, time.monotonic() + seconds
        self._current: Statement | StatementReader | None = None
        self._closed = False

    def query(self, sql: str, params: Params = ()) -> pa.Table:
        """All rows of one SELECT. Raises QueryError where it fails or the time is over, BusyError."""
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
        """Stop what is under way; no statement runs from here on."""
        self._closed = True
        if self._current is not None:
            self._current.close()


def utc_now() -> datetime:
    """The present moment as the store keeps time: UTC, without a zone."""
    return datetime.now(UTC).replace(tzinfo=None)


def _table(cursor: duckdb.DuckDBPyConnection, sql: str, params: Params) -> pa.Table:
    return cursor.sql(sql, params=params).to_arrow_table()


def _compute_memory_limit() -> int:
    """Bytes that DuckDB may use in the engine."""
    return max(2**30, int(psutil.virtual_memory().total * MEMORY_SHARE))
