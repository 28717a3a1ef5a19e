"""httpx clients for one server whose address somebody chose (`store.core.addresses`).

A name is looked up once for each request, and the very address that was checked is asked, so that no second
lookup leads elsewhere. No redirect is followed, no proxy or netrc of the environment is used.
"""

from __future__ import annotations

import asyncio
from typing import Any

import httpx

from store.core.address_policy import AddressPolicy
from store.core.addresses import split_host_and_port
from store.core.errors import ConfigError

_NOT_THERE = (httpx.ConnectError, httpx.ConnectTimeout)  # at this address; the name may have another


class CheckedTransport(httpx.BaseTransport):
    """Reaches one server alone. Raises ConfigError where its address is refused."""

    def __init__(self, url: str, policy: AddressPolicy, **options: Any) -> None:
        self._server, self._policy = _parse_server(httpx.URL(url)), policy
        self._inner = httpx.HTTPTransport(**options)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """One request, at the first of its server's addresses that answers."""
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
    """The same for an event loop."""

    def __init__(self, url: str, policy: AddressPolicy, **options: Any) -> None:
        self._server, self._policy = _parse_server(httpx.URL(url)), policy
        self._inner = httpx.AsyncHTTPTransport(**options)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """As `CheckedTransport.handle_request`."""
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
    """For the server of this address alone."""
    transport = CheckedTransport(url, policy)
    return httpx.Client(transport=transport, timeout=timeout, follow_redirects=False, trust_env=False)


def create_checked_async_client(
    url: str, policy: AddressPolicy, timeout: float | httpx.Timeout, connections: int
) -> httpx.AsyncClient:
    """The same for an event loop, with so many connections at most."""
    transport = AsyncCheckedTransport(url, policy, limits=httpx.Limits(max_connections=connections))
    return httpx.AsyncClient(transport=transport, timeout=timeout, follow_redirects=False, trust_env=False)


def _parse_server(url: httpx.URL) -> tuple[str, int]:
    """With a name of other letters than ASCII as it is looked up."""
    return split_host_and_port(str(url))


def _check_server(request: httpx.Request, server: tuple[str, int]) -> None:
    """Raise ConfigError for a request to another server. A connection is kept by its address, and was opened
    in the name of one server: no other one may be asked over it."""
    asked = _parse_server(request.url)
    if asked != server:
        raise ConfigError(
            f"{asked[0]}:{asked[1]} was to be asked for {server[0]}:{server[1]}.", field="address"
        )


def _readdress(request: httpx.Request, place: str, name: str) -> httpx.Request:
    """The request for one address; Host, and the name of the certificate, stay the server's."""
    return httpx.Request(
        request.method,
        request.url.copy_with(host=place),
        headers=request.headers,
        stream=request.stream,
        extensions={**request.extensions, "sni_hostname": name},
    )
