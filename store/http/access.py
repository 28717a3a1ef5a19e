"""Access control of screens and engine: accepted host names, secret files that only this user can read, and
generated secrets, stored as SHA-256 only.

Screens and engine listen on loopback. That excludes other machines, but neither a web page whose own name
is made to resolve to 127.0.0.1 (DNS rebinding), nor other accounts on this machine. The former is detected
by the names in Host and Origin, the latter by a secret: the engine's token, and the one in the screens'
address.
"""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import os
import re
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from store.core.errors import ConfigError

PARAMETER = "secret"  # query parameter of the screens' address
SESSION_HEADER = "Tunebench-Session"  # header in which the screens pass on the requester's session
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]{1,5})?", re.ASCII)
_NAME = re.compile(r"(?=.{1,253}$)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*", re.ASCII)


class HostNames:
    """Host names that a server accepts: those of loopback, and those given by its user (`--allow-host`)."""

    def __init__(self, allowed: Iterable[str] = ()) -> None:
        """Raises ConfigError (field allow_host) for an invalid host name."""
        self._allowed = frozenset(_check_allowed_host(name) for name in allowed)

    def problem(self, scope: Any) -> str:
        """Return why a request (an ASGI scope) is rejected, as a sentence; empty if its names are accepted.

        Pages of other servers on this machine are rejected too: an origin on loopback has to equal the
        requested address, including its port.
        """
        hosts = [value.decode("latin-1").lower() for key, value in scope["headers"] if key == b"host"]
        origins = [value.decode("latin-1").lower() for key, value in scope["headers"] if key == b"origin"]
        if len(hosts) != 1 or not self._answers_to(_parse_host_header(hosts[0])):
            return (
                "Tunebench answers to loopback names alone, such as 127.0.0.1 and localhost. To reach it by "
                "another name, start it with --allow-host NAME."
            )
        if any(not self._takes(origin, hosts[0]) for origin in origins):
            return "Tunebench rejects requests from pages of other sites."
        return ""

    def _answers_to(self, name: str) -> bool:
        return is_loopback(name) or name in self._allowed

    def _takes(self, origin: str, host: str) -> bool:
        try:
            parts = urlsplit(origin)
        except ValueError:
            return False
        if parts.scheme not in ("http", "https") or origin != f"{parts.scheme}://{parts.netloc}":
            return False
        return parts.netloc == host or _parse_host_header(parts.netloc) in self._allowed


def parse_address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the IP address in a host name, with or without brackets; None for a name. An IPv4-mapped IPv6
    address, as reported by a dual-stack socket, is returned as IPv4.
    """
    try:
        address = ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def normalise_host(name: str) -> str:
    """Return a name unchanged, and an address in canonical form without brackets."""
    return str(parse_address(name) or name)


def is_loopback(name: str) -> bool:
    """Return whether a host name, without a port, is this machine's loopback interface."""
    address = parse_address(name)
    return name == "localhost" if address is None else address.is_loopback


def format_url_host(host: str) -> str:
    """Format a host name or address for a URL: IPv6 in brackets."""
    return f"[{host}]" if ":" in host else host


def _parse_host_header(host: str) -> str:
    """Return the lowercase name in a Host header, or the address as in `normalise_host`; empty if the header
    is not `name` or `name:port`.
    """
    match = _HOST.fullmatch(host.lower())
    return normalise_host(match[1]) if match else ""


def _check_allowed_host(name: str) -> str:
    plain = normalise_host(name.strip().lower())
    if parse_address(plain) is None and not _NAME.fullmatch(plain):
        raise ConfigError(
            f"--allow-host is {name!r}, which is not a host name.",
            fix="Give a name alone, such as lab.example.org: no http://, no port, no *.",
            field="allow_host",
        )
    return plain


def read_secret(path: Path) -> str:
    """Return the secret in a file, which is created if missing, and make the file readable by this user only.

    Raises ConfigError (field TUNEBENCH_HOME) if the file can't be read, written or made private.
    """
    try:
        if not _read_secret_file(path):
            _create_secret_file(path)
        os.chmod(path, 0o600)
        return _read_secret_file(path)
    except OSError as error:
        raise ConfigError(
            f"{path} can't be made private to this user ({error.strerror}).",
            fix="Set TUNEBENCH_HOME to a folder that you own, or remove the file.",
            field="TUNEBENCH_HOME",
        ) from error


def _create_secret_file(path: Path) -> None:
    """Write a new secret atomically; one created by another process in the meantime is kept."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.unlink(missing_ok=True)
    try:
        with open(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
        if path.exists():  # but is empty
            os.replace(aside, path)
        else:
            with contextlib.suppress(FileExistsError):
                os.link(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def _read_secret_file(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (FileNotFoundError, UnicodeDecodeError):
        return ""


def build_screen_url(address: str, secret: str, path: str = "/") -> str:
    """Return the address of a screen with the secret that opens it, for a browser without the cookie."""
    return f"{address}{path}{'&' if '?' in path else '?'}{urlencode({PARAMETER: secret})}"


API_TOKEN = "tb_"  # prefix of API tokens, so that a leaked one in a file is recognizable


def create_secret() -> str:
    """Return 256 random bits as text for URLs and cookies."""
    return secrets.token_urlsafe(32)


def hash_secret(secret: str) -> str:
    """Return the hash that is stored for a secret."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
