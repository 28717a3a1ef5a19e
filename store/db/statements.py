"""Statements written by people, each run in its own process that is killed with its memory.

DuckDB can't be interrupted while it plans a statement or evaluates one call, and what it allocates then is
not subject to its memory limit. The engine therefore never runs such a statement itself: it starts a process
for it (`store.db.statement_process`), keeps one of them warm, lets it copy the store, forwards its rows as
they arrive and kills it when its time is up. The number of slots is small; a statement without one waits for
a while and is then rejected. Queries of Tunebench's own screens don't run here, so statements never compete
with them for slots.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import shutil
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from pathlib import Path

import psutil
import pyarrow as pa

from store.core.errors import BusyError, EngineUnavailable, QueryError, StateError, TunebenchError, from_dict
from store.db.connection import LESS, Params
from store.db.records import (
    ProcessSetup,
    StatementRequest,
    WireMessage,
    encode_error_batch,
    encode_frame,
    read_frame,
)
from store.db.sql_guard import SHORTER, find_length_problem

SECONDS = 30.0  # time limit of a statement
KILL_SECONDS = 1.0  # after that; the process's own alarm comes first
PLACES = 3  # concurrent statements
WAITING = 16  # statements that wait for a slot
WAIT_SECONDS = 10.0
MIN_MEMORY, MAX_MEMORY, MEMORY_SHARE = 512 * 2**20, 2**30, 1 / 24  # per statement
COMMAND = (sys.executable, "-m", "store.db.statement_process")

Hold = Callable[[float], AbstractContextManager[int]]


class _DeadlineExceeded(Exception):
    """Nothing was received before the deadline."""


class _Process:
    """A statement process and the pipes for its frames."""

    def __init__(self, setup: ProcessSetup) -> None:
        self._folder = Path(setup.folder)
        self._process = subprocess.Popen(
            [*COMMAND, json.dumps(asdict(setup))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            bufsize=0,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._orders, self._answers = self._process.stdin, self._process.stdout
        self._ready = selectors.DefaultSelector()
        self._ready.register(self._answers, selectors.EVENT_READ)

    def send(self, content: bytes) -> None:
        """Send bytes. Raises OSError if the process has ended."""
        view = memoryview(content)
        while view:
            view = view[self._orders.write(view) or 0 :]

    def receive(self, deadline: float) -> tuple[WireMessage, bytes]:
        """Return the next frame. Raises EOFError if the process has ended, _DeadlineExceeded at the deadline
        (monotonic).
        """

        def read(count: int) -> bytes:
            content = bytearray()
            while len(content) < count:
                if not self._ready.select(max(0.0, deadline - time.monotonic())):
                    raise _DeadlineExceeded
                part = os.read(self._answers.fileno(), count - len(content))
                if not part:
                    break
                content += part
            return bytes(content)

        return read_frame(read)

    def kill(self) -> None:
        self._process.kill()

    def end(self) -> None:
        """Kill the process, wait until its memory is freed, and remove its copy of the store."""
        self._process.kill()
        self._process.wait()
        self._ready.close()
        self._orders.close()
        self._answers.close()
        shutil.rmtree(self._folder, ignore_errors=True)


class StatementPool:
    """Pool of slots for statements. `hold(seconds)`: context manager that blocks commits and yields their
    number.
    """

    def __init__(self, database: Path, readable: Sequence[Path], folder: Path, hold: Hold) -> None:
        share = int(psutil.virtual_memory().total * MEMORY_SHARE)
        memory = max(MIN_MEMORY, min(MAX_MEMORY, share))
        self._setup = ProcessSetup(str(database), [str(path) for path in readable], str(folder), memory)
        self._folder = folder
        self.hold = hold
        self._changed = threading.Condition()
        self._idle: list[_Process] = []
        self._running: set[_Process] = set()
        self._taken = self._waiting = 0
        self.closed = False
        shutil.rmtree(folder, ignore_errors=True)  # left by an engine that was killed

    def statement(
        self, sql: str, params: Params = (), seconds: float = SECONDS, limit: float | None = None
    ) -> Statement:
        """Create a statement. limit: as in `StatementRequest`, if it is more than `seconds`. Raises
        QueryError if the statement is too long; its depth is checked by its process.
        """
        if reason := find_length_problem(sql):
            raise QueryError(reason, fix=SHORTER)
        plain = dict(params) if isinstance(params, Mapping) else list(params)
        return Statement(self, StatementRequest(sql, plain, seconds, seconds if limit is None else limit))

    def take(self) -> _Process:
        """Return a process for one statement. Raises BusyError if no slot becomes free."""
        with self._changed:
            if self._waiting >= WAITING:
                raise _make_busy_error()
            self._waiting += 1
            try:
                self._changed.wait_for(lambda: self.closed or self._taken < PLACES, WAIT_SECONDS)
            finally:
                self._waiting -= 1
            if self.closed:
                self._changed.notify()  # `stop` wakes nobody, so each waiting thread wakes the next
                raise _make_stopping_error()
            if self._taken >= PLACES:
                raise _make_busy_error()
            self._taken += 1
            process = self._idle.pop() if self._idle else None
        try:
            return self._run(process or self._fresh())
        except BaseException:
            with self._changed:
                self._taken -= 1
                self._changed.notify()
            raise

    def exchange(self, process: _Process) -> _Process:
        """Return a fresh process in place of one that ended before it accepted its order."""
        self._running.discard(process)
        process.end()
        return self._run(self._fresh())

    def give_back(self, process: _Process, *, good: bool) -> None:
        """Release the slot; a process that is still good is kept warm for the next statement."""
        with self._changed:
            self._running.discard(process)
            kept = good and not self.closed and not self._idle
            if kept:
                self._idle.append(process)
        if not kept:
            process.end()  # free the slot only after the memory
        with self._changed:
            self._taken -= 1
            self._changed.notify()
            if self._idle or self.closed:
                return
            with contextlib.suppress(StateError):  # the next statement reports it if it persists
                self._idle.append(self._fresh())

    def stop(self) -> None:
        """Kill all running statements. Takes no lock, so it can be called from a signal handler."""
        self.closed = True
        for process in list(self._running):
            process.kill()

    def close(self) -> None:
        """End all processes; no further statement runs."""
        self.stop()
        with self._changed:
            idle, self._idle = self._idle, []
            self._changed.notify_all()
        for process in idle:
            process.end()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _fresh(self) -> _Process:
        try:
            return _Process(replace(self._setup, folder=str(self._folder / uuid.uuid4().hex)))
        except OSError as error:
            raise StateError(
                f"No process can be started for the statement ({error.strerror}).",
                fix="End other jobs and programs, then try again.",
            ) from error

    def _run(self, process: _Process) -> _Process:
        self._running.add(process)
        if self.closed:
            process.kill()
        return process


class Statement:
    """A statement as chunks of an Arrow stream (`store.db.records.Chunks`). Other threads may close it."""

    def __init__(self, places: StatementPool, order: StatementRequest) -> None:
        self._places, self._order = places, order
        self._process: _Process | None = None
        self._schema: pa.Schema | None = None
        self._lock = threading.Lock()
        self._busy = threading.Lock()  # held while waiting for rows
        self.done = self.failed = self.closed = False

    def first(self) -> bytes:
        """Return schema and first rows. Raises QueryError if it can't run, BusyError if there is no free
        slot.
        """
        with self._busy:
            process = self._places.take()
            with self._lock:
                self._process = process
                if self.closed:  # the client has disconnected meanwhile
                    process.kill()
            self._deadline = time.monotonic() + self._order.seconds + KILL_SECONDS
            try:
                self._hand_over()
                chunk = self._next_chunk()
                self._schema = pa.ipc.open_stream(chunk).schema
            except BaseException:
                self._end(good=False)
                raise
            return chunk

    def next(self) -> bytes:
        """Return more rows, the end of the stream, or the error."""
        with self._busy:
            try:
                return self._next_chunk()
            except TunebenchError as error:
                self._end(good=False)
                self.done = self.failed = True
                assert self._schema is not None
                return encode_error_batch(self._schema, error)

    def close(self) -> None:
        """Kill the statement if it is running, and release its slot."""
        with self._lock:
            self.closed = True
            if self._process is not None:
                self._process.kill()
        with self._busy:
            self._end(good=False)

    def _hand_over(self) -> None:
        """Send the order; a process that has ended while idle is replaced."""
        for attempt in (1, 2):
            assert self._process is not None
            with contextlib.suppress(OSError, EOFError, _DeadlineExceeded):
                self._process.send(encode_frame(WireMessage.ORDER, json.dumps(asdict(self._order)).encode()))
                if self._process.receive(self._deadline)[0] is WireMessage.TAKEN:
                    return
            if attempt == 1 and not self.closed and not self._places.closed:
                process = self._places.exchange(self._process)
                with self._lock:
                    self._process = process
        raise self._why_it_ended()

    def _next_chunk(self) -> bytes:
        if self._process is None:
            raise self._why_it_ended()
        try:
            kind, content = self._process.receive(self._deadline)
            if kind is WireMessage.STORE:
                kind, content = self._let_copy()
        except (EOFError, _DeadlineExceeded, OSError) as error:
            raise self._why_it_ended() from error
        if kind is WireMessage.REFUSED:
            self._end(good=True)
            raise from_dict(json.loads(content))
        if kind in (WireMessage.END, WireMessage.BROKEN):
            self.done, self.failed = True, kind is WireMessage.BROKEN
            self._end(good=kind is WireMessage.END)
        return content

    def _let_copy(self) -> tuple[WireMessage, bytes]:
        """Block commits while the process copies the store; return the next frame."""
        assert self._process is not None
        with self._places.hold(max(0.0, self._deadline - time.monotonic())) as commits:
            self._process.send(encode_frame(WireMessage.HELD, str(commits).encode()))
            kind, content = self._process.receive(self._deadline)
        return self._process.receive(self._deadline) if kind is WireMessage.COPIED else (kind, content)

    def _end(self, *, good: bool) -> None:
        with self._lock:
            process, self._process = self._process, None
            good = good and not self.closed
            self.closed = True
        if process is not None:
            self._places.give_back(process, good=good)

    def _why_it_ended(self) -> TunebenchError:
        if self._places.closed:
            return _make_stopping_error()
        if self.closed:
            return QueryError("The statement was closed before its last row.")
        if time.monotonic() > self._deadline - KILL_SECONDS:
            return QueryError(
                f"The statement took longer than {self._order.limit:.2g} s and was stopped.", fix=LESS
            )
        return QueryError("The statement needs more memory than one may use, or is too deep.", fix=LESS)


def _make_busy_error() -> BusyError:
    return BusyError(
        f"{PLACES} statements are under way, as many as may be at once.",
        fix="Try again when one of them has ended; each is stopped after 30 s at the latest.",
    )


def _make_stopping_error() -> EngineUnavailable:
    return EngineUnavailable("The engine is being stopped.")
