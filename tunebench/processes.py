"""Starting and stopping the two long-lived processes, and finding the engine that runs.

The engine is started detached, its output in `logs/engine.log`; it outlives the command that started it.
Workers outlive the engine in turn, so stopping it never costs a run: the next engine picks them up.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil

from store.client import Client
from store.errors import ConfigError, EngineUnavailable, StateError
from store.home import Home
from store.jobdir import read_json

PROJECT = Path(__file__).resolve().parent.parent
SCREENS_PORT = 8501


def running_engine(home: Home) -> Client | None:
    """A client of the engine that answers for this home folder, or None."""
    client = Client(home)
    try:
        client.health()
    except EngineUnavailable:
        return None
    return client


def start_engine(home: Home, *, port: int = 0, seconds: float = 60) -> Client:
    """Start an engine in the background and wait until it answers.

    Raises StateError with the end of its log where it stops or does not answer in time.
    """
    home.create()
    log = home.logs / "engine.log"
    began = log.stat().st_size if log.exists() else 0
    with open(log, "ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "engine", "--home", str(home.path), "--port", str(port)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            cwd=PROJECT,
        )
    deadline = time.monotonic() + seconds
    try:
        while time.monotonic() < deadline:
            if client := running_engine(home):
                return client
            if process.poll() is not None:
                break
            time.sleep(0.05)
    except KeyboardInterrupt:  # nobody would stop an engine that had not answered yet
        process.terminate()
        raise
    with open(log, "rb") as file:
        file.seek(began)
        said = file.read().decode("utf-8", "replace").strip().splitlines()
    raise StateError(
        f"The engine did not start: {said[-1] if said else 'it said nothing'}",
        fix=f"The whole log is {log}.",
    )


def stop_engine(home: Home, *, seconds: float = 15) -> bool:
    """Ask the engine of this home folder to end; False where none ran. Runs go on."""
    record = read_json(home.engine_file)
    if not record or running_engine(home) is None:
        return False
    process = psutil.Process(record["pid"])
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(seconds)
    except psutil.TimeoutExpired:
        process.kill()
    return True


def free_port(wanted: int | None) -> int:
    """The port for the screens: the wanted one, or the first free one from the usual.

    Raises ConfigError (field port) where a port that was asked for is taken.
    """
    for port in [wanted] if wanted else range(SCREENS_PORT, SCREENS_PORT + 100):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise ConfigError(
        f"Port {wanted or SCREENS_PORT} is in use by another program.",
        fix="Give another with --port.",
        field="port",
    )


def screens_command(port: int) -> list[str]:
    """The command that serves the screens on loopback."""
    return [
        *(sys.executable, "-m", "pages"),
        *("--server.address", "127.0.0.1", "--server.port", str(port)),
    ]


def keep_engine(home: Home) -> bool:
    """Start the engine again where its process has ended; True where it had. Runs went on meanwhile."""
    record = read_json(home.engine_file)
    if record and _lives(record["pid"]):
        return False
    start_engine(home)
    return True


def _lives(pid: int) -> bool:
    """Whether the process works still; an ended child that nobody has waited for does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


@contextlib.contextmanager
def screens(home: Home, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """The screens as a process that ends with the block. A signal to end becomes KeyboardInterrupt in it."""
    for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # a closed terminal too ends the screens
        signal.signal(ending, _interrupt)
    environment = {**os.environ, "TUNEBENCH_HOME": str(home.path)}
    with open(home.logs / "screens.log", "ab") as log:
        process = subprocess.Popen(
            screens_command(port),
            cwd=PROJECT,
            env=environment,
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C reaches this process alone, which then ends the screens
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()


def serve(
    process: subprocess.Popen[bytes],
    port: int,
    ready: Callable[[str], None],
    watch: Callable[[], None] = lambda: None,
) -> int:
    """Wait until the screens end, or Ctrl-C; their exit code.

    `ready(address)` is called once the page answers, `watch()` about once a second from then on.
    """
    address = f"http://127.0.0.1:{port}"
    try:
        while process.poll() is None:
            try:
                if httpx.get(f"{address}/_stcore/health", timeout=1).status_code == 200:
                    ready(address)
                    break
            except httpx.HTTPError:
                time.sleep(0.05)
        while process.poll() is None:
            time.sleep(1)
            watch()
        return process.returncode
    except KeyboardInterrupt:
        return 0
