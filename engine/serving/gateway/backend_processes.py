"""Backends of an endpoint: processes that the gateway starts, supervises and stops, or remote addresses.

Each handles a limited number of concurrent requests, with a bounded queue; shadow copies only get a slot
when nothing else waits.
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
from pathlib import Path
from typing import Literal

from engine.serving import text
from engine.serving.gateway.backend_http import CONNECT_SECONDS, BackendClient, BackendConnectionError
from engine.serving.gateway.request_bodies import TOKENS, Refusal
from store.core.address_policy import AddressPolicy
from store.core.documents import parse_document
from store.core.errors import ConfigError, ModelError, TunebenchError
from store.core.job_folder import read_json, write_json
from store.core.schemas import ErrorDocument
from store.serving.schemas import BackendSpec, BackendState, Capabilities, ServedBackend

_FIRST_GUESS = 1.0  # seconds per answer before any was measured
_SMOOTHING = 0.1


class Slots:
    """First-come, first-served slots with a bounded queue.

    `low_priority` requests (shadow copies) only get one when no other request waits.
    """

    def __init__(self, size: int, queue: int) -> None:
        self.size, self.queue = size, queue
        self.running = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._low_waiting: deque[asyncio.Future[None]] = deque()
        self._seconds = _FIRST_GUESS

    @property
    def waiting(self) -> int:
        """Number of waiting requests, without copies."""
        return len(self._waiting)

    async def acquire(self, *, low_priority: bool = False) -> None:
        """Wait for a slot. Raises Refusal (429) if the queue is full."""
        if self.running < self.size and not self._waiting and not (low_priority and self._low_waiting):
            self.running += 1
            return
        if not low_priority and len(self._waiting) >= self.queue:
            wait = self._seconds * (len(self._waiting) + 1) / self.size
            raise Refusal(
                429,
                "queue_full",
                f"{len(self._waiting)} requests wait already, as many as may wait at this endpoint.",
                retry_after=min(wait, 120),
            )
        queue = self._low_waiting if low_priority else self._waiting
        slot_ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.append(slot_ready)
        try:
            await slot_ready  # whoever sets it has already counted the slot as taken
        except asyncio.CancelledError:
            if slot_ready.done() and not slot_ready.cancelled():
                self.release()
            else:
                queue.remove(slot_ready)
            raise

    def release(self, seconds: float | None = None) -> None:
        """Release a slot; `seconds`: how long it was used, for estimates of waiting times."""
        if seconds is not None:
            self._seconds += _SMOOTHING * (seconds - self._seconds)
        self.running -= 1
        for queue in (self._waiting, self._low_waiting):
            while queue and self.running < self.size:
                slot_ready = queue.popleft()
                if not slot_ready.done():
                    self.running += 1
                    slot_ready.set_result(None)


# A process reads `spec.json` in a folder of its own and reports the result of its start in `ready.json` or
# `failed.json` there; requests go to the Unix socket that the spec names. A process that ends is restarted,
# each time after a longer pause, unless its very first start failed.

COMMAND = (sys.executable, "-m", "engine.serving.backend")
PROJECT = Path(__file__).resolve().parents[3]
POLL_SECONDS = 0.05
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # seconds before a restart
STEADY_SECONDS = 60.0  # uptime after which the pause is reset
END_SECONDS = 10.0  # from SIGTERM to SIGKILL, after the requests in progress
SOCKET_BYTES = 100  # path length; the system's limit is 107
LOG_TAIL = 2000
PROBE_SECONDS = 15.0  # between probes of a reachable address
RETRY_SECONDS = 1.0  # after a failed probe; a single one may be a glitch
UNREACHABLE_SECONDS = 5.0  # between probes of an unreachable address
MAX_MISSED = 2  # consecutive failed probes that make it unreachable


class Backend:
    """One backend, from start to end."""

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
        self.settled = asyncio.Event()  # its first start has succeeded or failed
        self._seconds: float | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopped = False
        self._failed_probes = 0
        self._unreachable_since: float | None = None

    def start(self) -> None:
        """Start the backend without waiting for it."""
        self._task = asyncio.create_task(self._run())

    def set_policy(self, policy: AddressPolicy) -> None:
        """Set which addresses are allowed; idle connections, opened under the old policy, are closed."""
        if policy.networks == self._policy.networks or self.document.engine != "remote":
            return
        self._policy = policy
        if self.client:
            self.client.close()
        self._connect_remote()

    @property
    def has_given_up(self) -> bool:
        """Whether it failed and isn't retried automatically, unlike an unreachable address."""
        return self.phase == "failed" and self._unreachable_since is None

    @property
    def unavailable_reason(self) -> str:
        """Why it can't answer, as a sentence."""
        return text.describe_unavailability(self.phase, self.error)

    @property
    def max_answer_tokens(self) -> int:
        """Maximum tokens of an answer without a requested length.

        A server without length fields may fill its context.
        """
        limit, capabilities = self.document.most_answer, self.capabilities
        if capabilities is None or any(name in capabilities.fields for name in TOKENS):
            return limit
        return max(limit, capabilities.context or 0)

    def build_state(self) -> BackendState:
        """Return the state for `state.json`."""
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

    async def stop(self) -> None:
        """Stop the backend; the caller waits for requests in progress beforehand.

        A backend that has ended is left alone: its folder and socket may already belong to its successor.
        """
        if self._stopped:
            return
        self.phase = "stopped"
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await self._stop_process()
        if self.client:
            self.client.close()
        if self.document.engine != "remote":
            shutil.rmtree(self._choose_socket_path().parent, ignore_errors=True)
        self._stopped = True

    # -- lifecycle ----------------------------------------------------------------------------------

    async def _run(self) -> None:
        if self.document.engine == "remote":
            self._connect_remote()
            await self._watch_remote()
            return
        pause = FIRST_PAUSE
        while self.phase != "stopped":
            started_at = time.monotonic()
            self.starts += 1
            await self._start()
            is_ready = self.phase == "ready"
            self.settled.set()
            if is_ready and self._process:
                await self._process.wait()
                self._record_exit()
            elif self.starts == 1:
                return  # a failed first start is retried on request only, and its error is kept
            pause = (
                FIRST_PAUSE
                if time.monotonic() - started_at > STEADY_SECONDS
                else min(2 * pause, LONGEST_PAUSE)
            )
            await asyncio.sleep(pause)
            self.phase = "starting"

    def _connect_remote(self) -> None:
        url, variable = self.document.url, self.document.key_env
        assert url
        self.client = None  # an existing client has the old policy
        self._failed_probes, self._unreachable_since = 0, None
        try:
            self._policy.check(url, "subject")
        except ConfigError as error:
            self._fail(error)
            return
        key = os.environ.get(variable) if variable else None
        if variable and not key:
            self._fail(text.build_missing_key_error(variable, url))
            return
        self.client = BackendClient(url=url, key=key, policy=self._policy)
        self.capabilities = self.document.capabilities
        self.phase, self.error = "ready", None

    async def _watch_remote(self) -> None:
        """Probe the address periodically.

        So no request goes where nothing listens, and the address is used again once it recovers.
        """
        if self.phase == "ready":
            self.phase = "starting"  # until it has been reached
        while self.phase != "stopped":
            pause = PROBE_SECONDS
            if self.phase != "failed" or self._unreachable_since is not None:
                pause = await self._probe_address()
            if pause != RETRY_SECONDS:
                self.settled.set()
            await asyncio.sleep(pause)

    async def _probe_address(self) -> float:
        """Probe whether a connection is possible; return the seconds until the next probe."""
        client, failure = self.client, None
        assert client
        try:
            await client.probe()
        except BackendConnectionError as error:
            failure = error
        if client is not self.client:  # the policy changed meanwhile: this result is stale
            return RETRY_SECONDS
        # An address rejected by the policy wasn't tried: each request gets that error.
        if failure and not isinstance(failure.__cause__, ConfigError):
            self._failed_probes += 1
            if self._failed_probes < MAX_MISSED:
                return RETRY_SECONDS
            if self._unreachable_since is None:
                self._unreachable_since = time.time()
            reason = text.describe_connection_failure(failure, CONNECT_SECONDS)
            url, since = self.document.url, self._unreachable_since
            self._fail(text.build_unreachable_error(url, since, reason, UNREACHABLE_SECONDS))
            return UNREACHABLE_SECONDS
        self._failed_probes, self._unreachable_since = 0, None
        self.phase, self.error = "ready", None
        return PROBE_SECONDS

    async def _start(self) -> None:
        started_at = time.monotonic()
        try:
            await self._start_process()
            await self._await_ready()
            self._seconds = time.monotonic() - started_at
        except TunebenchError as error:
            self._fail(error)
        except (OSError, BackendConnectionError) as error:
            self._fail(text.build_start_error(self.document.model, error))
        if self.phase == "failed":
            await self._stop_process()

    async def _start_process(self) -> None:
        for name in ("ready.json", "failed.json"):
            (self.folder / name).unlink(missing_ok=True)
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        socket = self._choose_socket_path()
        socket.unlink(missing_ok=True)
        write_json(self.folder / "spec.json", self._build_spec(str(socket)))
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

    def _build_spec(self, socket: str) -> BackendSpec:
        """Return the spec that the backend process reads."""
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

    def _choose_socket_path(self) -> Path:
        """Return the socket's path in the backend's folder, or if that is too long, among temporary files."""
        path = self.folder / "run" / "socket"
        if len(os.fsencode(path)) > SOCKET_BYTES:
            folder_name = f"tunebench-{os.getpid()}-{self.document.backend_id}"
            path = Path(tempfile.gettempdir()) / folder_name / "socket"
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return path

    async def _await_ready(self) -> None:
        """Wait until the process reports that it is ready. Raises the error that it reports."""
        process, client = self._process, self.client
        assert process
        assert client
        while (ready := read_json(self.folder / "ready.json")) is None:
            error: ErrorDocument | None = read_json(self.folder / "failed.json")
            if error is not None:
                raise ModelError(error["message"], fix=error.get("fix", ""), field=error.get("field", ""))
            if process.returncode is not None:
                raise self._build_exit_error(process.returncode, was_ready=False)
            await asyncio.sleep(POLL_SECONDS)
        capabilities = parse_document(Capabilities, ready["capabilities"])
        await client.fetch_document("GET", "/health")
        self.capabilities, self.phase, self.error = capabilities, "ready", None

    def _record_exit(self) -> None:
        code = self._process.returncode if self._process else None
        if self.phase != "stopped":
            self._fail(self._build_exit_error(code, was_ready=True))

    def _build_exit_error(self, code: int | None, *, was_ready: bool) -> ModelError:
        path = self.folder / "log.txt"
        try:
            with open(path, "rb") as log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - LOG_TAIL))
                lines = log.read().decode("utf-8", "replace").strip().splitlines()
        except OSError:
            lines = []
        last_line = lines[-1][:300] if lines else ""
        return text.build_backend_exit_error(self.document.model, code, last_line, path, was_ready=was_ready)

    def _fail(self, error: TunebenchError) -> None:
        self.phase, self.error = "failed", error.to_dict()

    async def _stop_process(self) -> None:
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
