"""HTTP/1.1 to one backend, over a Unix socket or TCP, with connections that are kept.

A client library takes a millisecond a call, most of what the gateway may add; this one does only what an
answer of OpenAI's protocol needs, and gives its bytes as they come.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

from store.contract.addresses import PUBLIC, AddressPolicy
from store.contract.errors import ConfigError

HEAD_BYTES = 64 * 1024
LONGEST = 64 * 2**20  # of one answer
KEPT = 64  # connections
CONNECT_SECONDS = 10.0
_BROKEN = (
    *(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError, EOFError),
    ConfigError,  # its address is refused
)


class BackendBroken(Exception):
    """The backend can't be reached, or broke off."""


class BackendReply:
    """An answer whose status has come; its body is read once, in pieces."""

    def __init__(
        self, client: BackendClient, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._client, self._reader, self._writer = client, reader, writer
        self.status = 0
        self.headers: dict[str, str] = {}
        self._whole = False

    async def read_head(self) -> None:
        """Status and headers."""
        while True:
            head = await self._reader.readuntil(b"\r\n\r\n")
            lines = head.decode("latin-1").split("\r\n")
            self.status = int(lines[0].split(" ", 2)[1])
            if self.status != 100:
                break
        for line in lines[1:]:
            name, colon, value = line.partition(":")
            if colon:
                self.headers[name.strip().lower()] = value.strip()

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body as it comes. Raises BackendBroken where it breaks off."""
        try:
            if "chunked" in self.headers.get("transfer-encoding", "").lower():
                while size := int((await self._reader.readuntil(b"\r\n")).split(b";")[0], 16):
                    yield (await self._reader.readexactly(_bounded(size) + 2))[:-2]
                while await self._reader.readuntil(b"\r\n") != b"\r\n":
                    pass
            elif "content-length" in self.headers:
                if length := _bounded(int(self.headers["content-length"])):
                    yield await self._reader.readexactly(length)
            else:
                self.headers["connection"] = "close"
                while piece := await self._reader.read(65536):
                    yield piece
        except _BROKEN as error:
            raise BackendBroken(f"it broke off ({_reason(error)})") from error
        self._whole = True

    async def body(self) -> bytes:
        """All of it."""
        whole = bytearray()
        async for piece in self.pieces():
            whole += piece
            _bounded(len(whole))
        return bytes(whole)

    def close(self) -> None:
        """Keep the connection where the body was read to its end, else cut it, so that the backend stops."""
        if self._whole and self.headers.get("connection", "").lower() != "close":
            self._client.keep(self._reader, self._writer)
        else:
            self._writer.close()


def _bounded(size: int) -> int:
    if size > LONGEST:
        raise BackendBroken(f"its answer is longer than {LONGEST // 2**20} MiB")
    return size


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


class BackendClient:
    """Requests to one backend: at a socket's path, or at a URL whose path is put before that of each
    request."""

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
        """Ask, and wait for the answer's head. Raises BackendBroken. Close the reply."""
        head = f"{method} {self._prefix}{path} {self._head}Content-Length: {len(body)}\r\n\r\n"
        while True:
            kept = bool(self._idle)
            try:
                reader, writer = self._idle.pop() if kept else await self._connect()
            except _BROKEN as error:
                raise BackendBroken(f"it can't be reached ({_reason(error)})") from error
            reply = BackendReply(self, reader, writer)
            try:
                writer.write(head.encode("latin-1") + body)
                await reply.read_head()
                return reply
            except _BROKEN as error:
                writer.close()
                if not kept:  # a kept one may have been closed by the backend meanwhile
                    raise BackendBroken(f"it broke off ({_reason(error)})") from error
            except BaseException:  # cancelled: the backend is to stop
                writer.close()
                raise

    async def document(self, method: str, path: str) -> Any:
        """A JSON answer of status 200. Raises BackendBroken."""
        reply = await self.send(method, path)
        try:
            content = await reply.body()
        finally:
            reply.close()
        if reply.status != 200:
            raise BackendBroken(f"{path} answered with status {reply.status}")
        try:
            return json.loads(content)
        except ValueError as error:
            raise BackendBroken(f"{path} gave no JSON") from error

    def keep(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """For the next request."""
        if len(self._idle) < KEPT and not writer.is_closing() and not self._closed:
            self._idle.append((reader, writer))
        else:
            writer.close()

    def close(self) -> None:
        """Let go of the kept connections, and keep none any more."""
        self._closed = True
        while self._idle:
            self._idle.pop()[1].close()

    def without_key(self, text: str) -> str:
        """What a server says, without the key that it was sent."""
        return text.replace(self._key, "[KEY]") if self._key else text

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        async with asyncio.timeout(CONNECT_SECONDS):
            if self._socket:
                return await asyncio.open_unix_connection(self._socket, limit=HEAD_BYTES)
            places = await asyncio.to_thread(self._policy.places, self._host, self._port)
            for place in places[:-1]:
                with contextlib.suppress(OSError):
                    return await self._open(place)
            return await self._open(places[-1])

    async def _open(self, place: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to the very address that was checked; its certificate has to be of the name."""
        if not self._tls:
            return await asyncio.open_connection(place, self._port, limit=HEAD_BYTES)
        return await asyncio.open_connection(
            place,
            self._port,
            limit=HEAD_BYTES,
            ssl=ssl.create_default_context(),
            server_hostname=self._host,
        )
