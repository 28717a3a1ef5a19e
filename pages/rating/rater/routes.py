"""Routes through which the rating desk reaches the engine, as JSON.

A rating does not go through a rerun of the page, which would take longer than a person needs for the next
one. The routes decide nothing: they pass a document to the engine's command and return its answer, or its
refusal with the status. They are behind the access middleware, which refuses other sites by Origin; bodies
not declared as JSON are refused as well, so that no form of another site can send one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import anyio
from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pages.shared.data_routes import HEADERS, MAX_BODY_BYTES, MAX_CONCURRENT_REQUESTS, read_json_body
from store.core.errors import TunebenchError

COMMANDS = {
    "/rating/next": "next_rating_tasks",
    "/rating/rate": "rate",
    "/rating/release": "release_rating_tasks",
}


class CommandSender(Protocol):
    """Sends commands to the engine (`store.http.client.Client`)."""

    def command(self, name: str, body: Mapping[str, object]) -> Any:
        """Return the engine's answer. Raises TunebenchError if the engine refuses."""
        ...


def build_rating_routes(sender_of: Callable[[Request], CommandSender]) -> list[Route]:
    """Build the routes. `sender_of`: returns the client that acts for the person behind a request."""
    places = anyio.CapacityLimiter(MAX_CONCURRENT_REQUESTS)

    def route(path: str, command: str) -> Route:
        async def answer(request: Request) -> Response:
            try:
                body = await read_json_body(request, MAX_BODY_BYTES, "a rating")
                return _build_json_response(
                    await run_sync(sender_of(request).command, command, body, limiter=places)
                )
            except TunebenchError as error:
                return _build_json_response(error.to_dict(), error.status)

        return Route(path, answer, methods=["POST"])

    return [route(path, command) for path, command in COMMANDS.items()]


def _build_json_response(content: Any, status: int = 200) -> Response:
    return JSONResponse(content, status, HEADERS)
