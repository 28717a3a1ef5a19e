"""`python -m engine.serving.backend SPEC.json`: one backend of an endpoint, at a Unix socket of its own.

It writes `ready.json` beside the spec once it can be asked, or `failed.json` with the error and ends with 1.
SIGTERM ends it in order: no new connections, answers under way are finished. With the process that it works
for gone, it ends at once, however that one ended.
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

POLL_SECONDS = 0.5  # between two looks at the parent
FAILED = 1


def read_spec(path: Path) -> BackendSpec:
    """Raises ConfigError where it is no spec, naming the field."""
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} can't be read: {error}.", field="spec") from error
    return parse_document(BackendSpec, BackendConfig.parse(document).model_dump())


def exit_with_parent(pid: int, path: str) -> None:
    """From now on this process ends when that one is gone. Raises StateError where it is gone already."""
    try:
        parent = ProcessRecord("", pid, get_process_start(pid))
    except psutil.NoSuchProcess as error:
        raise StateError(f"The process {pid}, for which this backend works, is gone.") from error

    def look() -> None:
        while parent.process() is not None:
            time.sleep(POLL_SECONDS)
        with contextlib.suppress(OSError):
            os.unlink(path)
        os._exit(FAILED)  # nothing that it does is wanted any more

    threading.Thread(target=look, name="parent", daemon=True).start()


def check_registered(spec: BackendSpec) -> None:
    """Raise ModelError where files of a registered version are not those that were registered."""
    registry = Home(spec["home"]).registry.resolve()
    named = [spec["model"], *(adapter.folder for adapter in spec["adapters"])]
    paths = [Path(path).resolve() for path in named if Path(path).is_absolute()]
    roots = {
        registry.joinpath(*path.relative_to(registry).parts[:2])
        for path in paths
        if path.is_relative_to(registry)
    }
    for root in sorted(roots):
        check_sealed(root)


def open_engine(spec: BackendSpec) -> Answerer:
    """The engine of the spec, its model loaded. Raises what loading raises."""
    check_registered(spec)
    if spec["engine"] == "llama.cpp":
        from engine.serving.llama_backend import LlamaAnswerer

        return LlamaAnswerer(spec)
    from engine.serving.torch_backend.answering import load_answerer

    return load_answerer(spec)


class BackendServer(uvicorn.Server):
    """Ends in order at SIGTERM and Ctrl-C, with code 0."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """In the place of uvicorn's own, which raises the signal once more at the end."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end)
        yield

    def _end(self) -> None:
        self.should_exit = True


def bind_unix_socket(path: str) -> socket.socket:
    """A socket at the path, for this user alone."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        listener.bind(path)
    finally:
        os.umask(before)
    listener.listen(256)
    return listener


def serve(spec: BackendSpec, ready: Path) -> None:
    """Load, say so, answer until asked to end."""
    began = time.monotonic()
    exit_with_parent(spec["parent"], spec["socket"])
    engine = open_engine(spec)
    listener = bind_unix_socket(spec["socket"])
    word: BackendReady = {
        "pid": os.getpid(),
        "seconds": time.monotonic() - began,
        "capabilities": engine.capabilities,
    }
    config = uvicorn.Config(build(engine), log_level="warning", access_log=False, lifespan="off")
    write_json(ready, word)
    try:
        asyncio.run(BackendServer(config).serve(sockets=[listener]))
    finally:
        with contextlib.suppress(OSError):
            os.unlink(spec["socket"])


def main(argv: list[str]) -> int:
    """0 asked to end, 1 it could not begin."""
    os.environ.setdefault(
        "GOMP_SPINCOUNT", "1000"
    )  # before torch is loaded: else other work costs ten times its time
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    path = Path(argv[0])
    ready, failed = path.with_name("ready.json"), path.with_name("failed.json")
    for old in (ready, failed):
        old.unlink(missing_ok=True)
    try:
        serve(read_spec(path), ready)
    except Exception as error:  # noqa: BLE001 (the border: nothing may end without a word)
        traceback.print_exc()
        write_json(failed, describe_error(error))
        return FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
