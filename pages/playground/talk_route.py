"""The one address of the screens' own server that is no page: what a browser reads models' answers from.

It lies behind the door as all pages do, takes JSON alone (which a page of another site can't send without
asking first), and passes on what the engine says, line by line. A browser that goes away ends that.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator

import anyio
from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from store.contract.errors import ConfigError, TunebenchError
from store.http.bodies import read_document
from store.http.client import Client
from store.http.line_stream import LineStream

Acting = Callable[[Request], Client]
PATH = "/talk"
BODY_BYTES = 2**21
READERS = anyio.CapacityLimiter(64)  # threads that wait for the engine's next line


async def talk(request: Request, acting: Acting) -> Response:
    """Ask the engine, and send on what it answers; what it refuses is answered as it refused it."""
    try:
        if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            raise ConfigError("Send JSON, and say so in Content-Type.", field="body")
        body = await read_document(request, BODY_BYTES, "what is said")
        lines = acting(request).generate(body)
        first = await run_sync(next, lines, b"", limiter=READERS)
    except TunebenchError as error:
        return JSONResponse(error.to_dict(), error.status)
    return LineStream(_sent_on(first, lines))


async def _sent_on(first: bytes, lines: Iterator[bytes]) -> AsyncGenerator[bytes, None]:
    """A line that is waited for is waited for to its end, at most until the engine's next sign of life."""
    line = first
    try:
        while line:
            yield line
            line = await run_sync(_next, lines, limiter=READERS)
    finally:
        with anyio.CancelScope(shield=True):
            await run_sync(lines.close, limiter=READERS)  # type: ignore[attr-defined]


def _next(lines: Iterator[bytes]) -> bytes:
    """The next line; where the engine goes away in the middle, a line that says so to all who wait."""
    try:
        return next(lines, b"")
    except TunebenchError as error:
        return JSONResponse({"type": "broken", "error": error.to_dict()}).body + b"\n"  # type: ignore[operator]


def talk_route(acting: Acting) -> Route:
    """The route; `acting` gives the client for whoever a request is of."""

    async def endpoint(request: Request) -> Response:
        return await talk(request, acting)

    return Route(PATH, endpoint, methods=["POST"])
