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
        request_id = gateway.ids.new(self._kind, self._prefix)
        call = Call(gateway.config.endpoint_id, request_id, self._kind, self._form())
        gateway.active.add(call)
        watching: asyncio.Task[None] | None = None
        try:
            model = await self._admit(call, scope, receive)
            watching = asyncio.create_task(_watch(receive, call))
            await self._answer(call, model, send)
        except Refusal as refusal:
            await self._refuse(call, refusal, send)
        except request_bodies.ClientGone:
            call.cut_reason = "gone"
            await self._refuse(call, call.refusal(0), send)
        except asyncio.CancelledError:
            if call.cut_reason is None or (task := asyncio.current_task()) is None:
                raise
            task.uncancel()
            await self._refuse(call, call.refusal(gateway.config.limits.seconds), send)
        except Exception:
            log.exception("A request failed")
            await self._refuse(call, Refusal(500, "internal_error", "The gateway failed; see its log."), send)
        finally:
            gateway.active.discard(call)
            gateway.settle(call, 0)  # if no log line was written
            if watching:
                watching.cancel()

    async def _admit(self, call: Call, scope: Scope, receive: Receive) -> ModelRoutes:
        """Authenticate and validate the request, and return its model. Raises Refusal and ClientGone."""
        gateway = self._gateway
        limits = gateway.config.limits
        if gateway.draining:
            raise build_draining_refusal()
        call.key = gateway.keys.of_request(scope)
        gateway.keys.spend_request(call.key)
        content = await request_bodies.read_body(scope, receive, limits.body_bytes)
        call.limit(limits.seconds)
        call.body = call.form.asked(request_bodies.parse(content))
        if "model" not in call.body:
            raise Refusal(400, "missing_parameter", "model is missing.", param="model")
        model = gateway.table.of(call.body["model"])
        self._check_kind(call, model)
        obeyed = model.obeyed()
        if obeyed or model.live.can_answer:
            request_bodies.check_fields(call.body, REQUIRED_FIELDS[self._kind], obeyed, model.name)
        request_bodies.check_tokens(call.body, limits.max_tokens)
        request_bodies.check_format(call.body)
        if "tools" in call.body:
            await asyncio.to_thread(request_bodies.check_tools, call.body)
        call.user, call.group = request_bodies.get_user(call.body), request_bodies.get_group(call.body)
        self._hold_tokens(call, model, obeyed)
        call.sampled = is_in_share(call.request_id, gateway.config.log.sample)
        return model

    def _hold_tokens(self, call: Call, model: ModelRoutes, obeyed: Collection[str]) -> None:
        """Reserve the tokens that the request may take from its key's daily quota. Raises Refusal.

        If the request names no length and the quota has less left than the default, the answer is limited to
        what is left, and a header says so.
        """
        if call.key is None or call.key["tokens_per_day"] is None:
            return
        field = next((name for name in request_bodies.TOKENS if name in obeyed), None)
        named = any(name in call.body for name in request_bodies.TOKENS)
        wanted, keys = model.bound(call.kind, call.body), self._gateway.keys
        bound = keys.hold_tokens(call.key, wanted, obeys_length=field is not None, names_length=named)
        call.held = bound.total
        call.headers.append((b"x-ratelimit-remaining-tokens", str(keys.free_tokens(call.key)).encode()))
        if field and bound.length < wanted.length:
            call.body[field] = bound.length
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
        self._gateway.shadows.offer(call, model)
        trouble: Refusal | None = None
        for place, route in enumerate(routes):
            if call.route and trouble:
                call.route.counts.add(trouble.status, 0)
            call.route, call.role = route, route.document.role
            if not route.can_answer:
                trouble = build_not_ready_refusal(model.name, route.backend.why_not)
                continue
            left = sum(later.can_answer for later in routes[place:])
            trouble = await self._ask(call, model.name, route, send, left)
            if trouble is None:
                return
        assert trouble
        raise trouble

    async def _ask(self, call: Call, model: str, route: Route, send: Send, left: int) -> Refusal | None:
        """Let one route answer, with `left` routes remaining; return the problem if the next may be tried."""
        patience = call.patience(left)
        try:
            async with asyncio.timeout(patience) as limit, Attempt(call, route) as attempt:
                if await self._pass_on(call, attempt, send, limit):
                    return None
                return await _build_failure_refusal(model, attempt)
        except BackendConnectionError as error:
            trouble = Refusal(502, "backend_broken", f"{model} did not answer: {error}.")
            if call.begun:
                raise trouble from error
            return trouble
        except TimeoutError:
            why = f"{model} gave nothing in {patience:.1f} seconds, its part of the time."
            return Refusal(504, "timeout", why)

    async def _pass_on(self, call: Call, attempt: Attempt, send: Send, limit: asyncio.Timeout) -> bool:
        """Send the request and pass the answer on.

        Returns False if the backend failed, so that another may be tried. `limit` applies up to the first
        byte.
        """
        await attempt.ask()
        if attempt.status in KEY_REFUSED:
            raise BackendConnectionError("it refuses the key that this endpoint has for it")
        if attempt.status >= 500:
            return False
        if attempt.status == 200 and call.body.get("stream"):
            events = attempt.events()
            first = await anext(events, b"")
            limit.reschedule(None)
            await self._stream(call, first, events, send)
            return True
        content = await attempt.whole()
        limit.reschedule(None)
        headers = list(JSON_HEADERS)
        wait = attempt.headers.get("retry-after", "")
        if attempt.status != 200 and RETRY_AFTER.fullmatch(wait):
            headers.append((b"retry-after", wait.encode()))
        call.finish()
        await self._write(call, attempt.status, None if attempt.status == 200 else "backend_refused")
        await _send_whole(send, attempt.status, headers, call, content)
        return True

    async def _stream(self, call: Call, first: bytes, events: AsyncIterator[bytes], send: Send) -> None:
        call.begun = True
        await _send_head(send, 200, STREAM_HEADERS, call)
        await send({"type": "http.response.body", "body": first, "more_body": True})
        async for event in events:
            await send({"type": "http.response.body", "body": event, "more_body": True})
        call.finish()
        await self._write(call, 200, None)
        await send({"type": "http.response.body", "body": call.form.closing(call.seen, call.head)})

    # -- errors and logging -------------------------------------------------------------------------

    async def _refuse(self, call: Call, refusal: Refusal, send: Send) -> None:
        """Send the error instead of the answer, or of the rest of it."""
        call.finish()
        refusal.param = call.form.param(refusal.param)
        await self._write(call, refusal.status, refusal.code)
        if refusal.status == CLIENT_GONE:
            return
        if call.begun:
            await send({"type": "http.response.body", "body": call.form.failed(refusal)})
            return
        await _send_whole(send, refusal.status, refusal.headers(), call, refusal.body())

    async def _write(self, call: Call, status: int, error: str | None) -> None:
        await self._gateway.keep(call, status, error)


async def _send_head(send: Send, status: int, headers: list[tuple[bytes, bytes]], call: Call) -> None:
    own = (b"x-request-id", call.request_id.encode())
    head = [*headers, own, *call.headers]
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
        call.cut("gone")


def _list_routes(call: Call, model: ModelRoutes) -> list[Route]:
    """Return the routes to try: the chosen one, the live one if that is a candidate, the fallbacks."""
    call.dealt = model.dealt(call.sticky()).document.version
    chosen = model.choose(call.sticky())
    live = [] if chosen is model.live else [model.live]
    return [chosen, *live, *(route for route in model.fallbacks if _can_stand_in(route, call))]


def _can_stand_in(route: Route, call: Call) -> bool:
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
    wait, reason = (
        attempt.headers.get("retry-after", ""),
        request_bodies.extract_error_message(await attempt.whole()),
    )
    because = f": {reason.rstrip('.')}" if reason else ""
    if attempt.status == 503:
        seconds = float(wait) if RETRY_AFTER.fullmatch(wait) else None
        return Refusal(503, "backend_busy", f"{model} can't answer at present{because}.", retry_after=seconds)
    return Refusal(502, "backend_failed", f"{model} failed with status {attempt.status}{because}.")
