"""`python -m engine.serving.gateway ENDPOINT_DIR`: serve one endpoint until SIGTERM.

One gateway a folder: it holds `gateway.lock` for as long as it lives. `gateway.json` names its process. Exit
codes: 0 asked to stop, 1 it can't start (`state.json` says why), 3 another one serves this folder.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from engine.serving.gateway.app import build
from engine.serving.gateway.backends.backends import COMMAND
from engine.serving.gateway.gateway import Gateway
from engine.serving.gateway.served import GatewayServer, listen
from store.contract.errors import TunebenchError
from store.contract.jobdir import write_json
from store.contract.process_record import hold, raise_descriptor_limit, write_record
from store.http.access import in_url

FAILED, ALREADY = 1, 3


async def _serve(folder: Path, command: Sequence[str]) -> None:
    gateway = Gateway(folder, command)
    host, port = gateway.config["host"], gateway.config["port"]
    listener = listen(host, port)
    gateway.address = f"http://{in_url(host)}:{listener.getsockname()[1]}"
    write_record(folder / "gateway.json", gateway.address, os.getpid())
    server = GatewayServer(build(gateway), gateway)
    await gateway.begin()
    try:
        await server.serve(sockets=[listener])
    finally:
        await gateway.end()


def main(arguments: Sequence[str], command: Sequence[str] = COMMAND) -> int:
    """Serve; the exit code. `command`: what starts a backend, before the path of its spec."""
    folder = Path(arguments[0]).resolve()
    os.umask(0o077)
    raise_descriptor_limit()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    lock = hold(folder / "gateway.lock")
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
