"""Routes of a gateway: the OpenAI API at /v1, feedback, health and readiness.

Every request must use one of the gateway's host names and no foreign origin (`store.http.access`); all but
/health and /ready need a key. Feedback on an answer, given at once or much later, is logged separately.
Errors have OpenAI's form.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from engine.serving.gateway import request_bodies
from engine.serving.gateway.answer_forms import ResponsesForm
from engine.serving.gateway.answering import RequestHandler
from engine.serving.gateway.gateway import Gateway
from engine.serving.gateway.request_bodies import ClientGone, Refusal, build_draining_refusal, shorten
from store.http.access import HostNames
from store.http.answers import wrap_with_headers
from store.serving.schemas import FeedbackLine

if TYPE_CHECKING:
    from engine.serving.gateway.gateway import Gateway

AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]


async def send_json(send: Send, status: int, document: Any) -> None:
    """Send a JSON document."""
    body = json.dumps(document, ensure_ascii=False).encode()
    await _send_response(send, status, [(b"content-type", b"application/json")], body)


async def send_refusal(send: Send, refusal: Refusal) -> None:
    """Send an error in OpenAI's form."""
    await _send_response(send, refusal.status, refusal.build_headers(), refusal.encode_body())


async def _send_response(send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body})


class RefusalMiddleware:
    """ASGI middleware that sends a raised Refusal as the response."""

    def __init__(self, app: AsgiApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        except Refusal as refusal:
            await send_refusal(send, refusal)
        except ClientGone:
            return


KINDS: tuple[Literal["thumb", "score", "correction", "label"], ...] = (
    "thumb",
    "score",
    "correction",
    "label",
)
FIELDS = {"request_id", *KINDS, "comment"}
TEXT_CHARACTERS = 100_000
MAX_SCORE = 10**12  # in absolute value: larger numbers aren't scores, and may not fit a float
_THUMBS = {"up": 1.0, "down": 0.0, 1: 1.0, 0: 0.0}  # true and false equal 1 and 0


class FeedbackApp:
    """ASGI application that records feedback."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        gateway = self._gateway
        if gateway.draining:
            raise build_draining_refusal()
        key = gateway.keys.authenticate(scope)
        gateway.keys.count_request(key)
        body = request_bodies.parse(
            await request_bodies.read_body(scope, receive, gateway.config.limits.body_bytes)
        )
        line = self._build_line(body, key["person_id"])
        if gateway.config.log.redact:
            line = await asyncio.to_thread(_redact_feedback, line)
        if not gateway.feedback_log.append(line):
            raise Refusal(
                507,
                "log_full",
                f"The feedback could not be written ({gateway.feedback_log.error}); send it again.",
            )
        await send_json(
            send, 200, {"id": line["feedback_id"], "object": "feedback", "request_id": line["request_id"]}
        )

    def _build_line(self, body: Mapping[str, Any], person_id: str) -> FeedbackLine:
        for name in body:
            if name not in FIELDS:
                raise Refusal(
                    400,
                    "unsupported_parameter",
                    f"Feedback has no field {request_bodies.shorten(name)}. It has:"
                    f" {', '.join(sorted(FIELDS))}.",
                    param=request_bodies.shorten(name),
                )
        request_id, comment = body.get("request_id"), body.get("comment", "")
        if not isinstance(request_id, str):
            raise Refusal(400, "missing_parameter", "request_id is missing.", param="request_id")
        if not self._gateway.ids.verify(request_id):
            raise Refusal(
                404,
                "request_not_found",
                f"This endpoint never gave the id {request_bodies.shorten(request_id)!r}.",
                param="request_id",
            )
        kinds = [kind for kind in KINDS if kind in body]
        if len(kinds) != 1:
            raise Refusal(400, "invalid_value", f"Give one of {', '.join(KINDS)}; {len(kinds)} were given.")
        kind = kinds[0]
        value, text = _parse_value(kind, body[kind])
        return {
            "feedback_id": f"fb-{secrets.token_hex(12)}",
            "request_id": request_id,
            "endpoint_id": self._gateway.config.endpoint_id,
            "at": time.time(),
            "person_id": person_id,
            "kind": kind,
            "value": value,
            "text": text,
            "comment": _parse_text("comment", comment),
        }


def _redact_feedback(line: FeedbackLine) -> FeedbackLine:
    """Redact feedback like the log's texts: a correction may repeat what was redacted in the prompt."""
    from engine.serving.gateway.redaction import redact

    return {**line, "text": redact(line["text"])[0], "comment": redact(line["comment"])[0]}


def _parse_value(kind: str, value: object) -> tuple[float | None, str | None]:
    """Return the number or the text of this kind of feedback."""
    if kind == "thumb":
        if isinstance(value, bool | str | int) and value in _THUMBS:
            return _THUMBS[value], None
        raise Refusal(400, "invalid_value", "thumb has to be up or down.", param="thumb")
    if kind == "score":
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= MAX_SCORE:
            return float(value), None
        raise Refusal(
            400, "invalid_value", f"score has to be a number of up to {MAX_SCORE:,}.", param="score"
        )
    return None, _parse_text(kind, value)


def _parse_text(name: str, text: object) -> str:
    if not isinstance(text, str) or len(text) > TEXT_CHARACTERS:
        raise Refusal(
            400,
            "invalid_value",
            f"{name} has to be a text of up to {TEXT_CHARACTERS:,} characters.",
            param=name,
        )
    return text


def build(gateway: Gateway) -> Starlette:
    """Build the application."""
    model_list = _ModelList(gateway)
    readiness = _ReadinessProbe(gateway)
    return Starlette(
        routes=[
            Route("/v1/chat/completions", RequestHandler(gateway, "chat"), methods=["POST"]),
            Route("/v1/responses", RequestHandler(gateway, "chat", ResponsesForm, "resp_"), methods=["POST"]),
            Route("/v1/completions", RequestHandler(gateway, "completion"), methods=["POST"]),
            Route("/v1/embeddings", RequestHandler(gateway, "embedding"), methods=["POST"]),
            Route("/v1/systemone", RequestHandler(gateway, "decision"), methods=["POST"]),
            Route("/v1/feedback", RefusalMiddleware(FeedbackApp(gateway)), methods=["POST"]),
            Route("/v1/models", RefusalMiddleware(model_list), methods=["GET"]),
            Route("/v1/models/{model:path}", RefusalMiddleware(model_list), methods=["GET"]),
            Route("/health", _LivenessProbe(), methods=["GET"]),
            Route("/ready", readiness, methods=["GET"]),
        ],
        middleware=[Middleware(_HostCheck, names=HostNames(gateway.config.allow_host))],
        exception_handlers={HTTPException: _handle_http_error},
    )


class _HostCheck:
    """Middleware that rejects requests for a foreign host name, or from a page of another site.

    It also adds headers that keep browsers from sniffing the content type and from framing the response.
    """

    def __init__(self, app: ASGIApp, names: HostNames) -> None:
        self._app, self._names = app, names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        send = wrap_with_headers(send)
        if problem := self._names.problem(scope):
            await send_refusal(send, Refusal(403, "foreign_host", problem))
        else:
            await self._app(scope, receive, send)


class _LivenessProbe:
    """Report that the process responds."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send_json(send, 200, {"status": "alive"})


class _ReadinessProbe:
    """Report whether every model can answer, for load balancers."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        missing = self._gateway.list_unready()
        if self._gateway.draining:
            missing = {"endpoint": "it is being stopped."}
        status = 503 if missing else 200
        await send_json(send, status, {"status": "not ready" if missing else "ready", "waiting_for": missing})


class _ModelList:
    """Return the available models, or one of them."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._gateway.keys.authenticate(scope)
        created = int(self._gateway.started_at)
        entries = [
            {"id": name, "object": "model", "created": created, "owned_by": "tunebench"}
            for name in self._gateway.table.models
        ]
        requested = scope.get("path_params", {}).get("model")
        if requested is None:
            await send_json(send, 200, {"object": "list", "data": entries})
            return
        self._gateway.table.get_model(requested)
        await send_json(send, 200, next(entry for entry in entries if entry["id"] == requested))


async def _handle_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = shorten(request.url.path)
    refusal = Refusal(error.status_code, "unknown_url", f"There is no {request.method} {path} here.")
    if error.status_code == 405:
        refusal = Refusal(405, "method_not_allowed", f"{path} does not take {request.method}.")
    return Response(refusal.encode_body(), refusal.status, media_type="application/json")
