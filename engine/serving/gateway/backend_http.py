"""HTTP/1.1 client for one backend, over a Unix socket or TCP, with persistent connections.

A general client library takes a millisecond per call, most of the gateway's latency budget; this one
implements only what the OpenAI API needs, and yields bytes as they arrive. A remote backend may send
anything: all of it has a limit, and a response in many small pieces doesn't hold up others.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

from store.core.address_policy import PUBLIC, AddressPolicy
from store.core.errors import ConfigError

HEAD_BYTES = 64 * 1024
MAX_STREAM_BYTES = 64 * 2**20
MAX_ANSWER_BYTES = 16 * 2**20  # for a single document: 8,192 tokens with 20 alternatives each
MAX_ERROR_BYTES = 2**20  # for an error response
MAX_PIECES = 2**21
MAX_INTERIM, MAX_TRAILERS = 8, 64  # interim responses before the final one, trailer lines after it
PIECE_BYTES = 64 * 1024
TURN_PIECES = 32  # pieces after which other tasks of the event loop get a turn
MAX_IDLE_CONNECTIONS = 64  # connections
CONNECT_SECONDS = 10.0
_CONNECTION_ERRORS = (
    *(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError, EOFError),
    ConfigError,  # the policy rejects its address
)


class BackendConnectionError(Exception):
    """Raised if the backend can't be reached, or the connection breaks."""


class BackendReply:
    """A response whose status was received; its body can be read once, in pieces."""

    def __init__(
        self, client: BackendClient, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._client, self._reader, self._writer = client, reader, writer
        self.status = 0
        self.headers: dict[str, str] = {}
        self._complete = False

    async def read_head(self) -> None:
        """Read status and headers. Raises BackendConnectionError for an invalid response.

        That includes redirects, which aren't followed: the address policy only checked the given address.
        """
        for _ in range(MAX_INTERIM + 1):
            head = await self._reader.readuntil(b"\r\n\r\n")
            status, *lines = head.decode("latin-1").split("\r\n")
            self.status = _parse_status(status)
            if self.status >= 200:
                break
        if self.status != 200 and not 400 <= self.status < 600:
            raise BackendConnectionError(
                f"it answered with status {self.status}, neither an answer nor an error"
            )
        for line in lines:
            name, colon, value = line.partition(":")
            if colon:
                self.headers[name.strip().lower()] = value.strip()

    async def iterate_pieces(self, limit: int = MAX_STREAM_BYTES) -> AsyncIterator[bytes]:
        """Yield the body as it arrives.

        Raises BackendConnectionError if it breaks off or is longer than `limit`.
        """
        size, count = 0, 0
        try:
            async for piece in self._read_frames():
                size, count = size + len(piece), count + 1
                if size > limit:
                    raise BackendConnectionError(f"its answer is longer than {limit // 2**20} MiB")
                if count > MAX_PIECES:
                    raise BackendConnectionError(f"its answer came in more than {MAX_PIECES:,} pieces")
                yield piece
                if count % TURN_PIECES == 0:
                    await asyncio.sleep(0)
        except _CONNECTION_ERRORS as error:
            raise BackendConnectionError(f"it broke off ({_describe_error(error)})") from error
        self._complete = True

    async def _read_frames(self) -> AsyncIterator[bytes]:
        """Yield the body up to the end that its headers define."""
        if "chunked" in self.headers.get("transfer-encoding", "").lower():
            while size := int((await self._reader.readuntil(b"\r\n")).split(b";")[0], 16):
                async for piece in self._read_exactly(size):
                    yield piece
                await self._reader.readexactly(2)
            for _ in range(MAX_TRAILERS):
                if await self._reader.readuntil(b"\r\n") == b"\r\n":
                    return
            raise ValueError(f"more than {MAX_TRAILERS} headers after the answer")
        if "content-length" in self.headers:
            async for piece in self._read_exactly(int(self.headers["content-length"])):
                yield piece
            return
        self.headers["connection"] = "close"
        while piece := await self._reader.read(PIECE_BYTES):
            yield piece

    async def _read_exactly(self, size: int) -> AsyncIterator[bytes]:
        if size < 0:
            raise ValueError(f"a length of {size}")
        while size:
            piece = await self._reader.read(min(size, PIECE_BYTES))
            if not piece:
                raise EOFError(f"{size} bytes are missing")
            size -= len(piece)
            yield piece

    async def read_body(self, limit: int = MAX_ANSWER_BYTES) -> bytes:
        """Read the whole body. Raises BackendConnectionError."""
        content = bytearray()
        async for piece in self.iterate_pieces(limit):
            content += piece
        return bytes(content)

    def close(self) -> None:
        """Keep the connection if the body was read completely; otherwise close it to stop the backend."""
        if self._complete and self.headers.get("connection", "").lower() != "close":
            self._client.release(self._reader, self._writer)
        else:
            self._writer.close()


def _parse_status(line: str) -> int:
    """Parse the status line. Raises BackendConnectionError."""
    protocol, _, rest = line.partition(" ")
    status = rest[:3]
    if not (protocol.startswith("HTTP/1.") and status.isascii() and status.isdigit()):
        raise BackendConnectionError("its response is not HTTP/1.1")
    return int(status)


def _describe_error(error: Exception) -> str:
    return str(error) or type(error).__name__


class BackendClient:
    """Client for one backend: at a Unix socket, or at a URL whose path prefixes each request's path."""

    def __init__(
        self,
        *,
        socket: str | None = None,
        url: str | None = None,
        key: str | None = None,
        policy: AddressPolicy = PUBLIC,
    ) -> None:
        self._socket, self._key, self._policy = socket, key, policy
        self._closed = False
        parts = urlsplit(url or "http://backend")
        self._host, self._tls = parts.hostname or "", parts.scheme == "https"
        self._port = parts.port or (443 if self._tls else 80)
        self._prefix = parts.path.rstrip("/").removesuffix("/v1")
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        authority = parts.netloc or "backend"
        self._head = f"HTTP/1.1\r\nHost: {authority}\r\nContent-Type: application/json\r\n"
        if key:
            self._head += f"Authorization: Bearer {key}\r\n"

    async def send(self, method: str, path: str, body: bytes = b"") -> BackendReply:
        """Send a request and wait for the response's head.

        Raises BackendConnectionError. The caller has to close the reply.
        """
        head = f"{method} {self._prefix}{path} {self._head}Content-Length: {len(body)}\r\n\r\n"
        while True:
            reused = bool(self._idle)
            try:
                reader, writer = self._idle.pop() if reused else await self._connect()
            except _CONNECTION_ERRORS as error:
                raise BackendConnectionError(f"it can't be reached ({_describe_error(error)})") from error
            reply = BackendReply(self, reader, writer)
            try:
                writer.write(head.encode("latin-1") + body)
                await reply.read_head()
                return reply
            except _CONNECTION_ERRORS as error:
                writer.close()
                if not reused:  # the backend may have closed a kept connection: retry
                    raise BackendConnectionError(f"it broke off ({_describe_error(error)})") from error
            except BaseException:  # cancelled: the backend should stop
                writer.close()
                raise

    async def probe(self) -> None:
        """Connect and disconnect. Raises BackendConnectionError."""
        try:
            _, writer = await self._connect()
        except _CONNECTION_ERRORS as error:
            raise BackendConnectionError(f"it can't be reached ({_describe_error(error)})") from error
        writer.close()

    async def fetch_document(self, method: str, path: str) -> Any:
        """Return a JSON response with status 200. Raises BackendConnectionError."""
        reply = await self.send(method, path)
        try:
            content = await reply.read_body()
        finally:
            reply.close()
        if reply.status != 200:
            raise BackendConnectionError(f"{path} answered with status {reply.status}")
        try:
            return json.loads(content)
        except ValueError as error:
            raise BackendConnectionError(f"{path} gave no JSON") from error

    def release(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Keep the connection for the next request."""
        if len(self._idle) < MAX_IDLE_CONNECTIONS and not writer.is_closing() and not self._closed:
            self._idle.append((reader, writer))
        else:
            writer.close()

    def close(self) -> None:
        """Close the idle connections, and keep no more."""
        self._closed = True
        while self._idle:
            self._idle.pop()[1].close()

    def mask_key(self, text: str) -> str:
        """Mask the API key in a server's message."""
        return text.replace(self._key, "[KEY]") if self._key else text

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        async with asyncio.timeout(CONNECT_SECONDS):
            if self._socket:
                return await asyncio.open_unix_connection(self._socket, limit=HEAD_BYTES)
            addresses = await asyncio.to_thread(self._policy.places, self._host, self._port)
            for address in addresses[:-1]:
                with contextlib.suppress(OSError):
                    return await self._open(address)
            return await self._open(addresses[-1])

    async def _open(self, address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to exactly the address that was checked; the certificate must match the host name."""
        if not self._tls:
            return await asyncio.open_connection(address, self._port, limit=HEAD_BYTES)
        return await asyncio.open_connection(
            address,
            self._port,
            limit=HEAD_BYTES,
            ssl=ssl.create_default_context(),
            server_hostname=self._host,
        )
