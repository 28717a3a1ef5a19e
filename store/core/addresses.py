"""Addresses that are blocked for every request, as far as their text shows. Configs are validated with this
module too, so nothing here resolves a name or reads a file (see `store.core.address_policy`).

Always blocked: link-local addresses (where clouds serve a machine's secrets), metadata services at other
addresses, multicast, and the ports of Tunebench itself. Loopback is allowed only by its own name or address,
since most users' own models run there. Private networks are allowed if an admin has allowed them. A host name
is judged by the address it resolves to at connect time, and the connection goes to exactly that address.
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
)  # unspecified, reserved, and obsolete tunnels (6to4, Teredo) that can lead to any address
_LOOPBACK6 = ipaddress.IPv6Address("::1")
_PORTS = {"http": 80, "https": 443}


def split_host_and_port(url: str) -> tuple[str, int]:
    """Return host and port of a URL; the host is lowercase, without brackets and trailing dot. Raises
    ValueError.
    """
    parts = urlsplit(url)
    host = (parts.hostname or "").removesuffix(".")
    return host, parts.port or _PORTS.get(parts.scheme, 0)


def parse_network(text: str) -> Network:
    """Parse a network or a single address; host bits are dropped. Raises ValueError."""
    return ipaddress.ip_network(text.strip(), strict=False)


def explain_blocked_host(host: str) -> str:
    """Return why a host is always blocked, as far as its text shows; empty if it may be allowed."""
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
    """Parse an IP address; None for a host name. IPv4 within IPv6 (mapped, NAT64) is returned as IPv4."""
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
