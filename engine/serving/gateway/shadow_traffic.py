"""Shadow traffic: copies of requests whose answers are logged but never returned.

A copy waits in a bounded queue, and only gets a slot at its backend when no other request waits, so that
it delays no answer. Copies that don't fit, or that use fields the shadow would ignore, are dropped and
counted.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Protocol

from engine.serving.gateway import request_bodies
from engine.serving.gateway.backend_http import BackendConnectionError
from engine.serving.gateway.call import Attempt, Call
from engine.serving.gateway.log_files import RequestIds
from engine.serving.gateway.request_bodies import Refusal
from engine.serving.gateway.routing import ModelRoutes, Route, is_in_share
from store.serving.schemas import EndpointConfig

log = logging.getLogger(__name__)

MAX_CONCURRENT_COPIES = 4  # concurrent copies
CALLER_ONLY_FIELDS = ("stream", "stream_options", "top_logprobs")  # without effect on the log
MAX_BYTES = 2 * 2**20  # per answer, which is read into memory at once


class CallRecorder(Protocol):
    """What shadow traffic needs of its gateway."""

    @property
    def ids(self) -> RequestIds: ...

    @property
    def config(self) -> EndpointConfig: ...

    async def record(self, call: Call, status: int, error: str | None) -> None: ...


class ShadowQueue:
    """Queue of copies, with its workers."""

    def __init__(self, gateway: CallRecorder, size: int) -> None:
        self._gateway = gateway
        self._queue: asyncio.Queue[tuple[Call, Route]] = asyncio.Queue(size)
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Start the workers."""
        self._tasks = [asyncio.create_task(self._run_worker()) for _ in range(MAX_CONCURRENT_COPIES)]

    async def stop(self) -> None:
        """Stop the workers and drop waiting copies."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def enqueue_copies(self, call: Call, model: ModelRoutes) -> None:
        """Copy a request for each shadow that it is sampled for."""
        for route in model.shadows:
            if not is_in_share(f"shadow {call.request_id}", route.document.share):
                continue
            copy = Call(call.endpoint_id, self._gateway.ids.create(call.kind), call.kind)
            copy.key, copy.user, copy.group, copy.sampled = call.key, call.user, call.group, call.sampled
            copy.body = {name: value for name, value in call.body.items() if name not in CALLER_ONLY_FIELDS}
            copy.route, copy.role, copy.copy_of = route, "shadow", call.request_id
            if not _can_serve(route, copy):
                route.counts.dropped += 1
                continue
            try:
                self._queue.put_nowait((copy, route))
            except asyncio.QueueFull:
                route.counts.dropped += 1

    async def _run_worker(self) -> None:
        while True:
            call, route = await self._queue.get()
            try:
                await self._answer(call, route)
            except Exception:  # boundary: a failed copy must not stop the next ones
                log.exception("The copy %s could not be written down", call.request_id)

    async def _answer(self, call: Call, route: Route) -> None:
        """Get the answer to a copy, and log it whatever the outcome."""
        status, error = 502, "backend_broken"
        try:
            async with asyncio.timeout(self._gateway.config.limits.seconds):
                async with Attempt(call, route, low_priority=True) as attempt:
                    call.start_time = time.monotonic()  # waiting isn't counted as the model's latency
                    await attempt.send_request()
                    await attempt.read_answer(MAX_BYTES)
                    status, error = attempt.status, "" if attempt.status == 200 else "backend_refused"
        except (BackendConnectionError, Refusal, TimeoutError):
            pass
        except Exception:
            log.exception("A copy failed")
            status, error = 500, "internal_error"
        await self._gateway.record(call, status, error or None)


def _can_serve(route: Route, call: Call) -> bool:
    capabilities = route.backend.capabilities
    base_fields = {
        "model",
        "messages",
        "prompt",
        "state",
        "questions",
        "input",
        *request_bodies.GATEWAY_FIELDS,
    }
    return bool(
        route.can_answer
        and capabilities
        and call.kind in capabilities.kinds
        and request_bodies.list_requested_fields(call.body) <= {*base_fields, *capabilities.fields}
    )
