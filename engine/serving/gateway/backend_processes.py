"""The backends of an endpoint: processes that the gateway starts, keeps alive and ends, or addresses
elsewhere.

Each takes so many requests at once, with a bounded queue behind them; shadow copies get a place when nobody
else waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from socket import gaierror
from typing import Literal

from engine.serving.gateway.backend_http import CONNECT_SECONDS, BackendClient, BackendConnectionError
from engine.serving.gateway.request_bodies import TOKENS, Refusal
from store.core.address_policy import AddressPolicy
from store.core.documents import parse_document
from store.core.errors import ConfigError, ModelError, TunebenchError
from store.core.job_folder import read_json, write_json
from store.core.schemas import ErrorDocument
from store.serving.schemas import BackendSpec, BackendState, Capabilities, ServedBackend

_FIRST_GUESS = 1.0  # seconds of an answer, before any was measured
_SMOOTHING = 0.1


class Slots:
    """First come, first served; `low` ones (shadow copies) get a place when nobody else waits."""

    def __init__(self, size: int, queue: int) -> None:
        self.size, self.queue = size, queue
        self.running = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._low: deque[asyncio.Future[None]] = deque()
        self._seconds = _FIRST_GUESS

    @property
    def waiting(self) -> int:
        """Requests that wait, copies left out."""
        return len(self._waiting)

    async def take(self, *, low: bool = False) -> None:
        """Wait for a place. Raises Refusal (429) where too many wait already."""
        if self.running < self.size and not self._waiting and not (low and self._low):
            self.running += 1
            return
        if not low and len(self._waiting) >= self.queue:
            wait = self._seconds * (len(self._waiting) + 1) / self.size
            raise Refusal(
                429,
                "queue_full",
                f"{len(self._waiting)} requests wait already, as many as may wait at this endpoint.",
                retry_after=min(wait, 120),
            )
        line = self._low if low else self._waiting
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        line.append(turn)
        try:
            await turn  # whoever sets it has counted the place as taken
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give()
            else:
                line.remove(turn)
            raise

    def give(self, seconds: float | None = None) -> None:
        """A place is free again; seconds: that it was used, for telling others how long they would wait."""
        if seconds is not None:
            self._seconds += _SMOOTHING * (seconds - self._seconds)
        self.running -= 1
        for line in (self._waiting, self._low):
            while line and self.running < self.size:
                turn = line.popleft()
                if not turn.done():
                    self.running += 1
                    turn.set_result(None)


# The backends of an endpoint: processes that the gateway starts, keeps alive and ends, or addresses
# elsewhere.
#
# A process is told by `spec.json` in a folder of its own, and says by `ready.json` or `failed.json` beside
# it how its start went; it is asked over the Unix socket that the spec names. One that ends is started
# again, each time after a longer wait, unless it never came up.

COMMAND = (sys.executable, "-m", "engine.serving.backend")
PROJECT = Path(__file__).resolve().parents[3]
POLL_SECONDS = 0.05
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # before it is started again
STEADY_SECONDS = 60.0  # after which a start counts as one that went well
END_SECONDS = 10.0  # from SIGTERM to SIGKILL, beyond the answers under way
SOCKET_BYTES = 100  # of a path; the system takes 107
LOG_TAIL = 2000
PROBE_SECONDS = 15.0  # between two looks at whether an address that was reached listens still
RETRY_SECONDS = 1.0  # after a look that failed; one alone may be an accident
UNREACHABLE_SECONDS = 5.0  # and while nothing listens
MAX_MISSED = 2  # looks in a row, from which on it is unreachable


class Backend:
    """One backend, from its start to its end."""

    def __init__(
        self,
        document: ServedBackend,
        folder: Path,
        home: str,
        policy: AddressPolicy,
        queue: int,
        command: Sequence[str],
    ) -> None:
        self._policy = policy
        self.document, self.folder, self._home, self._command = document, folder, home, command
        self.slots = Slots(document.max_streams, queue)
        self.phase: Literal["starting", "ready", "failed", "stopped"] = "starting"
        self.error: ErrorDocument | None = None
        self.capabilities: Capabilities | None = None
        self.client: BackendClient | None = None
        self.starts = 0
        self.settled = asyncio.Event()  # its first start went well, or did not
        self._seconds: float | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._task: asyncio.Task[None] | None = None
        self._ended = False
        self._missed = 0
        self._unreachable_since: float | None = None

    def begin(self) -> None:
        """Start it; returns at once."""
        self._task = asyncio.create_task(self._run())

    def set_policy(self, policy: AddressPolicy) -> None:
        """Where an address may be from now on; connections that are kept were opened by the old word."""
        if policy.networks == self._policy.networks or self.document.engine != "remote":
            return
        self._policy = policy
        if self.client:
            self.client.close()
        self._take_remote()

    @property
    def has_given_up(self) -> bool:
        """It failed, and is not tried again by itself, as an address is that can't be reached."""
        return self.phase == "failed" and self._unreachable_since is None

    @property
    def why_not(self) -> str:
        """Why it does not answer, in a sentence."""
        if self.error:
            return f"{self.error['message']} {self.error.get('fix', '')}".strip()
        return "it is still starting." if self.phase == "starting" else "it has ended."

    @property
    def longest_answer(self) -> int:
        """Tokens of an answer for which a request names no number. A server that obeys no number goes on to
        the end of its context."""
        most, capabilities = self.document.most_answer, self.capabilities
        if capabilities is None or any(name in capabilities.fields for name in TOKENS):
            return most
        return max(most, capabilities.context or 0)

    def state(self) -> BackendState:
        """For `state.json`."""
        return BackendState(
            backend_id=self.document.backend_id,
            engine=self.document.engine,
            model=self.document.model,
            phase=self.phase,
            error=self.error,
            seconds=self._seconds,
            starts=self.starts,
            running=self.slots.running,
            waiting=self.slots.waiting,
            capabilities=self.capabilities,
            unreachable_since=self._unreachable_since,
        )

    async def end(self) -> None:
        """Let it finish and end; answers under way are the caller's to wait for. One that has ended is left
        as it is: its folder and its socket may be another's by now."""
        if self._ended:
            return
        self.phase = "stopped"
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await self._end_process()
        if self.client:
            self.client.close()
        if self.document.engine != "remote":
            shutil.rmtree(self._socket().parent, ignore_errors=True)
        self._ended = True

    # -- its life -----------------------------------------------------------------------------------

    async def _run(self) -> None:
        if self.document.engine == "remote":
            self._take_remote()
            await self._watch_remote()
            return
        pause = FIRST_PAUSE
        while self.phase != "stopped":
            began = time.monotonic()
            self.starts += 1
            await self._start()
            came_up = self.phase == "ready"
            self.settled.set()
            if came_up and self._process:
                await self._process.wait()
                self._note_end()
            elif self.starts == 1:
                return  # what never came up is tried again when somebody asks for that: its reason stays
            pause = (
                FIRST_PAUSE if time.monotonic() - began > STEADY_SECONDS else min(2 * pause, LONGEST_PAUSE)
            )
            await asyncio.sleep(pause)
            self.phase = "starting"

    def _take_remote(self) -> None:
        url, variable = self.document.url, self.document.key_env
        assert url
        self.client = None  # one that was there holds to the old policy
        self._missed, self._unreachable_since = 0, None
        try:
            self._policy.check(url, "subject")
        except ConfigError as error:
            self._fail(error)
            return
        key = os.environ.get(variable) if variable else None
        if variable and not key:
            self._fail(
                ConfigError(
                    f"The variable {variable} of the environment is not set, so that {url} can't be asked.",
                    fix=f"Set {variable}, start the engine anew, and then the endpoint.",
                    field="key_env",
                )
            )
            return
        self.client = BackendClient(url=url, key=key, policy=self._policy)
        self.capabilities = self.document.capabilities
        self.phase, self.error = "ready", None

    async def _watch_remote(self) -> None:
        """See again and again whether anything listens at the address, so that nobody is sent where nothing
        does, and what comes back is used by itself."""
        if self.phase == "ready":
            self.phase = "starting"  # until it was reached
        while self.phase != "stopped":
            pause = PROBE_SECONDS
            if self.phase != "failed" or self._unreachable_since is not None:
                pause = await self._look_at_address()
            if pause != RETRY_SECONDS:
                self.settled.set()
            await asyncio.sleep(pause)

    async def _look_at_address(self) -> float:
        """Whether it can be connected to; the seconds until the next look."""
        client, failure = self.client, None
        assert client
        try:
            await client.reach()
        except BackendConnectionError as error:
            failure = error
        if client is not self.client:  # another policy came meanwhile: what this one met says nothing
            return RETRY_SECONDS
        # What the policy refuses was not tried: each request is told so.
        if failure and not isinstance(failure.__cause__, ConfigError):
            self._missed += 1
            if self._missed < MAX_MISSED:
                return RETRY_SECONDS
            self._note_unreachable(_describe_unreachable(failure))
            return UNREACHABLE_SECONDS
        self._missed, self._unreachable_since = 0, None
        self.phase, self.error = "ready", None
        return PROBE_SECONDS

    def _note_unreachable(self, why: str) -> None:
        if self._unreachable_since is None:
            self._unreachable_since = time.time()
        since = datetime.fromtimestamp(self._unreachable_since, UTC)
        self._fail(
            ModelError(
                f"{self.document.url} is unreachable since {since.day} {since:%b %Y, %H:%M} UTC: {why}.",
                fix=f"Start the server there, or give the endpoint another address. It is tried every"
                f" {UNREACHABLE_SECONDS:.0f} seconds, and used as soon as it can be reached.",
            )
        )

    async def _start(self) -> None:
        began = time.monotonic()
        try:
            await self._start_process()
            await self._await_word()
            self._seconds = time.monotonic() - began
        except TunebenchError as error:
            self._fail(error)
        except (OSError, BackendConnectionError) as error:
            self._fail(ModelError(f"{self.document.model} could not be started: {error}."))
        if self.phase == "failed":
            await self._end_process()

    async def _start_process(self) -> None:
        for name in ("ready.json", "failed.json"):
            (self.folder / name).unlink(missing_ok=True)
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        socket = self._socket()
        socket.unlink(missing_ok=True)
        write_json(self.folder / "spec.json", self._spec(str(socket)))
        root = str(PROJECT)
        path = os.pathsep.join(part for part in (root, os.environ.get("PYTHONPATH")) if part)
        with open(self.folder / "log.txt", "ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                str(self.folder / "spec.json"),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=root,
                env=os.environ | {"PYTHONPATH": path},
                start_new_session=True,
            )
        self.client = BackendClient(socket=str(socket))

    def _spec(self, socket: str) -> BackendSpec:
        """As a backend reads it."""
        served = self.document
        assert served.engine != "remote"
        return {
            "engine": served.engine,
            "model": served.model,
            "adapters": served.adapters,
            "names": served.names,
            "dtype": served.dtype,
            "threads": served.threads,
            "max_streams": served.max_streams,
            "max_tokens": served.max_tokens,
            "most_answer": served.most_answer,
            "context": served.context,
            "labels": served.labels,
            "socket": socket,
            "home": self._home,
            "parent": os.getpid(),
        }

    def _socket(self) -> Path:
        """In its folder where the system takes a path of that length, else among the temporary files."""
        usual = self.folder / "run" / "socket"
        if len(os.fsencode(usual)) > SOCKET_BYTES:
            own = f"tunebench-{os.getpid()}-{self.document.backend_id}"
            usual = Path(tempfile.gettempdir()) / own / "socket"
        usual.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return usual

    async def _await_word(self) -> None:
        """Wait until it says that it is ready, or why not. Raises what it says."""
        process, client = self._process, self.client
        assert process
        assert client
        while (ready := read_json(self.folder / "ready.json")) is None:
            failed: ErrorDocument | None = read_json(self.folder / "failed.json")
            if failed is not None:
                raise _build_error(failed)
            if process.returncode is not None:
                raise ModelError(
                    f"{self.document.model} ended with code {process.returncode} before it was ready."
                    f" {self._last_words()}".strip(),
                    fix=f"Its whole log is {self.folder / 'log.txt'}.",
                )
            await asyncio.sleep(POLL_SECONDS)
        capabilities = parse_document(Capabilities, ready["capabilities"])
        await client.document("GET", "/health")
        self.capabilities, self.phase, self.error = capabilities, "ready", None

    def _note_end(self) -> None:
        code = self._process.returncode if self._process else None
        if self.phase != "stopped":
            self._fail(
                ModelError(
                    f"{self.document.model} ended with code {code} and is started again."
                    f" {self._last_words()}".strip(),
                    fix=f"Its whole log is {self.folder / 'log.txt'}.",
                )
            )

    def _last_words(self) -> str:
        try:
            with open(self.folder / "log.txt", "rb") as log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - LOG_TAIL))
                lines = log.read().decode("utf-8", "replace").strip().splitlines()
        except OSError:
            return ""
        return lines[-1][:300] if lines else ""

    def _fail(self, error: TunebenchError) -> None:
        self.phase, self.error = "failed", error.to_dict()

    async def _end_process(self) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            async with asyncio.timeout(END_SECONDS):
                await process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


def _describe_unreachable(error: BackendConnectionError) -> str:
    cause = error.__cause__
    if isinstance(cause, ConnectionRefusedError):
        return "nothing listens there"
    if isinstance(cause, TimeoutError):
        return f"no connection came about within {CONNECT_SECONDS:.0f} seconds"
    if isinstance(cause, gaierror):
        return "its name can't be resolved"
    return str(error)


def _build_error(document: ErrorDocument) -> TunebenchError:
    return ModelError(document["message"], fix=document.get("fix", ""), field=document.get("field", ""))
