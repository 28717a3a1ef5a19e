"""HTTP application of a backend, independent of the engine that generates the answers.

A client that disconnects at any point cancels its request: the coroutine or stream that generates its
answer is closed, which frees its rows.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import traceback
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from engine.serving.protocol.answers import (
    LOGPROBS_COMMENT,
    LOGPROBS_HEADER,
    LogprobTally,
    RequestError,
    build_internal_error,
    describe_kinds,
)
from store.core.documents import as_json
from store.core.errors import TunebenchError
from store.http.request_bodies import read_document
from store.serving.schemas import Capabilities

log = logging.getLogger("backend")

MAX_BODY_BYTES = 64 * 2**20  # bytes; the gateway enforces the actual limit
CLIENT_CLOSED = 499  # customary HTTP status for a client that disconnected

AnswerKind = Literal["chat", "completion", "decision", "embedding"]


@dataclass(frozen=True)
class WholeAnswer:
    """A single-document answer. tally: None if nothing was counted."""

    document: Mapping[str, Any]
    tally: LogprobTally | None = None

    def to_response(self) -> JSONResponse:
        """Return the HTTP response."""
        headers = {LOGPROBS_HEADER: self.tally.to_text()} if self.tally else None
        return JSONResponse(dict(self.document), headers=headers)


@dataclass(frozen=True)
class Stream:
    """An answer in pieces, each a document.

    - cancel: called when nobody reads on, even if reading never started
    - tally: returns the tally of what was yielded so far
    """

    documents: AsyncGenerator[Mapping[str, Any], None]
    cancel: Callable[[], None] = lambda: None
    tally: Callable[[], LogprobTally | None] = lambda: None


class Answerer(Protocol):
    """An engine that generates answers."""

    @property
    def capabilities(self) -> Capabilities:
        """What the engine supports."""
        ...

    @property
    def load(self) -> dict[str, int]:
        """Current load."""
        ...

    async def answer(self, kind: AnswerKind, body: Mapping[str, Any]) -> WholeAnswer | Stream:
        """Answer the request. Raises RequestError."""
        ...


class EventStream:
    """A stream as server-sent events."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream until it ends or the client disconnects."""
        sending = asyncio.ensure_future(self._send(send))
        watching = asyncio.ensure_future(_wait_for_disconnect(receive))
        try:
            await asyncio.wait({sending, watching}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._stream.cancel()
            sending.cancel()
            watching.cancel()
            await asyncio.gather(sending, watching, return_exceptions=True)

    async def _send(self, send: Send) -> None:
        async def event(document: str, tally: LogprobTally | None = None) -> None:
            comment = LOGPROBS_COMMENT + tally.to_text().encode() + b"\n" if tally else b""
            body = comment + f"data: {document}\n\n".encode()
            await send({"type": "http.response.body", "body": body, "more_body": True})

        headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        try:
            async with contextlib.aclosing(self._stream.documents) as documents:
                async for document in documents:
                    await event(json.dumps(document, ensure_ascii=False), self._stream.tally())
            await event("[DONE]")
        except RequestError as error:
            await event(json.dumps(error.to_document(), ensure_ascii=False))
        except Exception as error:  # noqa: BLE001 (the border: the answer has begun, so that no status can say it)
            traceback.print_exception(error)
            await event(json.dumps(build_internal_error(error).to_document(), ensure_ascii=False))
        await send({"type": "http.response.body", "body": b""})


async def _wait_for_disconnect(receive: Receive) -> None:
    """Wait until the client disconnects."""
    while (await receive())["type"] != "http.disconnect":
        pass


def build(answerer: Answerer) -> Starlette:
    """Build the application for one engine."""

    async def health(_: Request) -> Response:
        return JSONResponse({"status": "ok", **answerer.load})

    async def capabilities(_: Request) -> Response:
        return JSONResponse(as_json(answerer.capabilities))

    async def models(_: Request) -> Response:
        entries = [
            {"id": name, "object": "model", "created": 0, "owned_by": "tunebench"}
            for name in answerer.capabilities.models
        ]
        return JSONResponse({"object": "list", "data": entries})

    return Starlette(
        routes=[
            Route("/health", health),
            Route("/capabilities", capabilities),
            Route("/v1/models", models),
            Route("/v1/chat/completions", _make_endpoint(answerer, "chat"), methods=["POST"]),
            Route("/v1/completions", _make_endpoint(answerer, "completion"), methods=["POST"]),
            Route("/v1/embeddings", _make_endpoint(answerer, "embedding"), methods=["POST"]),
            Route("/v1/systemone", _make_endpoint(answerer, "decision"), methods=["POST"]),
        ],
        exception_handlers={HTTPException: _handle_http_error},
    )


def _make_endpoint(answerer: Answerer, kind: AnswerKind) -> Callable[[Request], Awaitable[Response]]:
    async def handle(request: Request) -> Any:
        try:
            body = await read_document(request, MAX_BODY_BYTES, "a request")
            if kind not in answerer.capabilities.kinds and not (
                kind == "chat" and "labels" in answerer.capabilities.kinds
            ):
                raise RequestError(
                    _describe_wrong_kind(answerer.capabilities, kind),
                    code="unsupported_endpoint",
                    field="model",
                )
            answer = await _await_while_connected(answerer.answer(kind, body), request)
        except RequestError as error:
            return error.to_response()
        except ClientDisconnect:
            return Response(status_code=CLIENT_CLOSED)
        except TunebenchError as error:
            return RequestError(str(error), status=error.status, field=error.field or None).to_response()
        except Exception as error:  # noqa: BLE001 (the border)
            traceback.print_exception(error)
            return build_internal_error(error).to_response()
        return EventStream(answer) if isinstance(answer, Stream) else answer.to_response()

    return handle


def _describe_wrong_kind(capabilities: Capabilities, kind: AnswerKind) -> str:
    has_completions = "completion" in capabilities.kinds
    if kind == "chat" and has_completions and not capabilities.template:
        return (
            "The model's tokenizer has no chat template, so that it is not known how it is talked to. Ask it"
            " for completions, or give its folder a chat_template.jinja."
        )
    return f"This model {describe_kinds(capabilities.kinds, kind)}."


async def _await_while_connected(
    answer: Awaitable[WholeAnswer | Stream], request: Request
) -> WholeAnswer | Stream:
    """Wait for the answer. Raises ClientDisconnect, and cancels it, if the client disconnects first."""
    answering = asyncio.ensure_future(answer)
    watching = asyncio.ensure_future(_wait_for_disconnect(request.receive))
    try:
        await asyncio.wait({answering, watching}, return_when=asyncio.FIRST_COMPLETED)
        if answering.done():
            return answering.result()
        raise ClientDisconnect
    finally:
        answering.cancel()
        watching.cancel()
        await asyncio.gather(answering, watching, return_exceptions=True)


def _handle_http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = {404: "unknown_url", 405: "method_not_allowed"}.get(error.status_code, "http_error")
    return RequestError(str(error.detail), status=error.status_code, code=code).to_response()
