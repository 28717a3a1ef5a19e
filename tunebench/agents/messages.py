"""Messages of an agent, one per line of standard input; invalid lines get the matching JSON-RPC 2.0 error.

The SDK drops such lines silently, which leaves the sender waiting.
"""

from __future__ import annotations

import os
from typing import Any, BinaryIO, NamedTuple

import anyio
from anyio.to_thread import run_sync
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server
from mcp.types import INVALID_PARAMS, INVALID_REQUEST, PARSE_ERROR, ErrorData, JSONRPCError
from pydantic_core import from_json

MAX_BYTES = 8 * 2**20  # maximum length of a line; a config has a few thousand bytes


class MessageRefusal(NamedTuple):
    """Error response to an invalid line; `id`: of the request, if known."""

    code: int
    message: str
    id: int | str | None = None

    def line(self) -> str:
        """Return the response as a line of JSON."""
        error = ErrorData(code=self.code, message=self.message)
        return JSONRPCError(jsonrpc="2.0", id=self.id, error=error).model_dump_json(exclude_unset=True) + "\n"


def check_message(line: bytes) -> MessageRefusal | None:
    """Return the error of an invalid line, or None.

    A notification gets no response, so one with params of a wrong type is left to the SDK, which drops it.
    """
    if len(line) > MAX_BYTES:
        return MessageRefusal(INVALID_REQUEST, f"The message is longer than {MAX_BYTES // 2**20} MiB.")
    try:
        message = from_json(line, allow_inf_nan=False)
    except ValueError as error:
        return MessageRefusal(PARSE_ERROR, f"The message is not JSON: {error}.")
    if isinstance(message, list):
        return MessageRefusal(INVALID_REQUEST, "Batches are not supported: send one message per line.")
    if not isinstance(message, dict):
        return MessageRefusal(INVALID_REQUEST, "The message is not an object.")
    if "method" not in message and ("result" in message or "error" in message):
        return None  # a response, which gets no response
    own = message.get("id")
    if "id" in message and (isinstance(own, bool) or not isinstance(own, int | str)):
        return MessageRefusal(INVALID_REQUEST, "id is neither a text nor a whole number.")
    if message.get("jsonrpc") != "2.0":
        return MessageRefusal(INVALID_REQUEST, 'jsonrpc is not "2.0".', own)
    if "method" not in message:
        return MessageRefusal(INVALID_REQUEST, "method is missing.", own)
    if not isinstance(message["method"], str):
        return MessageRefusal(INVALID_REQUEST, "method is not a string.", own)
    if "id" in message and not isinstance(message.get("params"), dict | None):
        return MessageRefusal(INVALID_PARAMS, "params is not an object: pass parameters by name.", own)
    return None


class MessageWriter:
    """Standard output as the SDK writes to it, one message at a time, from any task."""

    def __init__(self, wire: BinaryIO) -> None:
        self._wire, self._turn = wire, anyio.Lock()

    async def write(self, text: str) -> None:
        async with self._turn:
            await run_sync(self._send, text.encode())

    async def flush(self) -> None:
        """Do nothing: each message is sent at once."""

    def _send(self, message: bytes) -> None:
        self._wire.write(message)
        self._wire.flush()


class MessageReader:
    """Standard input as the SDK iterates it: the valid lines. Invalid ones get an error response here."""

    def __init__(self, wire: BinaryIO, outgoing: MessageWriter) -> None:
        self._wire, self._outgoing = wire, outgoing

    def __aiter__(self) -> MessageReader:
        return self

    async def __anext__(self) -> str:
        while line := await run_sync(self._read):
            if not line.strip():
                continue
            if (refusal := check_message(line)) is None:
                return line.decode()
            await self._outgoing.write(refusal.line())
        raise StopAsyncIteration

    def _read(self) -> bytes:
        """Read the next line, keeping only as much as shows that it is too long."""
        line = part = self._wire.readline(MAX_BYTES + 1)
        while part and not part.endswith(b"\n"):
            part = self._wire.readline(MAX_BYTES)
        return line


async def serve_lines(server: Server[Any]) -> None:
    """Serve over standard input and output until the input ends.

    Nothing else can read or write these meanwhile: prints go to standard error.
    """
    with open(os.dup(0), "rb") as read, open(os.dup(1), "wb") as write, open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), 0)
        os.dup2(2, 1)
        outgoing = MessageWriter(write)
        files: Any = MessageReader(read, outgoing), outgoing  # the part of AsyncFile that the SDK uses
        async with stdio_server(*files) as (incoming, answers):
            await server.run(incoming, answers, server.create_initialization_options())
