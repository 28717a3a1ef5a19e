"""The engine's side of the host process (`engine.playground.host`), and turns while they are answered.

The process is started on demand, ended when it is idle or room is needed, and restarted after it died. It
is a worker like that of a query, with a folder, a job spec and `worker.json`, and in addition a Unix
socket at which the engine listens, and over which requests are sent and events received. The process ends
with that connection. Answers are requested in the event loop of the server; `end` and the figures may be
called from any thread.

A turn belongs to the engine, not to a reader: readers may leave and come back, even from another browser,
and receive all events. Several readers may follow at their own pace, because events are stored until the
turn has ended (max new tokens bounds their number).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import shutil
import tempfile
import threading
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import psutil

from engine.playground.text import build_exit_error
from engine.server.local_launcher import Launcher, Worker, count_usable_cores
from engine.server.sync_jobs import create_spec_folder, remove_tree
from store.core.errors import TunebenchError
from store.core.home import Home
from store.core.job_folder import JobDir, read_json
from store.core.row_schemas import Message
from store.db.records import to_json
from store.jobs.schemas import WorkerRecord
from store.playground.config import ChatModel, drop_defaults
from store.playground.feature import TALK
from store.playground.schemas import (
    ChatCommand,
    ChatEvent,
    ChatFigures,
    ChatToken,
    EndReason,
    HostEvent,
    TurnAnswer,
)

KEEPALIVE_SECONDS = 2.0  # silence after which a keep-alive line is sent, which also detects readers that left
KEEP_SECONDS = 5.0  # interval of storing partial answers, in case the engine is killed


@dataclass
class TurnModel:
    """One model of a turn, and its answer."""

    place: int
    choice: ChatModel
    name: str  # name of the model
    label: str  # label of its answer, distinct within the turn
    messages: list[Message]
    left_out: int
    problem: TunebenchError | None = None  # why it can't answer
    tokens: list[ChatToken] = field(default_factory=list)
    reason: EndReason = "stopped"
    figures: ChatFigures | None = None
    error: TunebenchError | None = None

    def update(self, event: HostEvent) -> None:
        """Update the answer from an event."""
        if event["type"] == "token":
            token: ChatToken = {"text": event["text"], "logprob": event["logprob"], "top": event["top"]}
            self.tokens.append(token)
        elif event["type"] == "end":
            self.reason, self.figures = event["reason"], event["figures"]

    def build_answer(self, turn_id: str) -> TurnAnswer:
        """Return the answer as it is stored."""
        return TurnAnswer(
            turn_id=turn_id,
            place=self.place,
            label=self.label,
            model=drop_defaults(self.choice),
            text="".join(token["text"] for token in self.tokens),
            tokens=list(self.tokens),
            reason=self.reason,
            figures=self.figures,
            error=self.error.to_dict() if self.error else None,
        )


class LiveTurn:
    """A turn, from its start until its answers are stored.

    `turn_id`: empty if nothing is stored. Only used in the event loop of the server.
    """

    def __init__(self, turn_id: str, models: list[TurnModel]) -> None:
        self.turn_id, self.models = turn_id, models
        self._events: list[ChatEvent] = []
        self._changed = asyncio.Event()
        self._answers: list[asyncio.Task[None]] = []
        self.is_over = False  # its answers are stored
        if turn_id:
            self.send({"type": "turn", "turn": turn_id, "labels": [model.label for model in models]})

    def send(self, event: ChatEvent) -> None:
        """Send an event to all current and future readers."""
        self._events.append(event)
        self._notify()

    def stop(self) -> None:
        """Stop generating; the partial answers are stored."""
        for answer in self._answers:
            answer.cancel()

    async def run(
        self, answer: Callable[[LiveTurn, TurnModel], Awaitable[None]], store: Callable[[], None]
    ) -> None:
        """Let all models answer, and store their answers periodically and when the last one has ended."""
        self._answers = [asyncio.create_task(self._run_answer(answer, model)) for model in self.models]
        try:
            while (await asyncio.wait(self._answers, timeout=KEEP_SECONDS))[1]:
                if self.turn_id:
                    await asyncio.to_thread(store)
        finally:
            self.stop()
            with anyio.CancelScope(shield=True):
                await asyncio.gather(*self._answers, return_exceptions=True)
                try:
                    if self.turn_id:
                        await asyncio.to_thread(store)
                finally:
                    self.is_over = True
                    self._notify()

    async def stream_lines(self) -> AsyncGenerator[bytes, None]:
        """Yield all events, from the first one, until the answers are stored."""
        sent = 0
        while True:
            changed = self._changed
            for event in self._events[sent:]:
                sent += 1
                yield _encode_event(event)
            if sent < len(self._events):
                continue
            if self.is_over:
                return
            try:
                await asyncio.wait_for(changed.wait(), KEEPALIVE_SECONDS)
            except TimeoutError:
                yield _encode_event({"type": "alive"})

    async def _run_answer(
        self, answer: Callable[[LiveTurn, TurnModel], Awaitable[None]], model: TurnModel
    ) -> None:
        """Run one answer and make sure that its last event is `end` or `failed`."""
        try:
            await answer(self, model)
        except TunebenchError as error:
            model.reason, model.error = "failed", error
            self.send({"type": "failed", "place": model.place, "error": error.to_dict()})
        except asyncio.CancelledError:
            self.send({"type": "end", "place": model.place, "reason": "stopped"})
            raise

    def _notify(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


def _encode_event(event: ChatEvent) -> bytes:
    return to_json(event).encode() + b"\n"


log = logging.getLogger(__name__)

START_SECONDS = 120.0  # includes imports on a busy machine
POLL = 0.02
MAX_LINE_BYTES = 2**22  # maximum bytes of an event
ACKNOWLEDGE_EVERY = 16  # tokens between acknowledgements of the reader's position
SHARE_OF_CORES = 4  # beside a run, one of so many cores is used

Events = asyncio.Queue[HostEvent]
_Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass
class _ConnectedProcess:
    """A host process that has connected."""

    folder: JobDir
    worker: WorkerRecord
    writer: asyncio.StreamWriter
    loop: asyncio.AbstractEventLoop
    shares: bool = False  # shares the machine with a run, until it ends
    answers: dict[str, Events] = field(default_factory=dict)
    gpu_bytes: int | None = None
    loaded: list[str] = field(default_factory=list)
    stop_reason: TunebenchError | None = None  # why the engine ended it


class HostProcess:
    """At most one host process at a time, on one device."""

    def __init__(
        self,
        launcher: Launcher,
        home: Home,
        device: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._launcher, self._home, self._device, self._clock = launcher, home, device, clock
        self._connected: _ConnectedProcess | None = None
        self._starting = asyncio.Lock()
        self._lock = threading.Lock()
        self._reading: asyncio.Task[None] | None = None  # protects it from garbage collection
        self._number = 0
        self.used_at = clock()

    # -- callable from any thread ------------------------------------------------------------------

    @property
    def pid(self) -> int | None:
        """Process id, None if no process is running."""
        connection = self._connected
        return connection.worker["pid"] if connection else None

    @property
    def loaded(self) -> list[str]:
        """Names of the loaded models."""
        connection = self._connected
        return list(connection.loaded) if connection else []

    @property
    def gpu_bytes(self) -> int | None:
        connection = self._connected
        return connection.gpu_bytes if connection else None

    @property
    def on_gpu(self) -> bool:
        return self._device.startswith("cuda")

    @property
    def answering(self) -> bool:
        """Whether an answer is being generated."""
        connection = self._connected
        return bool(connection and connection.answers)

    @property
    def shares(self) -> bool:
        """Whether the process only has a share of the machine."""
        connection = self._connected
        return bool(connection and connection.shares)

    def share(self) -> None:
        """Leave most of the machine to a run until the process ends.

        The lower priority of its threads can't be undone, as only root may raise a priority.
        """
        connection = self._connected
        if connection is None or connection.shares:
            return
        connection.shares = True
        threads = max(1, count_usable_cores() // SHARE_OF_CORES)
        with contextlib.suppress(RuntimeError):  # the loop is closed: the engine is stopping
            command: ChatCommand = {"do": "share", "id": "", "threads": threads}
            connection.loop.call_soon_threadsafe(_write, connection.writer, command)

    def measure_memory(self) -> int | None:
        """Return the current memory usage of the process."""
        pid = self.pid
        if pid is None:
            return None
        try:
            return int(psutil.Process(pid).memory_info().rss)
        except psutil.NoSuchProcess:
            return None

    def stop(self, reason: TunebenchError) -> None:
        """Kill the process, if any; running answers fail with `reason`."""
        with self._lock:
            connection = self._connected
            if connection is None:
                return
            connection.stop_reason = reason
            self._launcher.stop(_build_worker(connection.folder, connection.worker), force=True)

    # -- an answer ---------------------------------------------------------------------------------

    async def stream_answer(
        self, command: ChatCommand, *, shares: bool = False
    ) -> AsyncGenerator[HostEvent, None]:
        """Yield the events of one answer up to `end` or `failed`; closing it earlier stops the generation.

        shares: the machine is shared with a run. Raises TunebenchError if the process can't be started or
        ends before the answer.
        """
        connection = await self._get_process()
        if shares:
            self.share()
        self._number += 1
        answer_id = str(self._number)
        events: Events = asyncio.Queue()
        connection.answers[answer_id] = events
        finished, tokens = False, 0
        try:
            await self._send(connection, {**command, "do": "answer", "id": answer_id})
            while not finished:
                event = await events.get()
                self.used_at = self._clock()
                finished = event["type"] in ("end", "failed")
                tokens += event["type"] == "token"
                yield event
                if tokens and tokens % ACKNOWLEDGE_EVERY == 0:
                    await self._send(connection, {"do": "taken", "id": answer_id, "tokens": tokens})
        finally:
            connection.answers.pop(answer_id, None)
            if not finished:
                _write(connection.writer, {"do": "stop", "id": answer_id})

    async def _send(self, connection: _ConnectedProcess, command: ChatCommand) -> None:
        with contextlib.suppress(OSError):  # a dead process is reported by its events
            connection.writer.write(_encode_order(command))
            await connection.writer.drain()

    # -- the process -------------------------------------------------------------------------------

    async def _get_process(self) -> _ConnectedProcess:
        async with self._starting:
            while self._connected and self._connected.stop_reason:  # killed, and about to end
                await asyncio.sleep(POLL)
            if self._connected is None:
                self._connected = await self._start()
            self.used_at = self._clock()
            return self._connected

    async def _start(self) -> _ConnectedProcess:
        self._home.check_space()
        socket_folder = Path(
            tempfile.mkdtemp(prefix="tunebench-talk-")
        )  # the length of a socket's path is limited
        folder = create_spec_folder(self._home, TALK, self._device, {"socket": str(socket_folder / "s")})
        connected: asyncio.Future[_Streams] = asyncio.get_running_loop().create_future()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if not connected.done():
                connected.set_result((reader, writer))

        server = await asyncio.start_unix_server(accept, socket_folder / "s", limit=MAX_LINE_BYTES)
        try:
            self._launcher.start(folder.path, TALK)
            reader, writer = await self._await_connection(connected, folder)
        except BaseException:
            await asyncio.to_thread(self._clean_up, folder)
            raise
        finally:
            server.close()
            shutil.rmtree(socket_folder, ignore_errors=True)
        connection = _ConnectedProcess(folder, read_json(folder.worker), writer, asyncio.get_running_loop())
        self._reading = asyncio.create_task(self._dispatch_events(connection, reader))
        return connection

    async def _await_connection(self, connected: asyncio.Future[_Streams], folder: JobDir) -> _Streams:
        deadline = time.monotonic() + START_SECONDS
        while not connected.done():
            if exit_status := self._launcher.last_exit(folder.path):
                raise TunebenchError(
                    f"The process of the models ended (exit code {exit_status.code}) before it could talk.",
                    fix="Try again; see logs/engine.log for details.",
                )
            if time.monotonic() > deadline:
                raise TunebenchError(
                    f"The process of the models did not start within {START_SECONDS:.0f} s.",
                    fix="The machine may be busy; try again.",
                )
            await asyncio.sleep(POLL)
        return connected.result()

    async def _dispatch_events(self, connection: _ConnectedProcess, reader: asyncio.StreamReader) -> None:
        """Dispatch the events of the process until it ends; then fail all running answers."""
        try:
            with contextlib.suppress(OSError, ValueError):  # killed in the middle of a line
                async for line in reader:
                    event: HostEvent = json.loads(line)
                    if events := connection.answers.get(event["id"]):
                        events.put_nowait(event)
                    elif "loaded" in event:
                        connection.loaded, connection.gpu_bytes = event["loaded"], event["gpu_bytes"]
        finally:
            with self._lock:
                self._connected = None
            connection.writer.close()
        error = (connection.stop_reason or await self._build_exit_error(connection)).to_dict()
        for answer_id, events in connection.answers.items():
            events.put_nowait({"id": answer_id, "type": "failed", "error": error})
        await asyncio.to_thread(self._clean_up, connection.folder)

    async def _build_exit_error(self, connection: _ConnectedProcess) -> TunebenchError:
        """Return the error for an unexpected end, with the exit code if it is known soon."""
        for _ in range(50):
            if exit_status := self._launcher.last_exit(connection.folder.path):
                code = f" (exit code {exit_status.code})"
                break
            await asyncio.sleep(POLL)
        else:
            code = ""
        log.warning("The talking process %s ended%s.", connection.worker["pid"], code)
        return build_exit_error(code)

    def _clean_up(self, folder: JobDir) -> None:
        """Stop the process if it is still running and remove its folder."""
        worker: WorkerRecord | None = read_json(folder.worker)
        if worker:
            self._launcher.stop(_build_worker(folder, worker), force=True)
        remove_tree(folder.path)


def _build_worker(folder: JobDir, record: WorkerRecord) -> Worker:
    return Worker(folder.path, record["pid"], record["started"])


def _write(writer: asyncio.StreamWriter, command: ChatCommand) -> None:
    with contextlib.suppress(OSError):  # a dead process is reported by its events
        writer.write(_encode_order(command))


def _encode_order(command: ChatCommand) -> bytes:
    return json.dumps(command).encode() + b"\n"
