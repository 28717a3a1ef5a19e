"""Policy for outgoing requests to addresses that a user chose: a judge, a route of an endpoint, a webhook, or
a model on another server. `store.http.outgoing` connects according to it.

A host name is judged by the address it resolves to at connect time, and the connection goes to exactly that
address.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass

from store.core.addresses import (
    Address,
    Network,
    explain_blocked_address,
    explain_blocked_host,
    parse_address,
    parse_network,
    split_host_and_port,
)
from store.core.errors import ConfigError
from store.core.home import Home
from store.core.processes import read_record


def look_up(host: str, port: int) -> list[str]:
    """Resolve a host name to its addresses. Raises OSError if it can't be resolved."""
    return [str(place[4][0]) for place in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


@dataclass(frozen=True)
class AddressPolicy:
    """Which addresses may be reached. networks: private networks that an admin has allowed. home: the home
    folder whose engine and screens must not be reached.
    """

    networks: tuple[Network, ...] = ()
    home: Home | None = None
    look_up: Callable[[str, int], list[str]] = look_up

    @classmethod
    def of(cls, networks: Iterable[str], home: Home | None) -> AddressPolicy:
        """Create a policy from networks as stored."""
        return cls(tuple(map(parse_network, networks)), home)

    def check(self, url: str, field: str) -> None:
        """Raise ConfigError (field) if an address may not be reached, as far as its text shows. Host names
        are only resolved when connecting.
        """
        host, port = split_host_and_port(url)
        literal = "127.0.0.1" if host == "localhost" else host
        self._check_places(host, port, [literal] if parse_address(literal) else [], field)

    def places(self, host: str, port: int, field: str = "address") -> list[str]:
        """Resolve a host to its addresses, all of which may be connected to.

        Raises ConfigError (field) if one of them is blocked, OSError if the name can't be resolved.
        """
        host = host.lower().removesuffix(".")
        self._check_places(host, port, (), field)
        places = list(dict.fromkeys(self.look_up(host, port)))
        self._check_places(host, port, places, field)
        return places

    def _check_places(self, host: str, port: int, places: Iterable[str], field: str) -> None:
        if never := explain_blocked_host(host):
            raise ConfigError(f"{host} is {never}.", fix="Give another address.", field=field)
        for place in places:
            if refused := self._refused(host, port, place):
                why, fix = refused
                what = host if parse_address(host) else f"{host} is at {place}, which"
                raise ConfigError(f"{what} is {why}.", fix=fix, field=field)

    def _refused(self, host: str, port: int, place: str) -> tuple[str, str] | None:
        """Return why an address is blocked and what to do, or None if it is allowed."""
        address = parse_address(place)
        if address is None:
            return "no address that is known here", "Give another address."
        if why := explain_blocked_address(address):
            return why, "Give another address."
        if port in self._own_ports() and (address.is_loopback or _is_local_address(address)):
            return f"Tunebench itself (port {port})", "Give the address of another server."
        if any(address in network for network in self.networks):
            return None
        if address.is_loopback:
            named = host == "localhost" or parse_address(host) is not None
            return None if named else ("this machine itself", f"Write {address} if that is meant.")
        if address.is_global and not getattr(address, "is_site_local", False):
            return None
        return (
            "an address of a private network, and no admin has allowed that",
            f"An admin allows it, or the network that it is in: tunebench team allow-network {address}",
        )

    def _own_ports(self) -> frozenset[int]:
        """Return the ports of the engine and the screens as currently recorded."""
        ports = set()
        for path in (self.home.engine_file, self.home.screens_file) if self.home else ():
            with suppress(OSError, ValueError):
                if record := read_record(path):
                    ports.add(split_host_and_port(record.address)[1])
        return frozenset(ports)


PUBLIC = AddressPolicy()  # no private networks allowed


def _is_local_address(address: Address) -> bool:
    """Return whether an address belongs to this machine, that is, whether a socket can be bound to it."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((str(address), 0))
        except OSError:
            return False
    return True
