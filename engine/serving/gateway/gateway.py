"""State of one gateway: its config, backends, routes, keys and logs, and the loops that maintain them.

It depends on its folder only (docs/serving.md). A config replaced by rename takes effect once all backends
that it needs are ready; one whose backends can't start changes nothing, and `state.json` says why. An
unreachable address doesn't delay others: it is used once it can be reached.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from engine.serving import text
from engine.serving.gateway import api_keys
from engine.serving.gateway.api_keys import ApiKeys, FileStamp
from engine.serving.gateway.backend_processes import COMMAND, Backend
from engine.serving.gateway.call import Call
from engine.serving.gateway.log_files import LogFiles, RequestIds
from engine.serving.gateway.routing import HourCounts, RoutingTable
from engine.serving.gateway.shadow_traffic import ShadowQueue
from store.core.address_policy import AddressPolicy
from store.core.documents import parse_document, parse_optional_document
from store.core.errors import ConfigError
from store.core.home import Home
from store.core.job_folder import read_json, write_json
from store.core.processes import SteadyClock
from store.core.schemas import ErrorDocument
from store.serving.schemas import EndpointConfig, EndpointState

log = logging.getLogger(__name__)

POLL_SECONDS = 0.5  # between checks of config and keys
STATE_SECONDS = 2.0
CLEANUP_SECONDS = 3600.0  # between removals of old files
IDLE_POLL = 0.05


class Gateway:
    """One endpoint in this process."""

    def __init__(self, folder: Path, command: Sequence[str] = COMMAND) -> None:
        self.folder, self._command = folder, command
        self.config: EndpointConfig = _read(folder / "config.json")
        self._config_stamp = FileStamp(folder / "config.json")
        self._config_stamp.has_changed()
        last_state: EndpointState | None = _read_state(folder)
        self.ids = RequestIds(folder)
        self.request_log = LogFiles(folder / "log", "requests")
        usage = api_keys.restore_usage(last_state, self.request_log, time.time())
        self.keys = ApiKeys(folder / "keys.json", usage, SteadyClock())
        self.feedback_log = LogFiles(folder / "log", "feedback")
        self.shadows = ShadowQueue(self, self.config.limits.shadow_queue)
        self.hour = HourCounts()
        self.active: set[Call] = set()
        self.started_at = time.time()
        self.draining = False
        self.address = ""
        self._backends: dict[str, Backend] = {}
        self._stopping: set[asyncio.Task[None]] = set()
        self._error: ErrorDocument | None = None
        self._switching = ""
        self._fallbacks = 0
        self._asked_at = self.config.asked_at
        self._loops: list[asyncio.Task[None]] = []
        self.table = RoutingTable((), {})

    # -- lifecycle ----------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start the backends and the loops, without waiting for the backends to be ready."""
        self._backends = self._start_backends(self.config)
        self.table = RoutingTable(self.config.models, self._backends)
        self.shadows.start()
        loops = (
            (self._check_keys, POLL_SECONDS),
            (self._check_config, POLL_SECONDS),
            (self._write_state, STATE_SECONDS),
            (self._remove_old_files, CLEANUP_SECONDS),
        )
        self._loops = [asyncio.create_task(_repeat(action, interval)) for action, interval in loops]

    async def drain(self) -> None:
        """Accept nothing new, and wait for requests in progress, up to the limit."""
        self.draining = True
        deadline = time.monotonic() + self.config.limits.drain_seconds
        await self._write_state()
        while self.active and time.monotonic() < deadline:
            await asyncio.sleep(IDLE_POLL)

    async def stop(self) -> None:
        """Stop the backends; the last state is kept."""
        for task in self._loops:
            task.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        await self.shadows.stop()
        for task in self._stopping:
            task.cancel()
        await asyncio.gather(*(backend.stop() for backend in self._backends.values()))
        await self._write_state()
        self.request_log.close()
        self.feedback_log.close()

    def _start_backends(self, config: EndpointConfig) -> dict[str, Backend]:
        """Return the backends that this config needs: existing ones, and new ones, which are started."""
        backends: dict[str, Backend] = {}
        policy = AddressPolicy.of((config.networks or ()), Home(config.home))
        for document in config.backends:
            backend_id = document.backend_id
            backend = self._backends.get(backend_id)
            if backend is None or backend.has_given_up:
                folder = self.folder / "backends" / backend_id
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                queue = config.limits.queue
                backend = Backend(document, folder, config.home, policy, queue, self._command)
                backend.start()
            backend.set_policy(policy)
            backends[backend_id] = backend
        return backends

    # -- config changes -----------------------------------------------------------------------------

    async def _check_keys(self) -> None:
        """Cancel the requests of revoked keys."""
        self.keys.reload()
        for call in list(self.active):
            if call.key and not self.keys.is_valid(call.key):
                call.cancel("revoked")

    async def _check_config(self) -> None:
        if self._config_stamp.has_changed() and not self.draining:
            await self._apply_config()

    async def _apply_config(self) -> None:
        """Start what a new config needs beside the current backends, then put it into effect."""
        try:
            config = _read(self.folder / "config.json")
            await self._stop_failed({document.backend_id for document in config.backends})
            backends = self._start_backends(config)
        except (ConfigError, KeyError, OSError) as error:
            self._error = text.build_config_error(error).to_dict()
            return
        new = {name: backend for name, backend in backends.items() if self._backends.get(name) is not backend}
        self._switching = text.describe_switching(len(new))
        await asyncio.gather(*(backend.settled.wait() for backend in new.values()))
        self._switching, self._asked_at = "", config.asked_at
        failed = [new[name] for name in new if new[name].has_given_up and name not in self._backends]
        if failed and any(backend.phase == "ready" for backend in self._backends.values()):
            self._error = failed[0].error
            await self._keep_config(new)
            return
        try:
            table = RoutingTable(config.models, backends)
        except (KeyError, StopIteration) as error:
            self._error = text.build_config_error(repr(error)).to_dict()
            await self._keep_config(new)
            return
        replaced = [backend for name, backend in self._backends.items() if backends.get(name) is not backend]
        self.config, self.table, self._backends, self._error = config, table, backends, None
        for backend in backends.values():
            backend.slots.queue = config.limits.queue
        for backend in replaced:
            task = asyncio.create_task(self._stop_when_idle(backend))
            self._stopping.add(task)
            task.add_done_callback(self._stopping.discard)
        await self._write_state()

    async def _stop_failed(self, needed: Collection[str]) -> None:
        """Stop failed backends that will be retried, before their successors use the folder and socket."""
        for backend_id, backend in self._backends.items():
            if backend_id in needed and backend.has_given_up:
                await backend.stop()
                backend.phase = "failed"

    async def _keep_config(self, new: Mapping[str, Backend]) -> None:
        """Keep the current config, with those of its backends that were retried."""
        retried = {name: backend for name, backend in new.items() if name in self._backends}
        self._backends = self._backends | retried
        self.table = RoutingTable(self.config.models, self._backends)
        await asyncio.gather(*(backend.stop() for name, backend in new.items() if name not in retried))

    async def _stop_when_idle(self, backend: Backend) -> None:
        """Stop a backend that gets no more requests once those in progress have ended."""
        deadline = time.monotonic() + self.config.limits.seconds
        while backend.slots.running + backend.slots.waiting and time.monotonic() < deadline:
            await asyncio.sleep(IDLE_POLL)
        await backend.stop()

    # -- records ------------------------------------------------------------------------------------

    async def record(self, call: Call, status: int, error: str | None) -> None:
        """Count a request and write its log line, before the last byte of its answer is sent."""
        tokens = call.tokens
        seconds = time.monotonic() - call.start_time
        if call.route:
            call.route.counts.add(status, seconds)
        if call.role != "shadow":
            self.hour.add(status, seconds, tokens)
            self._fallbacks += call.role == "fallback" and status == 200
        if status == 401 and call.key is None:
            return  # requests without a valid key can't fill the disk
        if call.sampled and self.config.log.redact:
            from engine.serving.gateway.redaction import redact

            line = await asyncio.to_thread(call.build_line, status, error, redact)
        else:
            line = call.build_line(status, error, None)
        self.settle_tokens(
            call, tokens
        )  # no await before the append: the state's use and log position must match
        self.request_log.append(line)

    def settle_tokens(self, call: Call, tokens: int) -> None:
        """Release a request's reservation, and count the tokens it took."""
        if call.charged_key and (tokens or call.reserved_tokens):
            self.keys.settle_tokens(call.charged_key, call.reserved_tokens, tokens)
            call.reserved_tokens = 0

    def list_unready(self) -> dict[str, str]:
        """Return the models that can't answer, with the reasons."""
        return {
            model.name: model.live.backend.unavailable_reason
            for model in self.table.models.values()
            if not any(route.can_answer for route in (model.live, *model.fallbacks))
        }

    def _compute_phase(self) -> Literal["starting", "ready", "failed", "draining"]:
        if self.draining:
            return "draining"
        if not self.list_unready():
            return "ready"
        phases = [model.live.backend.phase for model in self.table.models.values()]
        return "starting" if "starting" in phases else "failed"

    def build_state(self) -> EndpointState:
        """Return the gateway's state."""
        lost = self.request_log.lost + self.feedback_log.lost
        backend_error = next((each.error for each in self._backends.values() if each.error), None)
        return EndpointState(
            endpoint_id=self.config.endpoint_id,
            pid=os.getpid(),
            started_at=self.started_at,
            at=time.time(),
            asked_at=self._asked_at,
            address=self.address,
            phase=self._compute_phase(),
            error=self._error or backend_error,
            switching=self._switching,
            backends=[backend.build_state() for backend in self._backends.values()],
            routes=[route.counts.build_state() for route in self.table.list_routes()],
            keys=self.keys.list_usage(),
            counted=self.request_log.position,
            hour=self.hour.build_state(),
            active=len(self.active),
            fallbacks=self._fallbacks,
            lines=self.request_log.lines + self.feedback_log.lines,
            lines_lost=lost,
            log_error=(self.request_log.error or self.feedback_log.error) if lost else "",
        )

    async def _write_state(self) -> None:
        with contextlib.suppress(OSError):  # e.g. a full disk: the state becomes stale, and requests continue
            await asyncio.to_thread(write_json, self.folder / "state.json", self.build_state())

    async def _remove_old_files(self) -> None:
        for files in (self.request_log, self.feedback_log):
            with contextlib.suppress(OSError):
                files.remove_old(self.config.log.days)


async def _repeat(action: Callable[[], Awaitable[None]], interval: float) -> None:
    """Call `act` repeatedly; an error is logged and doesn't end the loop."""
    while True:
        try:
            await action()
        except Exception:
            log.exception("A loop of the gateway failed; it continues")
        await asyncio.sleep(interval)


def _read(path: Path) -> EndpointConfig:
    """Read the config. Raises ConfigError."""
    try:
        document: Any = read_json(path)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} can't be read ({error}).", field="config") from error
    if not isinstance(document, dict):
        raise ConfigError(f"{path} is missing, or no object.", field="config")
    return parse_document(EndpointConfig, document)


def _read_state(folder: Path) -> EndpointState | None:
    try:
        state = parse_optional_document(EndpointState, read_json(folder / "state.json"))
    except (OSError, ValueError):
        return None
    return state
