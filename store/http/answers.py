"""What the engine answers with: JSON documents, those of its refusals and failures, and headers for browsers.

No answer is a page. A browser that opens one is told to take it for what it is declared to be, to run nothing
in it, and to show it in no page of anybody's.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from store.contract.errors import NotFoundError, TunebenchError
from store.db.records import to_json

HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'; sandbox"),
)


def with_headers(send: Send) -> Send:
    """Sends answers with these headers."""

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], *HEADERS]
        await send(message)

    return send_with_headers


def document(content: Any, status: int = 200) -> Response:
    """A JSON answer."""
    return Response(to_json(content), status, media_type="application/json")


@contextlib.asynccontextmanager
async def failures_told(scope: Scope, receive: Receive, send: Send) -> AsyncIterator[Send]:
    """Send by what this gives: where the answer fails before it has begun, its failure is answered. The
    server, which gets the exception too, writes it down and cuts the connection."""
    begun = False

    async def send_noted(message: Message) -> None:
        nonlocal begun
        begun = True
        await send(message)

    try:
        yield send_noted
    except Exception as error:
        if not begun:
            await _failed(Request(scope), error)(scope, receive, send)
        raise


async def refused(request: Request, error: Exception) -> Response:
    """What a refusal says, and when to ask again."""
    assert isinstance(error, TunebenchError)
    answer = document(error.to_dict(), error.status)
    if error.retry_after:
        answer.headers["Retry-After"] = str(error.retry_after)
    return answer


async def no_such_route(request: Request, error: Exception) -> Response:
    """A path, or a method of it, that there is not."""
    assert isinstance(error, HTTPException)
    message = f"There is no {request.method} {request.url.path}."
    return document(NotFoundError(message).to_dict(), error.status_code)


async def hung_up(request: Request, error: Exception) -> Response:
    """The client is gone: nobody reads the answer, and it is no failure of ours."""
    return Response(status_code=499)


def _failed(request: Request, error: Exception) -> Response:
    """A bug, or a machine in trouble: the client gets one sentence, the log the traceback."""
    where = f"{request.method} {request.url.path}"
    message = f"The engine failed at {where}: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
    answer = document(TunebenchError(message, fix="The traceback is in logs/engine.log.").to_dict(), 500)
    answer.headers["Connection"] = "close"  # the server cuts it after a failure: no client may use it again
    return answer
