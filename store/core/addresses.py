"""Which addresses nobody's request may go to, as far as their text tells; configs are checked by it too, so
that nothing here looks a name up or reads a file (`store.core.address_policy`).

Nobody reaches link-local addresses (by which clouds tell machines their secrets), services of metadata at
other addresses, multicast, or the ports of Tunebench itself. Loopback is reached by its own name or address,
as most models of one's own are there, and by no other name; private networks where an admin has allowed them.
What counts is the address at which a name is when it is connected to, and that one is connected to.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

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


def split_host_and_port(url: str) -> tuple[str, int]:
    """Of a web address: in small letters, without brackets and a closing dot. Raises ValueError."""
    parts = urlsplit(url)
    host = (parts.hostname or "").removesuffix(".")
    return host, parts.port or _PORTS.get(parts.scheme, 0)


def parse_network(text: str) -> Network:
    """A network, or one address, as a network without bits of a machine. Raises ValueError."""
    return ipaddress.ip_network(text.strip(), strict=False)


def explain_blocked_host(host: str) -> str:
    """Why a host is reached by nobody, as far as its text tells; empty where it may be."""
    if host.removesuffix(".") in METADATA_NAMES:
        return "a service that tells a machine its secrets"
    if "%" in host:
        return "a link-local address"
    address = parse_address(host)
    if address is not None:
        return explain_blocked_address(address)
    last = host.rpartition(".")[2]
    if last.isdecimal() or last.startswith("0x"):
        return "an IPv4 address in a spelling that programs read differently"
    return ""


def explain_blocked_address(address: Address) -> str:
    if address.is_link_local:
        return "a link-local address"
    if address in _METADATA:
        return "a service that tells a machine its secrets"
    no_machine = address != _LOOPBACK6 and any(address in network for network in _NO_MACHINE)
    return "no address of a machine" if address.is_multicast or no_machine else ""


def parse_address(text: str) -> Address | None:
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
