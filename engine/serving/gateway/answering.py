"""Request handling: validation, routing, forwarding to a backend, streaming of the answer, and logging.

Invariant: a request's log line is written before the last byte of its answer is sent, so that every caller
with a complete answer finds it in the log, even after a kill. Until the first byte is sent, a failing backend
is replaced by the fallback; afterwards the stream ends with an error event.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import AsyncIterator, Collection
from typing import TYPE_CHECKING

from starlette.types import Receive, Scope, Send

from engine.serving.gateway import request_bodies
from engine.serving.gateway.answer_forms import AnswerForm
from engine.serving.gateway.backend_http import BackendConnectionError
from engine.serving.gateway.call import CLIENT_GONE, Attempt, Call
from engine.serving.gateway.request_bodies import Refusal, build_draining_refusal, build_not_ready_refusal
from engine.serving.gateway.routing import ModelRoutes, Route, is_in_share
from engine.serving.protocol.answers import describe_kinds
from store.serving.schemas import RequestKind

if TYPE_CHECKING:
    from engine.serving.gateway.gateway import Gateway

log = logging.getLogger(__name__)

REQUIRED_FIELDS: dict[str, tuple[str, ...]] = {
    "chat": ("model", "messages"), "labels": ("model", "messages"),
    "completion": ("model", "prompt"), "decision": ("model", "state", "questions"),
    "embedding": ("model", "input"),
}  # fmt: skip
STREAM_HEADERS = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]
KEY_REFUSED = (401, 403)  # from a backend: not about the caller's own key
RETRY_AFTER = re.compile("[a-zA-Z0-9 ,:]{1,40}")  # seconds or a date: nothing that could start another header
JSON_HEADERS = [(b"content-type", b"application/json")]


class RequestHandler:
    """ASGI application for one path."""

    def __init__(
        self, gateway: Gateway, kind: RequestKind, form: type[AnswerForm] = AnswerForm, prefix: str = ""
    ) -> None:
        self._gateway, self._kind, self._form, self._prefix = gateway, kind, form, prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        gateway = self._gateway
        request_id = gateway.ids.create(self._kind, self._prefix)
        call = Call(gateway.config.endpoint_id, request_id, self._kind, self._form())
        gateway.active.add(call)
        watcher: asyncio.Task[None] | None = None
        try:
            model = await self._admit(call, scope, receive)
            watcher = asyncio.create_task(_watch(receive, call))
            await self._answer(call, model, send)
        except Refusal as refusal:
            await self._refuse(call, refusal, send)
        except request_bodies.ClientGone:
            call.cancel_reason = "gone"
            await self._refuse(call, call.build_refusal(0), send)
        except asyncio.CancelledError:
            if call.cancel_reason is None or (task := asyncio.current_task()) is None:
                raise
            task.uncancel()
            await self._refuse(call, call.build_refusal(gateway.config.limits.seconds), send)
        except Exception:
            log.exception("A request failed")
            await self._refuse(call, Refusal(500, "internal_error", "The gateway failed; see its log."), send)
        finally:
            gateway.active.discard(call)
            gateway.settle_tokens(call, 0)  # if no log line was written
            if watcher:
                watcher.cancel()

    async def _admit(self, call: Call, scope: Scope, receive: Receive) -> ModelRoutes:
        """Authenticate and validate the request, and return its model. Raises Refusal and ClientGone."""
        gateway = self._gateway
        limits = gateway.config.limits
        if gateway.draining:
            raise build_draining_refusal()
        call.key = gateway.keys.authenticate(scope)
        gateway.keys.count_request(call.key)
        content = await request_bodies.read_body(scope, receive, limits.body_bytes)
        call.set_time_limit(limits.seconds)
        call.body = call.form.convert_request(request_bodies.parse(content))
        if "model" not in call.body:
            raise Refusal(400, "missing_parameter", "model is missing.", param="model")
        model = gateway.table.get_model(call.body["model"])
        self._check_kind(call, model)
        supported = model.list_supported_fields()
        if supported or model.live.can_answer:
            request_bodies.check_fields(call.body, REQUIRED_FIELDS[self._kind], supported, model.name)
        request_bodies.check_tokens(call.body, limits.max_tokens)
        request_bodies.check_format(call.body)
        if "tools" in call.body:
            await asyncio.to_thread(request_bodies.check_tools, call.body)
        call.user, call.group = request_bodies.get_user(call.body), request_bodies.get_group(call.body)
        self._reserve_tokens(call, model, supported)
        call.sampled = is_in_share(call.request_id, gateway.config.log.sample)
        return model

    def _reserve_tokens(self, call: Call, model: ModelRoutes, supported: Collection[str]) -> None:
        """Reserve the tokens that the request may take from its key's daily quota. Raises Refusal.

        If the request names no length and the quota has less left than the default, the answer is limited to
        what is left, and a header says so.
        """
        if call.key is None or call.key["tokens_per_day"] is None:
            return
        length_field = next((name for name in request_bodies.TOKENS if name in supported), None)
        names_length = any(name in call.body for name in request_bodies.TOKENS)
        token_bound, keys = model.compute_bound(call.kind, call.body), self._gateway.keys
        bound = keys.reserve_tokens(
            call.key, token_bound, supports_length=length_field is not None, sets_length=names_length
        )
        call.reserved_tokens = bound.total
        call.headers.append((b"x-ratelimit-remaining-tokens", str(keys.count_free_tokens(call.key)).encode()))
        if length_field and bound.length < token_bound.length:
            call.body[length_field] = bound.length
            call.headers.append((b"x-tunebench-max-tokens", str(bound.length).encode()))

    def _check_kind(self, call: Call, model: ModelRoutes) -> None:
        capabilities = model.live.backend.capabilities
        if capabilities is None:
            return
        kinds = capabilities.kinds
        if call.kind == "chat" and "chat" not in kinds and "labels" in kinds:
            call.kind = "labels"
        if call.kind not in kinds:
            raise Refusal(
                400,
                "unsupported_endpoint",
                f"{model.name} {describe_kinds(kinds, call.kind)}.",
                param="model",
            )

    # -- forwarding ---------------------------------------------------------------------------------

    async def _answer(self, call: Call, model: ModelRoutes, send: Send) -> None:
        routes = _list_routes(call, model)
        self._gateway.shadows.enqueue_copies(call, model)
        problem: Refusal | None = None
        for index, route in enumerate(routes):
            if call.route and problem:
                call.route.counts.add(problem.status, 0)
            call.route, call.role = route, route.document.role
            if not route.can_answer:
                problem = build_not_ready_refusal(model.name, route.backend.unavailable_reason)
                continue
            remaining = sum(candidate.can_answer for candidate in routes[index:])
            problem = await self._try_route(call, model.name, route, send, remaining)
            if problem is None:
                return
        assert problem
        raise problem

    async def _try_route(
        self, call: Call, model: str, route: Route, send: Send, remaining: int
    ) -> Refusal | None:
        """Let one route answer, with `remaining` routes left; return the problem if the next may be tried."""
        timeout_seconds = call.compute_timeout(remaining)
        try:
            async with asyncio.timeout(timeout_seconds) as timeout, Attempt(call, route) as attempt:
                if await self._forward(call, attempt, send, timeout):
                    return None
                return await _build_failure_refusal(model, attempt)
        except BackendConnectionError as error:
            problem = Refusal(502, "backend_broken", f"{model} did not answer: {error}.")
            if call.started:
                raise problem from error
            return problem
        except TimeoutError:
            message = f"{model} gave nothing in {timeout_seconds:.1f} seconds, its part of the time."
            return Refusal(504, "timeout", message)

    async def _forward(self, call: Call, attempt: Attempt, send: Send, timeout: asyncio.Timeout) -> bool:
        """Send the request and pass the answer on.

        Returns False if the backend failed, so that another may be tried. `timeout` applies up to the first
        byte.
        """
        await attempt.send_request()
        if attempt.status in KEY_REFUSED:
            raise BackendConnectionError("it refuses the key that this endpoint has for it")
        if attempt.status >= 500:
            return False
        if attempt.status == 200 and call.body.get("stream"):
            events = attempt.stream_events()
            first = await anext(events, b"")
            timeout.reschedule(None)
            await self._stream_answer(call, first, events, send)
            return True
        content = await attempt.read_answer()
        timeout.reschedule(None)
        headers = list(JSON_HEADERS)
        retry_after = attempt.headers.get("retry-after", "")
        if attempt.status != 200 and RETRY_AFTER.fullmatch(retry_after):
            headers.append((b"retry-after", retry_after.encode()))
        call.finish()
        await self._record(call, attempt.status, None if attempt.status == 200 else "backend_refused")
        await _send_whole(send, attempt.status, headers, call, content)
        return True

    async def _stream_answer(
        self, call: Call, first: bytes, events: AsyncIterator[bytes], send: Send
    ) -> None:
        call.started = True
        await _send_head(send, 200, STREAM_HEADERS, call)
        await send({"type": "http.response.body", "body": first, "more_body": True})
        async for event in events:
            await send({"type": "http.response.body", "body": event, "more_body": True})
        call.finish()
        await self._record(call, 200, None)
        await send({"type": "http.response.body", "body": call.form.format_end(call.observer, call.head)})

    # -- errors and logging -------------------------------------------------------------------------

    async def _refuse(self, call: Call, refusal: Refusal, send: Send) -> None:
        """Send the error instead of the answer, or of the rest of it."""
        call.finish()
        refusal.param = call.form.get_field_name(refusal.param)
        await self._record(call, refusal.status, refusal.code)
        if refusal.status == CLIENT_GONE:
            return
        if call.started:
            await send({"type": "http.response.body", "body": call.form.format_failure(refusal)})
            return
        await _send_whole(send, refusal.status, refusal.build_headers(), call, refusal.encode_body())

    async def _record(self, call: Call, status: int, error: str | None) -> None:
        await self._gateway.record(call, status, error)


async def _send_head(send: Send, status: int, headers: list[tuple[bytes, bytes]], call: Call) -> None:
    id_header = (b"x-request-id", call.request_id.encode())
    head = [*headers, id_header, *call.headers]
    await send({"type": "http.response.start", "status": status, "headers": head})


async def _send_whole(
    send: Send, status: int, headers: list[tuple[bytes, bytes]], call: Call, content: bytes
) -> None:
    length = (b"content-length", str(len(content)).encode())
    await _send_head(send, status, [*headers, length], call)
    await send({"type": "http.response.body", "body": content})


async def _watch(receive: Receive, call: Call) -> None:
    """Cancel the call when its client disconnects."""
    with contextlib.suppress(asyncio.CancelledError):
        while (await receive())["type"] != "http.disconnect":
            pass
        call.cancel("gone")


def _list_routes(call: Call, model: ModelRoutes) -> list[Route]:
    """Return the routes to try: the chosen one, the live one if that is a candidate, the fallbacks."""
    call.assigned_version = model.get_assigned_route(call.get_routing_key()).document.version
    first = model.choose(call.get_routing_key())
    live = [] if first is model.live else [model.live]
    return [first, *live, *(route for route in model.fallbacks if _can_fall_back(route, call))]


def _can_fall_back(route: Route, call: Call) -> bool:
    """Return whether a fallback supports every requested field: it must not answer a different request."""
    capabilities = route.backend.capabilities
    return bool(
        route.can_answer
        and capabilities
        and call.kind in capabilities.kinds
        and request_bodies.list_requested_fields(call.body)
        <= {*REQUIRED_FIELDS[call.kind], *capabilities.fields, *request_bodies.GATEWAY_FIELDS}
    )


async def _build_failure_refusal(model: str, attempt: Attempt) -> Refusal:
    """Build the error for a failed backend from its own message, in whatever form.

    Status 503 is kept, as it asks for a retry.
    """
    retry_after, reason = (
        attempt.headers.get("retry-after", ""),
        request_bodies.extract_error_message(await attempt.read_answer()),
    )
    suffix = f": {reason.rstrip('.')}" if reason else ""
    if attempt.status == 503:
        seconds = float(retry_after) if RETRY_AFTER.fullmatch(retry_after) else None
        return Refusal(503, "backend_busy", f"{model} can't answer at present{suffix}.", retry_after=seconds)
    return Refusal(502, "backend_failed", f"{model} failed with status {attempt.status}{suffix}.")
