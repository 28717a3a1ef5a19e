"""The answer to a statement: an Arrow IPC stream that is sent while DuckDB makes it.

Invariant: a stream that ends properly is the whole result. A statement that fails before its first rows
is answered by an error document; one that fails later ends with an empty batch whose metadata holds the
document, and then the connection is cut, so that no reader takes a part for the whole. A client that
hangs up stops its statement.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from store.contract.errors import TunebenchError
from store.db.records import to_json
from store.db.wire import MEDIA_TYPE, Chunks


@contextlib.asynccontextmanager
async def stopped_on_disconnect(receive: Receive, stop: Callable[[], None]) -> AsyncIterator[None]:
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
        async with stopped_on_disconnect(receive, self._source.close):
            try:
                await self._send_rows(send)
            except TunebenchError as error:
                await _document(error)(scope, receive, send)
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


def _document(error: TunebenchError) -> Response:
    return Response(to_json(error.to_dict()), error.status, media_type="application/json")
