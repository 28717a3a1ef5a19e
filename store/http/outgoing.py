"""httpx clients for one server at an address that a user chose (`store.core.address_policy`).

A host name is resolved once per request, and the connection goes to exactly the checked address, so that
no second lookup can lead elsewhere. Redirects are not followed; proxies and netrc of the environment are
not used.
"""

from __future__ import annotations

import asyncio
from typing import Any

import httpx

from store.core.address_policy import AddressPolicy
from store.core.addresses import split_host_and_port
from store.core.errors import ConfigError

_NOT_THERE = (httpx.ConnectError, httpx.ConnectTimeout)  # at this address; the name may have others


class CheckedTransport(httpx.BaseTransport):
    """Transport that connects to one server only. Raises ConfigError if its address is blocked."""

    def __init__(self, url: str, policy: AddressPolicy, **options: Any) -> None:
        self._server, self._policy = _parse_server(httpx.URL(url)), policy
        self._inner = httpx.HTTPTransport(**options)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request to the first of the server's addresses that accepts a connection."""
        _check_server(request, self._server)
        host, port = self._server
        try:
            places = self._policy.places(host, port)
        except OSError as error:
            raise httpx.ConnectError(str(error)) from error
        for place in places[:-1]:
            try:
                return self._inner.handle_request(_readdress(request, place, host))
            except _NOT_THERE:
                continue
        return self._inner.handle_request(_readdress(request, places[-1], host))

    def close(self) -> None:
        self._inner.close()


class AsyncCheckedTransport(httpx.AsyncBaseTransport):
    """Async version of `CheckedTransport`."""

    def __init__(self, url: str, policy: AddressPolicy, **options: Any) -> None:
        self._server, self._policy = _parse_server(httpx.URL(url)), policy
        self._inner = httpx.AsyncHTTPTransport(**options)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Like `CheckedTransport.handle_request`."""
        _check_server(request, self._server)
        host, port = self._server
        try:
            places = await asyncio.to_thread(self._policy.places, host, port)
        except OSError as error:
            raise httpx.ConnectError(str(error)) from error
        for place in places[:-1]:
            try:
                return await self._inner.handle_async_request(_readdress(request, place, host))
            except _NOT_THERE:
                continue
        return await self._inner.handle_async_request(_readdress(request, places[-1], host))

    async def aclose(self) -> None:
        await self._inner.aclose()


def create_checked_client(url: str, policy: AddressPolicy, timeout: float | httpx.Timeout) -> httpx.Client:
    """Create a client for the server at this address only."""
    transport = CheckedTransport(url, policy)
    return httpx.Client(transport=transport, timeout=timeout, follow_redirects=False, trust_env=False)


def create_checked_async_client(
    url: str, policy: AddressPolicy, timeout: float | httpx.Timeout, connections: int
) -> httpx.AsyncClient:
    """Create an async client for the server at this address only, with at most this many connections."""
    transport = AsyncCheckedTransport(url, policy, limits=httpx.Limits(max_connections=connections))
    return httpx.AsyncClient(transport=transport, timeout=timeout, follow_redirects=False, trust_env=False)


def _parse_server(url: httpx.URL) -> tuple[str, int]:
    """Return host and port; an internationalized name in the ASCII form that is looked up."""
    return split_host_and_port(str(url))


def _check_server(request: httpx.Request, server: tuple[str, int]) -> None:
    """Raise ConfigError for a request to another server. A connection is pooled by its address and was opened
    for one server name, so no other server may be reached over it.
    """
    asked = _parse_server(request.url)
    if asked != server:
        raise ConfigError(
            f"{asked[0]}:{asked[1]} was to be asked for {server[0]}:{server[1]}.", field="address"
        )


def _readdress(request: httpx.Request, place: str, name: str) -> httpx.Request:
    """Return the request with one resolved address; Host and the certificate's name remain those of the
    server.
    """
    return httpx.Request(
        request.method,
        request.url.copy_with(host=place),
        headers=request.headers,
        stream=request.stream,
        extensions={**request.extensions, "sni_hostname": name},
    )
