"""Routes through which the rating desk reaches the engine, as JSON.

A rating does not go through a rerun of the page, which would take longer than a person needs for the next
one.
"""

from __future__ import annotations

from collections.abc import Callable

from starlette.requests import Request
from starlette.routing import Route

from pages.shared.data_routes import CommandSender, build_command_route

COMMANDS = {
    "/rating/next": "next_rating_tasks",
    "/rating/rate": "rate",
    "/rating/release": "release_rating_tasks",
}


def build_rating_routes(sender_of: Callable[[Request], CommandSender]) -> list[Route]:
    """Build the routes. `sender_of`: returns the client that acts for the person behind a request."""
    return [build_command_route(path, sender_of, command, "a rating") for path, command in COMMANDS.items()]
