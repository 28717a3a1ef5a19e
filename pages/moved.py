"""Addresses of pages that are tabs of other pages by now: they lead on to the tab, with all that they ask.

An ASGI middleware, before the app: a page that switched to another one would stay in the browser's history,
where Back would lead to it, and it on again.
"""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import parse_qsl, urlencode

from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send


class Place(NamedTuple):
    """Where it is shown now: page and tab, and parameters that have another name there."""

    page: str
    tab: str
    renamed: dict[str, str]


PLACES = {
    "/mix": Place("/run", "between", {}),
    "/evidence": Place("/compare", "cost", {}),
    "/transfer": Place("/compare", "transfer", {"runs": "matrix-runs"}),
}


class Moved:
    """Answers the old addresses with the new ones; all else goes on to the app."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        place = PLACES.get(scope["path"].rstrip("/")) if scope["type"] == "http" else None
        if place is None or scope["method"] not in ("GET", "HEAD"):
            await self._app(scope, receive, send)
            return
        there = RedirectResponse(_address(place, scope), 307, {"Cache-Control": "no-store"})
        await there(scope, receive, send)


def _address(place: Place, scope: Scope) -> str:
    asked = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    kept = [(place.renamed.get(name, name), value) for name, value in asked if name != "tab"]
    return f"{place.page}?{urlencode([('tab', place.tab), *kept])}"
