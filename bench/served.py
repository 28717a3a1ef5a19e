"""`tunebench up` over a home folder, for benches of its processes: both servers and their logs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from pages.people.access_middleware import build_cookie_name
from store.core.home import Home
from store.core.processes import ProcessRecord, read_record
from store.http.access import read_secret

PROJECT = Path(__file__).resolve().parent.parent
SECONDS = 90.0


class Served:
    """Engine and screens, started together; `stop()` stops them properly."""

    def __init__(self, home: Home, port: int) -> None:
        self.home = home
        command = [sys.executable, "-m", "tunebench.cli", "up", "--no-browser", "--port", str(port)]
        environment = {**os.environ, "TUNEBENCH_HOME": str(home.path), "TUNEBENCH_NO_SAMPLE": "1"}
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=PROJECT,
            env=environment,
        )
        assert self.process.stdout
        self.entrance = self.process.stdout.readline().rpartition(" ")[2].strip()
        assert self.entrance.startswith("http://"), "tunebench up printed no address"

    @property
    def engine(self) -> ProcessRecord:
        return _there(read_record(self.home.engine_file))

    @property
    def screens(self) -> ProcessRecord:
        return _there(read_record(self.home.screens_file))

    @property
    def bearer(self) -> dict[str, str]:
        """Return the headers that authorize requests to the engine."""
        return {"Authorization": f"Bearer {read_secret(self.home.token)}"}

    @property
    def cookie(self) -> dict[str, str]:
        """Return the headers that authorize requests to the screens."""
        secret = read_secret(self.home.screens_secret)
        return {"Cookie": f"{build_cookie_name(secret)}={secret}"}

    def tracebacks(self) -> int:
        """Return the number of tracebacks in the logs of both."""
        logs = self.home.logs.glob("*.log")
        return sum(
            path.read_text(errors="replace").count("Traceback (most recent call last)") for path in logs
        )

    def stop(self) -> None:
        """Send Ctrl-C and wait."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        self.process.wait(SECONDS)


def _there(record: ProcessRecord | None) -> ProcessRecord:
    assert record is not None, "nothing is on record"
    return record


def processes_of(home: Home, module: str) -> list[psutil.Process]:
    """Return the processes `python -m MODULE` of a home folder."""
    there = []
    for process in psutil.process_iter():
        try:
            if ["-m", module] == process.cmdline()[1:3] and _home_of(process) == str(home.path):
                there.append(process)
        except (psutil.NoSuchProcess, psutil.ZombieProcess, psutil.AccessDenied):
            continue
    return there


def _home_of(process: psutil.Process) -> str:
    words = process.cmdline()
    return words[words.index("--home") + 1] if "--home" in words else process.environ()["TUNEBENCH_HOME"]


def wait_until(done: Callable[[], object], what: str) -> None:
    """Poll until the condition is true. Raises AssertionError with `what` if it times out."""
    deadline = time.monotonic() + SECONDS
    while not done():
        assert time.monotonic() < deadline, f"not within {SECONDS:.0f} s: {what}"
        time.sleep(0.05)
