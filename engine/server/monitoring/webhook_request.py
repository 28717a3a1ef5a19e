"""One message to a webhook: signed, bounded in time, and only to where the policy of addresses lets it
(`store.contract.addresses`)."""

from __future__ import annotations

import hashlib
import hmac
import threading
from typing import NamedTuple
from urllib.parse import urlsplit

import httpx

from store.contract.addresses import AddressPolicy
from store.contract.errors import ConfigError
from store.http.outgoing import checked_client

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 10.0  # until the head of an answer; its body is not read
HANG_SECONDS = 15.0  # of all together, however slowly an answer drips
SIGNATURE = "Tunebench-Signature"


class Delivered(NamedTuple):
    """status: of the answer, None where none came. trouble: why it doesn't count, empty where it does."""

    status: int | None
    trouble: str


def signature(secret: str, at: float, body: str) -> str:
    """t=SECONDS,v1=HEX: HMAC-SHA256 of "SECONDS.BODY", so that an old message can't be sent again."""
    stamp = int(at)
    digest = hmac.new(secret.encode(), f"{stamp}.{body}".encode(), hashlib.sha256).hexdigest()
    return f"t={stamp},v1={digest}"


def check_url(url: str, policy: AddressPolicy) -> None:
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
    policy.check(url, "url")


def send(url: str, secret: str, body: str, at: float, policy: AddressPolicy) -> Delivered:
    """Send one message; an answer of 200 to 299 counts. It comes back within HANG_SECONDS."""
    outcome: list[Delivered] = []
    thread = threading.Thread(
        target=lambda: outcome.append(_send(url, secret, body, at, policy)), daemon=True
    )
    thread.start()
    thread.join(HANG_SECONDS)
    return outcome[0] if outcome else Delivered(None, f"No answer within {HANG_SECONDS:.0f} s.")


def _send(url: str, secret: str, body: str, at: float, policy: AddressPolicy) -> Delivered:
    headers = {"Content-Type": "application/json", "User-Agent": "Tunebench"}
    headers[SIGNATURE] = signature(secret, at, body)
    timeout = httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS)
    try:
        check_url(url, policy)
        with (
            checked_client(url, policy, timeout) as client,
            client.stream("POST", url, content=body.encode(), headers=headers) as answer,
        ):
            status = answer.status_code
    except ConfigError as error:
        return Delivered(None, str(error))
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        return Delivered(None, str(error) or type(error).__name__)
    if 200 <= status < 300:
        return Delivered(status, "")
    moved = " It leads elsewhere, which is not followed." if 300 <= status < 400 else ""
    return Delivered(status, f"It answered {status}.{moved}")
