"""Routes through which a component asks the engine without a rerun of the page: JSON in, Arrow or JSON out.

They decide nothing: they pass a document to the engine's query or command as the person behind the request,
and return its answer, or its refusal with the status. They are behind the access middleware, which refuses
other sites by Origin; a body that is not declared as JSON is refused as well, so that no form of another site
can send one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import anyio
import pyarrow as pa
from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from store.core.errors import ConfigError, TunebenchError
from store.http.client import Client
from store.http.request_bodies import read_document

MAX_BODY_BYTES = 2**20
MAX_CONCURRENT_REQUESTS = 48  # fewer than the client's connections
ARROW = "application/vnd.apache.arrow.stream"
HEADERS = {"Cache-Control": "no-store"}
Acting = Callable[[Request], Client]


class CommandSender(Protocol):
    """Sends commands to the engine (`store.http.client.Client`)."""

    def command(self, name: str, body: Mapping[str, object]) -> Any:
        """Return the engine's answer. Raises TunebenchError if the engine refuses."""
        ...


class UndeclaredBody(ConfigError):
    """Raised for a body that is not declared as JSON."""

    status = 415

    def __init__(self, kind: str, what: str) -> None:
        super().__init__(
            f"The body is {kind or 'of no declared type'}, and {what} comes as application/json.",
            fix="Send it with the header Content-Type: application/json.",
            field="content-type",
        )


async def read_json_body(request: Request, limit: int, what: str) -> dict[str, object]:
    """Return the JSON object in a body of at most `limit` bytes; `what` names it in messages.

    Raises UndeclaredBody, and the errors of `read_document`.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise UndeclaredBody(kind, what)
    return await read_document(request, limit, what)


def build_table_route(
    path: str, acting: Acting, ask: Callable[[Client, dict[str, object]], pa.Table], what: str
) -> Route:
    """Return a route that answers a document with an Arrow stream.

    acting: returns the client that acts for the person behind a request. ask: turns the document into the
    table; runs in a thread, and its TunebenchError becomes the answer. what: names the document in messages.
    """
    places = anyio.CapacityLimiter(MAX_CONCURRENT_REQUESTS)

    async def answer(request: Request) -> Response:
        try:
            body = await read_json_body(request, MAX_BODY_BYTES, what)
            content = await run_sync(_serialize, ask, acting(request), body, limiter=places)
        except TunebenchError as error:
            return JSONResponse(error.to_dict(), error.status, HEADERS)
        return Response(content, media_type=ARROW, headers=HEADERS)

    return Route(path, answer, methods=["POST"])


def build_command_route(
    path: str, sender_of: Callable[[Request], CommandSender], command: str, what: str
) -> Route:
    """Return a route that passes its document to a command of the engine.

    sender_of: returns what sends it for the person behind a request. what: names the document in messages.
    """
    places = anyio.CapacityLimiter(MAX_CONCURRENT_REQUESTS)

    async def answer(request: Request) -> Response:
        try:
            body = await read_json_body(request, MAX_BODY_BYTES, what)
            content = await run_sync(sender_of(request).command, command, body, limiter=places)
        except TunebenchError as error:
            return JSONResponse(error.to_dict(), error.status, HEADERS)
        return JSONResponse(content, headers=HEADERS)

    return Route(path, answer, methods=["POST"])


def _serialize(
    ask: Callable[[Client, dict[str, object]], pa.Table], client: Client, body: dict[str, object]
) -> bytes:
    table = ask(client, body)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    content: bytes = sink.getvalue().to_pybytes()
    return content
