"""Who may ask screens and engine: the names they answer to, secrets that this user alone may read, and
secrets of our own making, kept as their SHA-256 alone.
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

# Who may ask screens and engine: the names they answer to, and secrets that this user alone can read.
#
# Both listen on loopback. That keeps other machines out, but neither a web page, whose own name may be made
# to resolve to 127.0.0.1 (DNS rebinding), nor the other accounts of this machine. The first is told by the
# names in Host and Origin, the others by a secret: the engine's token, and the one in the screens' address.

PARAMETER = "secret"  # of the address
SESSION_HEADER = "Tunebench-Session"  # by which the screens pass on who asks
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]{1,5})?", re.ASCII)
_NAME = re.compile(r"(?=.{1,253}$)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*", re.ASCII)


class HostNames:
    """The host names that a server answers to: loopback's, and those that its user gave (`--allow-host`)."""

    def __init__(self, allowed: Iterable[str] = ()) -> None:
        """Raises ConfigError (field allow_host) for what is no host name."""
        self._allowed = frozenset(_check_allowed_host(name) for name in allowed)

    def problem(self, scope: Any) -> str:
        """Why a request (an ASGI scope) is not let in, as a sentence; empty where its names are good.

        A page of another server on this machine is not let in either: an origin on loopback has to be the
        address that was asked, its port included.
        """
        hosts = [value.decode("latin-1").lower() for key, value in scope["headers"] if key == b"host"]
        origins = [value.decode("latin-1").lower() for key, value in scope["headers"] if key == b"origin"]
        if len(hosts) != 1 or not self._answers_to(_parse_host_header(hosts[0])):
            return (
                "Tunebench answers to loopback names alone, such as 127.0.0.1 and localhost. To reach it by "
                "another name, start it with --allow-host NAME."
            )
        if any(not self._takes(origin, hosts[0]) for origin in origins):
            return "Tunebench takes nothing that a page of another site asks for."
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
    """The IP address that a host name is, with brackets or without; None for a name. An IPv4 address that is
    written as IPv6, as a socket for both tells of whom it hears, is that IPv4 address."""
    try:
        address = ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def normalise_host(name: str) -> str:
    """A name as it is; an address in its one spelling, without brackets."""
    return str(parse_address(name) or name)


def is_loopback(name: str) -> bool:
    """Whether a host name, without a port, is this machine's loopback interface."""
    address = parse_address(name)
    return name == "localhost" if address is None else address.is_loopback


def format_url_host(host: str) -> str:
    """A name or address as it stands in an address of the web: IPv6 in brackets."""
    return f"[{host}]" if ":" in host else host


def _parse_host_header(host: str) -> str:
    """The name in a Host header, in small letters, or the address as `normalise_host` writes it; empty
    where the
    header is not `name` or `name:port`."""
    match = _HOST.fullmatch(host.lower())
    return normalise_host(match[1]) if match else ""


def _check_allowed_host(name: str) -> str:
    plain = normalise_host(name.strip().lower())
    if parse_address(plain) is None and not _NAME.fullmatch(plain):
        raise ConfigError(
            f"--allow-host is {name!r}, which is no host name.",
            fix="Give a name alone, such as lab.example.org: no http://, no port, no *.",
            field="allow_host",
        )
    return plain


def read_secret(path: Path) -> str:
    """The secret in a file, which is made where there is none; readable by this user alone from now on.

    Raises ConfigError (field TUNEBENCH_HOME) where the file can't be read, written or closed to others.
    """
    try:
        if not _read_secret_file(path):
            _create_secret_file(path)
        os.chmod(path, 0o600)
        return _read_secret_file(path)
    except OSError as error:
        raise ConfigError(
            f"{path} can't be kept for this user alone ({error.strerror}).",
            fix="Set TUNEBENCH_HOME to a folder that you own, or remove the file.",
            field="TUNEBENCH_HOME",
        ) from error


def _create_secret_file(path: Path) -> None:
    """Write a new secret, whole before it gets its name; one that another process made meanwhile stays."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.unlink(missing_ok=True)
    try:
        with open(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
        if path.exists():  # and holds nothing
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
    """The address of a screen with the secret that opens it: what a browser without the cookie is given."""
    return f"{address}{path}{'&' if '?' in path else '?'}{urlencode({PARAMETER: secret})}"


API_TOKEN = "tb_"  # what API tokens begin with, so that one in a file is recognised as what it is


def create_secret() -> str:
    """256 random bits as text for addresses and cookies."""
    return secrets.token_urlsafe(32)


def hash_secret(secret: str) -> str:
    """What is kept of a secret."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
