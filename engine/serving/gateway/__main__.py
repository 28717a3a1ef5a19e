"""`python -m engine.serving.gateway ENDPOINT_DIR`: serve one endpoint until SIGTERM.

There is one gateway per folder: it holds `gateway.lock` while it runs, and `gateway.json` records its
process. The server is uvicorn, with time limits against deliberately slow clients. Exit codes: 0 asked to
stop, 1 it can't start (`failed.json` says why), 3 another gateway serves this folder.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol

from engine.serving.gateway.app import build
from engine.serving.gateway.backend_processes import COMMAND
from engine.serving.gateway.gateway import Gateway
from store.core.errors import ConfigError, TunebenchError
from store.core.job_folder import write_json
from store.core.processes import acquire_lock, raise_descriptor_limit, write_record
from store.http.access import format_url_host

HEAD_SECONDS = 15.0  # from the connection, or the previous response, to the end of a request's head
MAX_CONNECTIONS = 2048  # concurrent; further ones are closed
BACKLOG = 512


class TimedProtocol(H11Protocol):
    """Protocol that closes connections without a complete request head in time.

    Each of them would otherwise occupy a slot forever.
    """

    open_connections = 0
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        TimedProtocol.open_connections += 1
        if TimedProtocol.open_connections > MAX_CONNECTIONS:
            transport.close()
            return
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self._close_if_idle)

    def connection_lost(self, exc: Exception | None) -> None:
        TimedProtocol.open_connections -= 1
        self._stop_timer()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        super().handle_events()
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_timer()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._stop_timer()
        if not self.transport.is_closing():  # uvicorn counts a slowly arriving next head as activity
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self._close_if_idle)

    def _close_if_idle(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()

    def _stop_timer(self) -> None:
        if self._head_timer:
            self._head_timer.cancel()
        self._head_timer = None


class GatewayServer(uvicorn.Server):
    """Server that on shutdown finishes the requests in progress and answers new ones with 503."""

    def __init__(self, app: Starlette, gateway: Gateway) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=TimedProtocol,
                ws="none",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_keep_alive=int(HEAD_SECONDS),
                timeout_graceful_shutdown=1,  # after the drain, for idle connections
                h11_max_incomplete_event_size=64 * 1024,
            )
        )
        self._gateway = gateway
        self._stopping = False
        self._drains: list[asyncio.Task[None]] = []  # references: the event loop keeps only weak ones

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Drain on the first signal, and exit immediately on the second."""
        if self._stopping:
            self.should_exit = self.force_exit = True
            return
        self._stopping = True
        loop = asyncio.get_running_loop()
        loop.call_soon_threadsafe(lambda: self._drains.append(loop.create_task(self._drain_and_exit())))

    async def _drain_and_exit(self) -> None:
        with contextlib.suppress(Exception):
            await self._gateway.drain()
        self.should_exit = True


def listen(host: str, port: int) -> socket.socket:
    """Open the listening socket. Raises ConfigError (field port) if the address is unavailable."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(
        family, socket.SOCK_STREAM, socket.IPPROTO_TCP
    )  # explicit TCP, for which asyncio sets TCP_NODELAY
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"{host}:{port} can't be listened on ({error.strerror}).",
            fix="Give the endpoint another port.",
            field="port",
        ) from error
    return listener


FAILED, ALREADY = 1, 3


async def _serve(folder: Path, command: Sequence[str]) -> None:
    gateway = Gateway(folder, command)
    host, port = gateway.config.host, gateway.config.port
    listener = listen(host, port)
    gateway.address = f"http://{format_url_host(host)}:{listener.getsockname()[1]}"
    write_record(folder / "gateway.json", gateway.address, os.getpid())
    server = GatewayServer(build(gateway), gateway)
    await gateway.start()
    try:
        await server.serve(sockets=[listener])
    finally:
        await gateway.stop()


def main(arguments: Sequence[str], command: Sequence[str] = COMMAND) -> int:
    """Serve, and return the exit code. `command`: starts a backend, given the path of its spec."""
    folder = Path(arguments[0]).resolve()
    os.umask(0o077)
    raise_descriptor_limit()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    lock = acquire_lock(folder / "gateway.lock")
    if lock is None:
        print(f"Another gateway serves {folder}.", file=sys.stderr)
        return ALREADY
    with lock:
        try:
            asyncio.run(_serve(folder, command))
        except TunebenchError as error:
            print(error, file=sys.stderr)
            write_json(folder / "failed.json", {"at": time.time(), "error": error.to_dict()})
            return FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
