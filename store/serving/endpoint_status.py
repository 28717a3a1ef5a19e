"""How endpoints stand and what they were asked last, as the engine tells by routes of its own."""

from __future__ import annotations

from typing import Protocol, TypeVar
from urllib.parse import quote

from store.serving.schemas import EndpointStatus, RequestLine

Document = TypeVar("Document")


class Reader(Protocol):
    """Who asks the engine: `store.http.client.Client`."""

    def read(self, path: str, returns: type[Document]) -> Document:
        """The document at a path, as its type."""
        ...


def list_endpoints(client: Reader) -> list[EndpointStatus]:
    """All endpoints as they stand."""
    return client.read("/endpoints", list[EndpointStatus])


def list_last_requests(client: Reader, endpoint: str) -> list[RequestLine]:
    """The newest lines of an endpoint's log."""
    return client.read(f"/endpoints/{quote(endpoint, safe='')}/requests", list[RequestLine])
