"""How endpoints stand and what they were asked last, as the engine tells by routes of its own."""

from __future__ import annotations

from typing import Any, Protocol
from urllib.parse import quote

from store.serving.schemas import EndpointStatus, RequestLine


class Reader(Protocol):
    """Who asks the engine: `store.http.client.Client`."""

    def read(self, path: str) -> Any:
        """The document at a path."""
        ...


def list_endpoints(client: Reader) -> list[EndpointStatus]:
    """All endpoints as they stand."""
    seen: list[EndpointStatus] = client.read("/endpoints")
    return seen


def list_last_requests(client: Reader, endpoint: str) -> list[RequestLine]:
    """The newest lines of an endpoint's log."""
    lines: list[RequestLine] = client.read(f"/endpoints/{quote(endpoint, safe='')}/requests")
    return lines
