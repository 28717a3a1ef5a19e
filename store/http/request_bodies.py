"""Request bodies with a size limit: longer ones are never read into memory, whatever their headers say."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator

import anyio
from starlette.requests import ClientDisconnect, Request

from store.core.errors import ConfigError, TooLargeError

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
DRAIN_SECONDS = 5.0  # for a client to finish sending; one that is cut off does not read the response


async def read_document(request: Request, limit: int, what: str) -> dict[str, object]:
    """Return the JSON object in a request's body, `{}` if the body is empty.

    Raises TooLargeError if the body has more than `limit` bytes (`what` names it in the message),
    ConfigError (field body) if it is not a JSON object of valid Unicode, and ClientDisconnect if the
    client has disconnected.
    """
    body = await _read(request, limit, what)
    try:
        content = json.loads(body or b"{}")
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"The body is not JSON ({error}).", field="body") from error
    if not isinstance(content, dict):
        raise ConfigError("The body is not a JSON object.", field="body")
    if _SURROGATE.search(body) and not _is_encodable(content):
        raise ConfigError("The body contains an unpaired surrogate (\\ud800 to \\udfff).", field="body")
    return content


def _is_encodable(content: object) -> bool:
    """Return whether all texts are valid Unicode: JSON can contain unpaired surrogates, which no file can
    store.
    """
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
    """Return Content-Length, 0 if missing; it may be wrong."""
    text = request.headers.get("content-length", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else 0


async def drain(request: Request, stream: AsyncIterator[bytes]) -> None:
    """Read and discard the rest of the body for a while, so that the client gets to read the error response.

    A client that waits for permission to send the body (`Expect: 100-continue`) does not get it.
    """
    if "expect" in request.headers:
        return
    with anyio.move_on_after(DRAIN_SECONDS):
        try:
            async for _ in stream:
                pass
        except ClientDisconnect:
            return
