"""`python -m engine.serving.backend SPEC.json`: run one backend of an endpoint on its own Unix socket.

It writes `ready.json` beside the spec once it accepts requests, or `failed.json` with the error before
exiting with code 1. On SIGTERM it shuts down gracefully: no new connections, requests in progress are
finished. If its parent process is gone, for whatever reason, it exits immediately.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

import psutil
import uvicorn

from engine.serving.protocol.app import Answerer, build
from engine.worker.process import describe_error
from store.core.documents import parse_document
from store.core.errors import ConfigError, StateError
from store.core.home import Home
from store.core.job_folder import write_json
from store.core.processes import ProcessRecord, get_process_start
from store.core.version_folders import check_sealed
from store.serving.backend_config import BackendConfig
from store.serving.schemas import BackendReady, BackendSpec

POLL_SECONDS = 0.5  # between checks for the parent process
FAILED = 1


def read_spec(path: Path) -> BackendSpec:
    """Read the spec. Raises ConfigError, naming the field, if it is invalid."""
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} can't be read: {error}.", field="spec") from error
    return parse_document(BackendSpec, BackendConfig.parse(document).model_dump())


def exit_with_parent(pid: int, path: str) -> None:
    """Exit this process once the parent is gone. Raises StateError if it is gone already."""
    try:
        parent = ProcessRecord("", pid, get_process_start(pid))
    except psutil.NoSuchProcess as error:
        raise StateError(f"The process {pid}, which owns this backend, is gone.") from error

    def watch() -> None:
        while parent.process() is not None:
            time.sleep(POLL_SECONDS)
        with contextlib.suppress(OSError):
            os.unlink(path)
        os._exit(FAILED)  # no pending work is needed any more

    threading.Thread(target=watch, name="parent", daemon=True).start()


def check_registered(spec: BackendSpec) -> None:
    """Raise ModelError if files of a registered version differ from those that were registered."""
    registry = Home(spec["home"]).registry.resolve()
    sources = [spec["model"], *(adapter.folder for adapter in spec["adapters"])]
    paths = [Path(path).resolve() for path in sources if Path(path).is_absolute()]
    roots = {
        registry.joinpath(*path.relative_to(registry).parts[:2])
        for path in paths
        if path.is_relative_to(registry)
    }
    for root in sorted(roots):
        check_sealed(root)


def open_engine(spec: BackendSpec) -> Answerer:
    """Load the spec's model and return its engine. Raises whatever loading raises."""
    check_registered(spec)
    if spec["engine"] == "llama.cpp":
        from engine.serving.llama_backend import LlamaAnswerer

        return LlamaAnswerer(spec)
    from engine.serving.torch_backend.answering import load_answerer

    return load_answerer(spec)


class BackendServer(uvicorn.Server):
    """Server that shuts down gracefully on SIGTERM and Ctrl-C, with exit code 0."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Replace uvicorn's own handling, which raises the signal again at the end."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._request_exit)
        yield

    def _request_exit(self) -> None:
        self.should_exit = True


def bind_unix_socket(path: str) -> socket.socket:
    """Bind a Unix socket at the path, accessible to this user only."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    previous_umask = os.umask(0o177)
    try:
        listener.bind(path)
    finally:
        os.umask(previous_umask)
    listener.listen(256)
    return listener


def serve(spec: BackendSpec, ready: Path) -> None:
    """Load the model, report readiness, and serve until asked to stop."""
    started = time.monotonic()
    exit_with_parent(spec["parent"], spec["socket"])
    engine = open_engine(spec)
    listener = bind_unix_socket(spec["socket"])
    report: BackendReady = {
        "pid": os.getpid(),
        "seconds": time.monotonic() - started,
        "capabilities": engine.capabilities,
    }
    config = uvicorn.Config(build(engine), log_level="warning", access_log=False, lifespan="off")
    write_json(ready, report)
    try:
        asyncio.run(BackendServer(config).serve(sockets=[listener]))
    finally:
        with contextlib.suppress(OSError):
            os.unlink(spec["socket"])


def main(argv: list[str]) -> int:
    """Run the backend; return 0 if asked to stop, 1 if it couldn't start."""
    os.environ.setdefault(
        "GOMP_SPINCOUNT", "1000"
    )  # must precede importing torch: otherwise other work takes ten times as long
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    path = Path(argv[0])
    ready, failed = path.with_name("ready.json"), path.with_name("failed.json")
    for outdated in (ready, failed):
        outdated.unlink(missing_ok=True)
    try:
        serve(read_spec(path), ready)
    except Exception as error:  # noqa: BLE001 (the border: nothing may end without a word)
        traceback.print_exc()
        write_json(failed, describe_error(error))
        return FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
