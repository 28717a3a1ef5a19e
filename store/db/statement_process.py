"""The process that runs statements written by people: `python -m store.db.statement_process SETUP`.

It works on a copy of the store's files that is made while commits are blocked, and can be killed at any time.
It is started fresh, not forked from the engine, and contains nothing but DuckDB over that copy, so that
killing it frees all of its memory. Three limits hold whatever DuckDB does, planning included, and whether the
engine is alive or not: a limit of the address space, the kernel's alarm at the end of a statement's time, and
a priority below the engine's work. Orders arrive as frames on stdin (`store.db.records`), results are written
as frames to stdout. It exits when stdin ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import psutil

from store.core.errors import QueryError, TunebenchError
from store.db.connection import StatementReader, StatementWatchdog, confine, connect
from store.db.records import (
    Encoder,
    ProcessSetup,
    StatementRequest,
    WireMessage,
    encode_frame,
    read_frame,
    to_json,
)
from store.db.sql_guard import Guard

# DuckDB lets only one process open a file, and closing any descriptor of it releases that process's lock, so
# the copy is made by the process that reads it, never by the engine. The main file changes at checkpoints
# only, which write new blocks next to the old ones and then one of two headers; everything else is in the log
# next to it. If the headers are unchanged, the copy of the main file is reused and only the log is copied
# again.

HEADER_BYTES = 3 * 4096  # the main header, and two that alternate


class Snapshot:
    """Copy of the store `source` in `folder`. Raises OSError if there is not enough space."""

    def __init__(self, source: Path, folder: Path) -> None:
        self._source, self._folder = source, folder
        self._headers = b""  # of the copied main file
        self.path = folder / source.name

    def prepare(self) -> None:
        """Copy the main file if it changed, while the store may be written to: the slow part."""
        with open(self._source, "rb") as file:
            headers = file.read(HEADER_BYTES)
        if headers != self._headers:
            self._headers = b""
            _copy(self._source, self.path)
            self._headers = headers  # from before the copy, so that `take` detects a checkpoint in between

    def take(self) -> None:
        """Complete the copy; commits must be blocked meanwhile."""
        self.prepare()
        log = Path(f"{self._source}.wal")
        copied = Path(f"{self.path}.wal")
        copied.unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError):
            _copy(log, copied)


def _copy(source: Path, target: Path) -> None:
    """Copy a file as a clone if the file system supports it, else inside the kernel."""
    target.unlink(missing_ok=True)
    with open(source, "rb") as old, open(target, "wb") as new:
        left = os.fstat(old.fileno()).st_size
        try:
            while left > 0 and (count := os.copy_file_range(old.fileno(), new.fileno(), left)):
                left -= count
        except OSError:
            old.seek(0)
            new.seek(0)
            new.truncate()
            shutil.copyfileobj(old, new, 2**20)


IDLE_SECONDS = 600.0  # without an order, after which the process exits
ALARM_SECONDS = 0.5  # after a statement's time limit; the interrupt comes first, for a better error message
BESIDE_BYTES = 2**30  # address space beyond DuckDB's own limit: parser, planner, threads and texts
SPILL = "4GiB"  # of disk, for what exceeds the memory limit
TIRED_BYTES = 512 * 2**20  # a process that still holds this much after a statement is not reused
NICE = 10


class StatementSession:
    """Processes orders one after another; `receive` and `send` are the pipes to the engine."""

    def __init__(
        self, setup: ProcessSetup, receive: Callable[[int], bytes], send: Callable[[bytes], None]
    ) -> None:
        self._setup, self._receive, self._send = setup, receive, send
        self._snapshot = Snapshot(Path(setup.database), Path(setup.folder))
        self._commits = -1  # number of commits in the copy
        self._store: duckdb.DuckDBPyConnection | None = None
        self._apart = self._connect(":memory:")
        self._guard = Guard(self._apart.cursor())
        self._watch = StatementWatchdog()
        self.spent = False

    def answer(self, order: StatementRequest) -> None:
        """Run the statement and send the result."""
        signal.setitimer(signal.ITIMER_REAL, order.seconds + ALARM_SECONDS)
        self._send(encode_frame(WireMessage.TAKEN))
        try:
            encoder, chunk = self._begin(order, time.monotonic() + order.seconds)
        except TunebenchError as error:
            self._send(encode_frame(WireMessage.REFUSED, to_json(error.to_dict()).encode()))
        except OSError as error:
            refusal = QueryError(f"The store can't be copied for the statement: {error.strerror}.")
            self._send(encode_frame(WireMessage.REFUSED, to_json(refusal.to_dict()).encode()))
            self.spent = True
        else:
            while not encoder.done:
                self._send(encode_frame(WireMessage.ROWS, chunk))
                chunk = encoder.next()
            self._send(encode_frame(WireMessage.BROKEN if encoder.failed else WireMessage.END, chunk))
            self.spent |= encoder.failed
        signal.setitimer(signal.ITIMER_REAL, 0)
        self.spent |= psutil.Process().memory_info().rss > TIRED_BYTES

    def _begin(self, order: StatementRequest, deadline: float) -> tuple[Encoder, bytes]:
        """Start the statement and return its first rows; without the store if it refers to no table."""
        self._guard.check(order.sql)
        if not self._guard.names_tables(order.sql):
            try:
                return self._first(self._apart, order, deadline)
            except QueryError as error:
                if not isinstance(error.__cause__, duckdb.CatalogException):
                    raise
        return self._first(self._newest(), order, deadline)

    def _first(
        self, root: duckdb.DuckDBPyConnection, order: StatementRequest, deadline: float
    ) -> tuple[Encoder, bytes]:
        cursor, limit = root.cursor(), order.limit
        reading = StatementReader(cursor, order.sql, order.params, limit, self._guard, self._watch, deadline)
        encoder = Encoder(reading)
        try:
            return encoder, encoder.first()
        except TunebenchError as error:
            self.spent |= not isinstance(error.__cause__, duckdb.Error) or isinstance(
                error.__cause__, duckdb.InterruptException | duckdb.OutOfMemoryException
            )
            encoder.close()
            raise

    def _newest(self) -> duckdb.DuckDBPyConnection:
        """Return a connection to the current store, with a new copy if there were commits since."""
        self._snapshot.prepare()
        self._send(encode_frame(WireMessage.STORE))
        kind, content = read_frame(self._receive)
        assert kind is WireMessage.HELD
        commits = int(content)
        if self._store is None or commits != self._commits:
            if self._store is not None:
                self._store.close()
                self._store = None
            self._snapshot.take()
        self._send(encode_frame(WireMessage.COPIED))
        if self._store is None:
            self._store = self._connect(self._snapshot.path)
            self._commits = commits
        return self._store

    def _connect(self, path: Path | str) -> duckdb.DuckDBPyConnection:
        spill: dict[str, Any] = {
            "temp_directory": str(Path(self._setup.folder) / "spill"),
            "max_temp_directory_size": SPILL,
            "threads": os.cpu_count() or 1,
        }
        if path != ":memory:":
            spill["access_mode"] = "READ_ONLY"
        root = connect(path, self._setup.memory, **spill)
        confine(root, [Path(folder) for folder in self._setup.readable])
        return root


def lower_priority(memory: int) -> None:
    """Limit the address space of this process, lower its priority, and make it the kernel's first choice to
    kill when memory runs out.
    """
    limit = psutil.Process().memory_info().vms + memory + BESIDE_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.nice(NICE)
    with contextlib.suppress(OSError):  # without such a file the kernel decides
        Path("/proc/self/oom_score_adj").write_text("800")


def serve(session: StatementSession, receive: Callable[[int], bytes], fd: int) -> None:
    """Process orders until stdin ends, none arrives for a long time, or the process is spent."""
    while not session.spent and select.select([fd], [], [], IDLE_SECONDS)[0]:
        try:
            kind, content = read_frame(receive)
        except EOFError:
            return
        assert kind is WireMessage.ORDER
        session.answer(StatementRequest(**json.loads(content)))


def main() -> int:
    """Serve one engine. Output printed by DuckDB or Python goes to stderr, never between frames."""
    setup = ProcessSetup(**json.loads(sys.argv[1]))
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    orders = os.fdopen(0, "rb", buffering=0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def send(content: bytes) -> None:
        view = memoryview(content)
        while view:
            view = view[answers.write(view) :]

    def receive(count: int) -> bytes:
        content = b""
        while len(content) < count and (part := orders.read(count - len(content))):
            content += part
        return content

    Path(setup.folder).mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        session = StatementSession(setup, receive, send)
        lower_priority(setup.memory)
        with contextlib.suppress(BrokenPipeError):  # nobody is left to read the result
            serve(session, receive, 0)
    finally:
        shutil.rmtree(setup.folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    os._exit(code)  # don't wait for threads of an interrupted statement
