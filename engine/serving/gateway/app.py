"""The routes of a gateway: OpenAI's protocol at /v1, feedback, health and readiness.

Feedback, what people say of an answer at once or much later, is written down beside the log. Refusals are
answers in OpenAI's form.
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
from engine.serving.gateway.answering import Answering
from engine.serving.gateway.gateway import Gateway
from engine.serving.gateway.request_bodies import ClientGone, Refusal, draining, short
from store.http.access import Names
from store.http.answers import with_headers
from store.serving.schemas import FeedbackLine

if TYPE_CHECKING:
    from engine.serving.gateway.gateway import Gateway

Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]


async def answer_json(send: Send, status: int, document: Any) -> None:
    """One document."""
    body = json.dumps(document, ensure_ascii=False).encode()
    await _answer(send, status, [(b"content-type", b"application/json")], body)


async def answer_refusal(send: Send, refusal: Refusal) -> None:
    """In OpenAI's form."""
    await _answer(send, refusal.status, refusal.headers(), refusal.body())


async def _answer(send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body})


class WithRefusals:
    """An ASGI application, with what it refuses as its answer."""

    def __init__(self, app: Asgi) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        except Refusal as refusal:
            await answer_refusal(send, refusal)
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
MOST_SCORE = 10**12  # either way: what is beyond it is no score, and may be no float either
_THUMBS = {"up": 1.0, "down": 0.0, 1: 1.0, 0: 0.0}  # true and false are 1 and 0


class FeedbackDesk:
    """The ASGI application."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        gateway = self._gateway
        if gateway.draining:
            raise draining()
        key = gateway.keys.of_request(scope)
        gateway.keys.spend_request(key)
        body = request_bodies.parse(
            await request_bodies.read_body(scope, receive, gateway.config["limits"]["body_bytes"])
        )
        line = self._line(body, key["person_id"])
        if gateway.config["log"]["redact"]:
            line = await asyncio.to_thread(_redacted, line)
        if not gateway.feedback_log.append(line):
            raise Refusal(
                507,
                "log_full",
                f"The feedback could not be written ({gateway.feedback_log.error}); send it again.",
            )
        await answer_json(
            send, 200, {"id": line["feedback_id"], "object": "feedback", "request_id": line["request_id"]}
        )

    def _line(self, body: Mapping[str, Any], person_id: str) -> FeedbackLine:
        for name in body:
            if name not in FIELDS:
                raise Refusal(
                    400,
                    "unsupported_parameter",
                    f"Feedback has no field {request_bodies.short(name)}. It has:"
                    f" {', '.join(sorted(FIELDS))}.",
                    param=request_bodies.short(name),
                )
        request_id, comment = body.get("request_id"), body.get("comment", "")
        if not isinstance(request_id, str):
            raise Refusal(400, "missing_parameter", "request_id is missing.", param="request_id")
        if not self._gateway.ids.made(request_id):
            raise Refusal(
                404,
                "request_not_found",
                f"This endpoint never gave the id {request_bodies.short(request_id)!r}.",
                param="request_id",
            )
        given = [kind for kind in KINDS if kind in body]
        if len(given) != 1:
            raise Refusal(400, "invalid_value", f"Give one of {', '.join(KINDS)}; {len(given)} were given.")
        kind = given[0]
        value, text = _value(kind, body[kind])
        return {
            "feedback_id": f"fb-{secrets.token_hex(12)}",
            "request_id": request_id,
            "endpoint_id": self._gateway.config["endpoint_id"],
            "at": time.time(),
            "person_id": person_id,
            "kind": kind,
            "value": value,
            "text": text,
            "comment": _text("comment", comment),
        }


def _redacted(line: FeedbackLine) -> FeedbackLine:
    """As the log's texts: a correction may hold what was taken out of the question."""
    from engine.serving.gateway.redaction import redacted

    return {**line, "text": redacted(line["text"])[0], "comment": redacted(line["comment"])[0]}


def _value(kind: str, given: object) -> tuple[float | None, str | None]:
    """The number and the text of one kind."""
    if kind == "thumb":
        if isinstance(given, bool | str | int) and given in _THUMBS:
            return _THUMBS[given], None
        raise Refusal(400, "invalid_value", "thumb has to be up or down.", param="thumb")
    if kind == "score":
        if isinstance(given, int | float) and not isinstance(given, bool) and abs(given) <= MOST_SCORE:
            return float(given), None
        raise Refusal(
            400, "invalid_value", f"score has to be a number of up to {MOST_SCORE:,}.", param="score"
        )
    return None, _text(kind, given)


def _text(name: str, given: object) -> str:
    if not isinstance(given, str) or len(given) > TEXT_CHARACTERS:
        raise Refusal(
            400,
            "invalid_value",
            f"{name} has to be a text of up to {TEXT_CHARACTERS:,} characters.",
            param=name,
        )
    return given


# The routes of a gateway: OpenAI's protocol at /v1, feedback, health and readiness.
#
# Every request comes to a name of ours and from no foreign page (`store.http.access`); all but /health and
# /ready bring a key.


def build(gateway: Gateway) -> Starlette:
    """The application."""
    listed = _ModelList(gateway)
    readiness = _Readiness(gateway)
    return Starlette(
        routes=[
            Route("/v1/chat/completions", Answering(gateway, "chat"), methods=["POST"]),
            Route("/v1/responses", Answering(gateway, "chat", ResponsesForm, "resp_"), methods=["POST"]),
            Route("/v1/completions", Answering(gateway, "completion"), methods=["POST"]),
            Route("/v1/embeddings", Answering(gateway, "embedding"), methods=["POST"]),
            Route("/v1/systemone", Answering(gateway, "decision"), methods=["POST"]),
            Route("/v1/feedback", WithRefusals(FeedbackDesk(gateway)), methods=["POST"]),
            Route("/v1/models", WithRefusals(listed), methods=["GET"]),
            Route("/v1/models/{model:path}", WithRefusals(listed), methods=["GET"]),
            Route("/health", _Aliveness(), methods=["GET"]),
            Route("/ready", readiness, methods=["GET"]),
        ],
        middleware=[Middleware(_NameGate, names=Names(gateway.config["allow_host"]))],
        exception_handlers={HTTPException: _no_such_route},
    )


class _NameGate:
    """Refuses what comes by a name that is not ours, or from a page of another site. Every answer says to a
    browser that it is what it is declared to be, and no page to be shown."""

    def __init__(self, app: ASGIApp, names: Names) -> None:
        self._app, self._names = app, names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        send = with_headers(send)
        if wrong := self._names.problem(scope):
            await answer_refusal(send, Refusal(403, "foreign_host", wrong))
        else:
            await self._app(scope, receive, send)


class _Aliveness:
    """That the process answers."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await answer_json(send, 200, {"status": "alive"})


class _Readiness:
    """Whether every model can answer, for whoever deals requests out."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        missing = self._gateway.not_ready()
        if self._gateway.draining:
            missing = {"endpoint": "it is being stopped."}
        status = 503 if missing else 200
        await answer_json(
            send, status, {"status": "not ready" if missing else "ready", "waiting_for": missing}
        )


class _ModelList:
    """The models that callers may ask for, or one of them."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._gateway.keys.of_request(scope)
        created = int(self._gateway.started_at)
        entries = [
            {"id": name, "object": "model", "created": created, "owned_by": "tunebench"}
            for name in self._gateway.table.models
        ]
        wanted = scope.get("path_params", {}).get("model")
        if wanted is None:
            await answer_json(send, 200, {"object": "list", "data": entries})
            return
        self._gateway.table.of(wanted)
        await answer_json(send, 200, next(entry for entry in entries if entry["id"] == wanted))


async def _no_such_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = short(request.url.path)
    refusal = Refusal(error.status_code, "unknown_url", f"There is no {request.method} {path} here.")
    if error.status_code == 405:
        refusal = Refusal(405, "method_not_allowed", f"{path} does not take {request.method}.")
    return Response(refusal.body(), refusal.status, media_type="application/json")
