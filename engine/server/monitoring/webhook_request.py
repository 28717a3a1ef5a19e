"""One message to a webhook: signed, bounded in time, and only to where an address of somebody else's may
lead.

The name is looked up once and the very address that was checked is asked, so that no second lookup can lead
elsewhere. Link-local addresses (by which clouds tell machines their secrets), multicast and the unspecified
one are refused, redirects are not followed, and no proxy of the environment is asked.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import socket
import threading
from typing import NamedTuple
from urllib.parse import urlsplit, urlunsplit

import httpx

from store.contract.errors import ConfigError

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 10.0  # until the head of an answer; its body is not read
HANG_SECONDS = 15.0  # of all together, however slowly an answer drips
SIGNATURE = "Tunebench-Signature"


class Delivered(NamedTuple):
    """status: of the answer, None where none came. trouble: why it doesn't count, empty where it does."""

    status: int | None
    trouble: str


class _Target(NamedTuple):
    url: str  # with the address in place of the name
    host: str  # as the header says it
    name: str  # for the certificate


def signature(secret: str, at: float, body: str) -> str:
    """t=SECONDS,v1=HEX: HMAC-SHA256 of "SECONDS.BODY", so that an old message can't be sent again."""
    stamp = int(at)
    digest = hmac.new(secret.encode(), f"{stamp}.{body}".encode(), hashlib.sha256).hexdigest()
    return f"t={stamp},v1={digest}"


def check_url(url: str) -> None:
    """Raise ConfigError (url) for what can't be a webhook; names are looked up when something is sent."""
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = -1
    if parts.scheme not in ("http", "https") or not parts.hostname or port == -1:
        raise ConfigError(
            f"{url!r} is no address of a webhook.",
            fix="Give an address that begins with https://.",
            field="url",
        )
    if parts.username or parts.password:
        raise ConfigError(
            "The address holds a user's name or password.", fix="Use the secret to sign instead.", field="url"
        )
    try:
        address = ipaddress.ip_address(parts.hostname)
    except ValueError:
        return
    if why := _refused(address):
        raise ConfigError(f"{address} is {why}.", fix="Give another address.", field="url")


def send(url: str, secret: str, body: str, at: float) -> Delivered:
    """Send one message; an answer of 200 to 299 counts. It comes back within HANG_SECONDS."""
    outcome: list[Delivered] = []
    thread = threading.Thread(target=lambda: outcome.append(_send(url, secret, body, at)), daemon=True)
    thread.start()
    thread.join(HANG_SECONDS)
    return outcome[0] if outcome else Delivered(None, f"No answer within {HANG_SECONDS:.0f} s.")


def _send(url: str, secret: str, body: str, at: float) -> Delivered:
    try:
        target = _target(url)
    except (ConfigError, OSError) as error:
        return Delivered(None, str(error))
    headers = {"Host": target.host, "Content-Type": "application/json", "User-Agent": "Tunebench"}
    headers[SIGNATURE] = signature(secret, at, body)
    timeout = httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS)
    try:
        with (
            httpx.Client(timeout=timeout, follow_redirects=False, trust_env=False) as client,
            client.stream(
                "POST",
                target.url,
                content=body.encode(),
                headers=headers,
                extensions={"sni_hostname": target.name},
            ) as answer,
        ):
            status = answer.status_code
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        return Delivered(None, str(error) or type(error).__name__)
    if 200 <= status < 300:
        return Delivered(status, "")
    moved = " It leads elsewhere, which is not followed." if 300 <= status < 400 else ""
    return Delivered(status, f"It answered {status}.{moved}")


def _target(url: str) -> _Target:
    """Where the message goes. Raises ConfigError for an address that is refused, OSError for no such name."""
    check_url(url)
    parts = urlsplit(url)
    name = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    places = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    for *_, place in places:
        address = ipaddress.ip_address(str(place[0]).partition("%")[0])
        if why := _refused(address):
            raise ConfigError(f"{name} is at {address}, which is {why}.", field="url")
    address = ipaddress.ip_address(str(places[0][4][0]).partition("%")[0])
    host = f"[{address}]" if address.version == 6 else str(address)
    return _Target(
        urlunsplit((parts.scheme, f"{host}:{port}", parts.path or "/", parts.query, "")), parts.netloc, name
    )


def _refused(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    """Why nothing is sent there; empty where it may be."""
    inner = getattr(address, "ipv4_mapped", None) or address
    if inner.is_link_local:
        return "a link-local address"
    if inner.is_multicast or inner.is_unspecified:
        return "no address of a machine"
    return ""
