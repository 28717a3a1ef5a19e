"""The process in which statements that people wrote run: `python -m store.db.statement_process SETUP`.

It works on a copy of the store's files that is made while nothing is committed, and may be killed at any
time.
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

# A copy of the store's files, made while nothing is committed, for a process that may be killed.
#
# DuckDB lets one process open a file, and closing any descriptor of it gives up that process's lock: so the
# copy is made by the process that reads it, never by the engine. The main file changes at checkpoints alone,
# which write new blocks beside the old ones and then one of two headers; all else is in the log beside it. So
# where the headers are as they were, the copy of the main file stays and the log alone is copied again.

HEADER_BYTES = 3 * 4096  # the file's own header, and two that take turns


class Snapshot:
    """The copy of the store `source` in `folder`. Raises OSError where there is no room for it."""

    def __init__(self, source: Path, folder: Path) -> None:
        self._source, self._folder = source, folder
        self._headers = b""  # of the main file that was copied
        self.path = folder / source.name

    def prepare(self) -> None:
        """Copy the main file where it changed, while the store may be written to: the long part."""
        headers = _read_headers(self._source)
        if headers != self._headers:
            self._headers = b""
            _copy(self._source, self.path)
            self._headers = headers  # those from before: `take` sees whether a checkpoint came between

    def take(self) -> None:
        """Make the copy whole; nothing may be committed meanwhile."""
        self.prepare()
        log = Path(f"{self._source}.wal")
        copied = Path(f"{self.path}.wal")
        copied.unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError):
            _copy(log, copied)


def _read_headers(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(HEADER_BYTES)


def _copy(source: Path, target: Path) -> None:
    """As a clone where the file system has them, else inside the kernel."""
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


# The process in which statements that people wrote run: `python -m store.db.statement_process SETUP`.
#
# It is started clean, by no fork of the engine, and holds nothing but DuckDB over a copy of the store
# (`store.db.statement_process`), so that it can be ended at any moment with all of its memory. Three limits
# hold whatever DuckDB does, planning included, and whether the engine lives or not: a limit of its address
# space, the kernel's alarm at the end of a statement's time, and its place behind the engine's work. Orders
# come as frames on stdin (`store.db.records`), answers go as frames to stdout. It ends where stdin does.

IDLE_SECONDS = 600.0  # without an order, and the process ends
ALARM_SECONDS = 0.5  # after a statement's time: it is interrupted first, for that loses fewer words
BESIDE_BYTES = 2**30  # of addresses beside DuckDB's own limit: its parser, planner, threads and texts
SPILL = "4GiB"  # of disk, for what doesn't fit into the limit
TIRED_BYTES = 512 * 2**20  # a process that still holds so much after a statement is not used again
NICE = 10


class StatementSession:
    """Answers orders one after another; `receive` and `send` are the two ends of the engine."""

    def __init__(
        self, setup: ProcessSetup, receive: Callable[[int], bytes], send: Callable[[bytes], None]
    ) -> None:
        self._setup, self._receive, self._send = setup, receive, send
        self._snapshot = Snapshot(Path(setup.database), Path(setup.folder))
        self._commits = -1  # that the copy holds
        self._store: duckdb.DuckDBPyConnection | None = None
        self._apart = self._connect(":memory:")
        self._guard = Guard(self._apart.cursor())
        self._watch = StatementWatchdog()
        self.spent = False

    def answer(self, order: StatementRequest) -> None:
        """Run the statement and send what comes of it."""
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
        """The statement with its first rows: over Parquet files alone where it names no table."""
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
        """The store as it is now: its copy, made anew where something was committed since."""
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
    """Limit the addresses of this process, let all other work go first, and be the one that the kernel ends
    where memory runs out."""
    limit = psutil.Process().memory_info().vms + memory + BESIDE_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.nice(NICE)
    with contextlib.suppress(OSError):  # the kernel's own choice where there is no such file
        Path("/proc/self/oom_score_adj").write_text("800")


def serve(session: StatementSession, receive: Callable[[int], bytes], fd: int) -> None:
    """Answer orders until stdin ends, none comes for long, or the process is spent."""
    while not session.spent and select.select([fd], [], [], IDLE_SECONDS)[0]:
        try:
            kind, content = read_frame(receive)
        except EOFError:
            return
        assert kind is WireMessage.ORDER
        session.answer(StatementRequest(**json.loads(content)))


def main() -> int:
    """Serve one engine; what DuckDB or Python might print goes to stderr, never between the frames."""
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
        with contextlib.suppress(BrokenPipeError):  # nobody is left who would read the answer
            serve(session, receive, 0)
    finally:
        shutil.rmtree(setup.folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    os._exit(code)  # not waiting for threads of a statement that was interrupted
