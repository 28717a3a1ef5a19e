"""Routes of the screens' server through which a browser streams and stops models' answers.

They are behind access control like all pages, accept only JSON (which a page of another site cannot send
without a preflight request), and pass on the engine's response line by line. A browser that disconnects ends
the stream, not the answer.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator

import anyio
from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from store.core.errors import ConfigError, TunebenchError
from store.http.answers import LineStream
from store.http.client import Client
from store.http.request_bodies import read_document

Acting = Callable[[Request], Client]
PATH = "/talk"
STOP_PATH = "/talk/stop"
MAX_BODY_BYTES = 2**21
READERS = anyio.CapacityLimiter(64)  # maximum threads waiting for the engine's next line


async def handle_chat(request: Request, acting: Acting) -> Response:
    """Send the request to the engine and stream its response; a refusal is returned with its status."""
    try:
        body = await _read_body(request)
        lines = acting(request).generate(body)
        first = await run_sync(next, lines, b"", limiter=READERS)
    except TunebenchError as error:
        return JSONResponse(error.to_dict(), error.status)
    return LineStream(_stream_lines(first, lines))


async def handle_stop(request: Request, acting: Acting) -> Response:
    """Ask the engine to stop answering a turn."""
    try:
        turn = str((await _read_body(request)).get("turn", ""))
        await run_sync(acting(request).stop_turn, turn, limiter=READERS)
    except TunebenchError as error:
        return JSONResponse(error.to_dict(), error.status)
    return JSONResponse({})


async def _read_body(request: Request) -> dict[str, object]:
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise ConfigError("Send JSON with a JSON Content-Type.", field="body")
    return await read_document(request, MAX_BODY_BYTES, "what is said")


async def _stream_lines(first: bytes, lines: Iterator[bytes]) -> AsyncGenerator[bytes, None]:
    """Yield the lines. A read is never interrupted; it lasts at most until the engine's next heartbeat."""
    line = first
    try:
        while line:
            yield line
            line = await run_sync(_read_next_line, lines, limiter=READERS)
    finally:
        with anyio.CancelScope(shield=True):
            await run_sync(lines.close, limiter=READERS)  # type: ignore[attr-defined]


def _read_next_line(lines: Iterator[bytes]) -> bytes:
    """Read the next line; if the engine disappears meanwhile, return a line with the error."""
    try:
        return next(lines, b"")
    except TunebenchError as error:
        return JSONResponse({"type": "broken", "error": error.to_dict()}).body + b"\n"  # type: ignore[operator]


def build_chat_routes(acting: Acting) -> list[Route]:
    """Build the routes; `acting` returns the client that acts for the person behind a request."""

    async def talking(request: Request) -> Response:
        return await handle_chat(request, acting)

    async def stopping(request: Request) -> Response:
        return await handle_stop(request, acting)

    return [Route(PATH, talking, methods=["POST"]), Route(STOP_PATH, stopping, methods=["POST"])]
