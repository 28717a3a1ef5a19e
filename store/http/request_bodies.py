"""Bodies of requests, up to a limit: what is longer never gets into memory, whatever it says of itself."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator

import anyio
from starlette.requests import ClientDisconnect, Request

from store.core.errors import ConfigError, TooLargeError

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
DRAIN_SECONDS = 5.0  # for a client to get rid of what it is sending; one that is cut off reads no answer


async def read_document(request: Request, limit: int, what: str) -> dict[str, object]:
    """The JSON object that a request brings, `{}` where it brings nothing.

    Raises TooLargeError where its body has more than `limit` bytes (`what` says of what), ConfigError (field
    body) where it is no JSON object of whole characters, and ClientDisconnect where the client is gone.
    """
    body = await _read(request, limit, what)
    try:
        content = json.loads(body or b"{}")
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"The body is not JSON ({error}).", field="body") from error
    if not isinstance(content, dict):
        raise ConfigError("The body is not a JSON object.", field="body")
    if _SURROGATE.search(body) and not _is_encodable(content):
        raise ConfigError("The body holds half of a character (\\ud800 to \\udfff alone).", field="body")
    return content


def _is_encodable(content: object) -> bool:
    """Whether its texts are Unicode: JSON can spell halves of characters, which no file takes."""
    try:
        json.dumps(content, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


async def _read(request: Request, limit: int, what: str) -> bytes:
    stream = request.stream()
    body = bytearray()
    over = get_declared_bytes(request) > limit
    if not over:
        async for chunk in stream:
            over = len(body) + len(chunk) > limit
            if over:
                break
            body += chunk
    if over:
        body.clear()
        await drain(request, stream)
        raise TooLargeError(
            f"The body of {what} is longer than its limit of {limit / 2**20:g} MiB.",
            fix="Send rows as a file, and refer to it by name.",
            field="body",
        )
    return bytes(body)


def get_declared_bytes(request: Request) -> int:
    """What Content-Length says, 0 where it says nothing; it may be untrue."""
    text = request.headers.get("content-length", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else 0


async def drain(request: Request, stream: AsyncIterator[bytes]) -> None:
    """Let the client finish, for a while, so that it reads why its body was refused; nothing is kept.

    A client that waits to be asked for the body (`Expect: 100-continue`) is not asked.
    """
    if "expect" in request.headers:
        return
    with anyio.move_on_after(DRAIN_SECONDS):
        try:
            async for _ in stream:
                pass
        except ClientDisconnect:
            return
