"""HTTP responses: JSON documents and errors, Arrow streams sent while DuckDB produces them, and responses
sent line by line. When a client disconnects, the work is stopped.
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

# No response is a web page. Browsers that open one are told to trust its declared type, to run nothing in it,
# and to show it in no frame.

HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'; sandbox"),
)


def wrap_with_headers(send: Send) -> Send:
    """Wrap `send` so that it adds these headers to responses."""

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], *HEADERS]
        await send(message)

    return send_with_headers


def make_json_response(content: Any, status: int = 200) -> Response:
    """Return a JSON response."""
    return Response(to_json(content), status, media_type="application/json")


@contextlib.asynccontextmanager
async def report_failures(scope: Scope, receive: Receive, send: Send) -> AsyncIterator[Send]:
    """Yield a `send` to use in the block: if the block fails before the response has started, an error
    response is sent. The exception also reaches the server, which logs it and closes the connection.
    """
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
    """Return the response for an error, with Retry-After if known."""
    assert isinstance(error, TunebenchError)
    answer = make_json_response(error.to_dict(), error.status)
    if error.retry_after:
        answer.headers["Retry-After"] = str(error.retry_after)
    return answer


async def respond_no_such_route(request: Request, error: Exception) -> Response:
    """Return the response for an unknown path, or a method that it does not have."""
    assert isinstance(error, HTTPException)
    message = f"There is no {request.method} {request.url.path}."
    return make_json_response(NotFoundError(message).to_dict(), error.status_code)


async def respond_hung_up(request: Request, error: Exception) -> Response:
    """Return the response for a disconnected client, which nobody reads and which is not a failure of the
    engine.
    """
    return Response(status_code=499)


def _respond_failed(request: Request, error: Exception) -> Response:
    """Return the response for a bug or a system failure: one sentence for the client, while the traceback is
    logged.
    """
    where = f"{request.method} {request.url.path}"
    message = f"The engine failed at {where}: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
    answer = make_json_response(
        TunebenchError(message, fix="The traceback is in logs/engine.log.").to_dict(), 500
    )
    answer.headers["Connection"] = "close"  # the server closes it after a failure, so no client may reuse it
    return answer


# Response to a statement: an Arrow IPC stream that is sent while DuckDB produces it.
#
# Invariant: a stream that ends properly is the complete result. A statement that fails before its first rows
# gets an error document as response; one that fails later ends with an empty batch whose metadata holds the
# document, and then the connection is closed, so that no reader takes a part for the whole. When a client
# disconnects, its statement is stopped.


@contextlib.asynccontextmanager
async def stop_on_disconnect(receive: Receive, stop: Callable[[], None]) -> AsyncIterator[None]:
    """Call `stop` in a thread if the client disconnects during the block."""

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        await anyio.to_thread.run_sync(stop)  # without a limiter, since it frees a slot there

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
    """Runs one statement and sends its rows; `limiter`: the threads that wait for it."""

    media_type = MEDIA_TYPE

    def __init__(self, source: Chunks, limiter: anyio.CapacityLimiter) -> None:
        super().__init__()
        self._source, self._limiter = source, limiter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with stop_on_disconnect(receive, self._source.close):
            try:
                await self._send_rows(send)
            except TunebenchError as error:
                document = to_json(error.to_dict())
                response = Response(document, error.status, media_type="application/json")
                await response(scope, receive, send)
            finally:
                if not self._source.closed:
                    with anyio.CancelScope(shield=True):
                        await self._thread(self._source.close)

    async def _send_rows(self, send: Send) -> None:
        source = self._source
        chunk = await self._thread(source.first)  # for most statements the only call in a thread
        headers = [(b"content-type", MEDIA_TYPE.encode())]
        if source.done:
            headers.append((b"content-length", str(len(chunk)).encode()))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        while True:
            more = not source.done or source.failed
            await send({"type": "http.response.body", "body": chunk, "more_body": more})
            if source.done:
                return  # after a failure more_body was true, so the server closes the connection
            chunk = await self._thread(source.next)

    async def _thread(self, function: Any, *args: Any) -> Any:
        return await anyio.to_thread.run_sync(function, *args, limiter=self._limiter)


LINES_TYPE = "application/x-ndjson"
LINES_HEADERS = {
    "Content-Type": LINES_TYPE,
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # nginx would buffer the lines
}


class LineStream(Response):
    """Sends the output of `lines`, and closes it however sending ends."""

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
