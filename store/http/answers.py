"""What is answered over HTTP: JSON documents and refusals, Arrow streams while DuckDB makes them, and
answers that are sent a line at a time. A client that goes away ends the work.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any

import anyio
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from store.core.errors import NotFoundError, TunebenchError
from store.db.records import MEDIA_TYPE, Chunks, to_json

# What the engine answers with: JSON documents, those of its refusals and failures, and headers for browsers.
#
# No answer is a page. A browser that opens one is told to take it for what it is declared to be, to run
# nothing in it, and to show it in no page of anybody's.

HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'; sandbox"),
)


def wrap_with_headers(send: Send) -> Send:
    """Sends answers with these headers."""

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], *HEADERS]
        await send(message)

    return send_with_headers


def make_json_response(content: Any, status: int = 200) -> Response:
    """A JSON answer."""
    return Response(to_json(content), status, media_type="application/json")


@contextlib.asynccontextmanager
async def report_failures(scope: Scope, receive: Receive, send: Send) -> AsyncIterator[Send]:
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
            await _respond_failed(Request(scope), error)(scope, receive, send)
        raise


async def make_error_response(request: Request, error: Exception) -> Response:
    """What a refusal says, and when to ask again."""
    assert isinstance(error, TunebenchError)
    answer = make_json_response(error.to_dict(), error.status)
    if error.retry_after:
        answer.headers["Retry-After"] = str(error.retry_after)
    return answer


async def respond_no_such_route(request: Request, error: Exception) -> Response:
    """A path, or a method of it, that there is not."""
    assert isinstance(error, HTTPException)
    message = f"There is no {request.method} {request.url.path}."
    return make_json_response(NotFoundError(message).to_dict(), error.status_code)


async def respond_hung_up(request: Request, error: Exception) -> Response:
    """The client is gone: nobody reads the answer, and it is no failure of ours."""
    return Response(status_code=499)


def _respond_failed(request: Request, error: Exception) -> Response:
    """A bug, or a machine in trouble: the client gets one sentence, the log the traceback."""
    where = f"{request.method} {request.url.path}"
    message = f"The engine failed at {where}: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
    answer = make_json_response(
        TunebenchError(message, fix="The traceback is in logs/engine.log.").to_dict(), 500
    )
    answer.headers["Connection"] = "close"  # the server cuts it after a failure: no client may use it again
    return answer


# The answer to a statement: an Arrow IPC stream that is sent while DuckDB makes it.
#
# Invariant: a stream that ends properly is the whole result. A statement that fails before its first rows
# is answered by an error document; one that fails later ends with an empty batch whose metadata holds the
# document, and then the connection is cut, so that no reader takes a part for the whole. A client that
# hangs up stops its statement.


@contextlib.asynccontextmanager
async def stop_on_disconnect(receive: Receive, stop: Callable[[], None]) -> AsyncIterator[None]:
    """A block in which `stop` is called, in a thread, where the client hangs up."""

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        await anyio.to_thread.run_sync(stop)  # not under a limiter: it frees a place there

    failure: Exception | None = None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch)
        try:
            yield
        except Exception as error:  # noqa: BLE001 (raised below: the task group would wrap it)
            failure = error
        finally:
            tasks.cancel_scope.cancel()
    if failure is not None:
        raise failure


class ArrowStream(Response):
    """Runs one statement and sends its rows; `limiter`: the threads in which it is waited for."""

    media_type = MEDIA_TYPE

    def __init__(self, source: Chunks, limiter: anyio.CapacityLimiter) -> None:
        super().__init__()
        self._source, self._limiter = source, limiter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with stop_on_disconnect(receive, self._source.close):
            try:
                await self._send_rows(send)
            except TunebenchError as error:
                await _make_document_response(error)(scope, receive, send)
            finally:
                if not self._source.closed:
                    with anyio.CancelScope(shield=True):
                        await self._thread(self._source.close)

    async def _send_rows(self, send: Send) -> None:
        source = self._source
        chunk = await self._thread(source.first)  # for most statements the only visit to a thread
        headers = [(b"content-type", MEDIA_TYPE.encode())]
        if source.done:
            headers.append((b"content-length", str(len(chunk)).encode()))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        while True:
            more = not source.done or source.failed
            await send({"type": "http.response.body", "body": chunk, "more_body": more})
            if source.done:
                return  # after a failure more_body was true: the server cuts the connection
            chunk = await self._thread(source.next)

    async def _thread(self, function: Any, *args: Any) -> Any:
        return await anyio.to_thread.run_sync(function, *args, limiter=self._limiter)


def _make_document_response(error: TunebenchError) -> Response:
    return Response(to_json(error.to_dict()), error.status, media_type="application/json")


LINES_TYPE = "application/x-ndjson"
LINES_HEADERS = {
    "Content-Type": LINES_TYPE,
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # nginx would keep the lines until there are many, or the last one
}


class LineStream(Response):
    """Sends what `lines` gives, and closes it however sending ends."""

    media_type = LINES_TYPE

    def __init__(self, lines: AsyncGenerator[bytes, None]) -> None:
        super().__init__()
        self._lines = lines

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(name.lower().encode(), value.encode()) for name, value in LINES_HEADERS.items()]
        async with anyio.create_task_group() as tasks, contextlib.aclosing(self._lines) as lines:
            tasks.start_soon(_end_on_disconnect, receive, tasks.cancel_scope)
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            async for line in lines:
                await send({"type": "http.response.body", "body": line, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            tasks.cancel_scope.cancel()


async def _end_on_disconnect(receive: Receive, sending: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    sending.cancel()
