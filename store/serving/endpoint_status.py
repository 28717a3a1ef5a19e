"""Status of endpoints and their last requests, read from dedicated routes of the engine."""

from __future__ import annotations

from typing import Protocol, TypeVar
from urllib.parse import quote

from store.serving.schemas import EndpointStatus, RequestLine

Document = TypeVar("Document")


class Reader(Protocol):
    """Client of the engine: `store.http.client.Client`."""

    def read(self, path: str, returns: type[Document]) -> Document:
        """Return the document at a path, parsed as its type."""
        ...


def list_endpoints(client: Reader) -> list[EndpointStatus]:
    """Return all endpoints with their status."""
    return client.read("/endpoints", list[EndpointStatus])


def list_last_requests(client: Reader, endpoint: str) -> list[RequestLine]:
    """Return the newest lines of an endpoint's log."""
    return client.read(f"/endpoints/{quote(endpoint, safe='')}/requests", list[RequestLine])
