"""An answer that is sent a line at a time while it is made; a client that goes away ends the making of it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator

import anyio
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

MEDIA_TYPE = "application/x-ndjson"
HEADERS = {
    "Content-Type": MEDIA_TYPE,
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # nginx would keep the lines until there are many, or the last one
}


class LineStream(Response):
    """Sends what `lines` gives, and closes it however sending ends."""

    media_type = MEDIA_TYPE

    def __init__(self, lines: AsyncGenerator[bytes, None]) -> None:
        super().__init__()
        self._lines = lines

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
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
