"""Where a request may go whose address somebody chose: a judge, a route of an endpoint, a webhook, a model
elsewhere. The one policy for all of them; `store.http.outgoing` connects by it.

Nobody reaches link-local addresses (by which clouds tell machines their secrets), services of metadata at
other addresses, multicast, or the ports of Tunebench itself. Loopback is reached by its own name or address,
as most models of one's own are there, and by no other name; private networks where an admin has allowed them.
What counts is the address at which a name is when it is connected to, and that one is connected to.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

from store.core.errors import ConfigError
from store.core.home import Home
from store.core.processes import read_record

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

METADATA_NAMES = frozenset(
    ("metadata", "metadata.google.internal", "metadata.goog", "instance-data", "instance-data.ec2.internal")
)
_METADATA = frozenset(
    ipaddress.ip_address(text)
    for text in ("fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "168.63.129.16", "192.0.0.192")
)
_IN_IPV6 = tuple(ipaddress.IPv6Network(text) for text in ("64:ff9b::/96", "64:ff9b:1::/48"))  # NAT64
_NO_MACHINE = tuple(
    ipaddress.ip_network(text) for text in ("0.0.0.0/8", "240.0.0.0/4", "::/96", "2002::/16", "2001::/32")
)  # unspecified, reserved, and tunnels (6to4, Teredo) that lead to any address and that nobody has any more
_LOOPBACK6 = ipaddress.IPv6Address("::1")
_PORTS = {"http": 80, "https": 443}


def look_up(host: str, port: int) -> list[str]:
    """The addresses at which a name is. Raises OSError where there is no such name."""
    return [str(place[4][0]) for place in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def split_host_and_port(url: str) -> tuple[str, int]:
    """Of a web address: in small letters, without brackets and a closing dot. Raises ValueError."""
    parts = urlsplit(url)
    host = (parts.hostname or "").removesuffix(".")
    return host, parts.port or _PORTS.get(parts.scheme, 0)


def parse_network(text: str) -> Network:
    """A network, or one address, as a network without bits of a machine. Raises ValueError."""
    return ipaddress.ip_network(text.strip(), strict=False)


@dataclass(frozen=True)
class AddressPolicy:
    """networks: private ones that an admin allowed. home: whose engine and screens are not reached."""

    networks: tuple[Network, ...] = ()
    home: Home | None = None
    look_up: Callable[[str, int], list[str]] = look_up

    @classmethod
    def of(cls, networks: Iterable[str], home: Home | None) -> AddressPolicy:
        """Of networks as they are stored."""
        return cls(tuple(map(parse_network, networks)), home)

    def check(self, url: str, field: str) -> None:
        """Raise ConfigError (field) for an address that may not be reached, as far as its text tells; a name
        is looked up when it is connected to."""
        host, port = split_host_and_port(url)
        literal = "127.0.0.1" if host == "localhost" else host
        self._check_places(host, port, [literal] if _parse_address(literal) else [], field)

    def places(self, host: str, port: int, field: str = "address") -> list[str]:
        """The addresses of a host, each of which may be connected to.

        Raises ConfigError (field) where one of them may not, OSError where there is no such name.
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
                what = host if _parse_address(host) else f"{host} is at {place}, which"
                raise ConfigError(f"{what} is {why}.", fix=fix, field=field)

    def _refused(self, host: str, port: int, place: str) -> tuple[str, str] | None:
        """Why a place is not reached, and what to do."""
        address = _parse_address(place)
        if address is None:
            return "no address that is known here", "Give another address."
        if why := _explain_blocked_address(address):
            return why, "Give another address."
        if port in self._own_ports() and (address.is_loopback or _is_local_address(address)):
            return f"Tunebench itself (port {port})", "Give the address of another server."
        if any(address in network for network in self.networks):
            return None
        if address.is_loopback:
            named = host == "localhost" or _parse_address(host) is not None
            return None if named else ("this machine itself", f"Write {address} if that is meant.")
        if address.is_global and not getattr(address, "is_site_local", False):
            return None
        return (
            "an address of a private network, and no admin has allowed that",
            f"An admin allows it, or the network that it is in: tunebench team allow-network {address}",
        )

    def _own_ports(self) -> frozenset[int]:
        """Of the engine and the screens, as they are on record now."""
        ports = set()
        for path in (self.home.engine_file, self.home.screens_file) if self.home else ():
            with suppress(OSError, ValueError):
                if record := read_record(path):
                    ports.add(split_host_and_port(record.address)[1])
        return frozenset(ports)


PUBLIC = AddressPolicy()  # no private network is allowed


def explain_blocked_host(host: str) -> str:
    """Why a host is reached by nobody, as far as its text tells; empty where it may be."""
    if host.removesuffix(".") in METADATA_NAMES:
        return "a service that tells a machine its secrets"
    if "%" in host:
        return "a link-local address"
    address = _parse_address(host)
    if address is not None:
        return _explain_blocked_address(address)
    last = host.rpartition(".")[2]
    if last.isdecimal() or last.startswith("0x"):
        return "an IPv4 address in a spelling that programs read differently"
    return ""


def _explain_blocked_address(address: Address) -> str:
    if address.is_link_local:
        return "a link-local address"
    if address in _METADATA:
        return "a service that tells a machine its secrets"
    no_machine = address != _LOOPBACK6 and any(address in network for network in _NO_MACHINE)
    return "no address of a machine" if address.is_multicast or no_machine else ""


def _parse_address(text: str) -> Address | None:
    """The address that a text is, None for a name. IPv4 within IPv6 (mapped, NAT64) is that IPv4 address."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            return address.ipv4_mapped
        if any(address in network for network in _IN_IPV6):
            return ipaddress.IPv4Address(address.packed[-4:])
    return address


def _is_local_address(address: Address) -> bool:
    """Whether an address is one of this machine's own: one can listen there."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((str(address), 0))
        except OSError:
            return False
    return True
