"""The app as a user starts it, and how to wait for it: for tests in a browser and pictures of the docs."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
from playwright.sync_api import Page

from store.core.home import Home
from store.core.processes import get_process_start, write_record
from store.http.client import Client
from store.runs import runs
from tunebench.terminal.processes import find_screens_address

BROWSER_ARGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
]


def wait_until(condition: Callable[[], object], seconds: float, what: str) -> None:
    """Poll; fails with `what` when the time is up."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.25)


def pick_port() -> int:
    """A free port that the system gives: the first free one from the usual could be another test's as well,
    which starts its screens at the same time."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def screens_of(home: Home, descriptors: int | None = None) -> Iterator[str]:
    """The screens alone, before whatever engine serves the home folder; their address. `descriptors`: how
    many they may have open."""
    port = pick_port()
    address = f"http://127.0.0.1:{port}"
    environment = {**os.environ, "TUNEBENCH_HOME": str(home.path)}
    command = [sys.executable, "-m", "pages", "--with-parent", "--port", str(port)]
    if descriptors:
        command = ["prlimit", f"--nofile={descriptors}", *command]
    with open(home.logs / "screens.log", "wb") as log:
        process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=log, stderr=log)
        try:
            wait_until(lambda: _answers(address), 60, "the screens answer")
            write_record(home.screens_file, address, process.pid)
            yield address
        finally:
            process.terminate()
            process.wait(20)


def _answers(address: str) -> bool:
    try:
        return httpx.get(address).status_code > 0
    except httpx.TransportError:
        return False


class App:
    """`tunebench up` as a user starts it, on a port of its own; sample: whether a new home gets model and
    data set."""

    def __init__(
        self,
        home: Path,
        port: int | None = None,
        *,
        sample: bool = True,
        options: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.home = home
        self.client = Client(Home(home))
        at = ["--port", str(port or pick_port())]
        without = {} if sample else {"TUNEBENCH_NO_SAMPLE": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tunebench.cli", "up", "--no-browser", *at, *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **without, **(environment or {}), "TUNEBENCH_HOME": str(home)},
        )
        assert self.process.stdout
        line = self.process.stdout.readline()
        match = re.search(r"http://\S+", line)
        assert match, f"no address: {line!r} {self.process.stderr and self.process.stderr.read()}"
        self.entrance = match.group()
        self.address = self.entrance.partition("/?")[0].rstrip("/")

    def open(self, page: Page, path: str = "/") -> None:
        """Open a screen by its whole address, as it is printed, and wait until the secret is out of it."""
        page.goto(find_screens_address(Home(self.home), path))
        page.wait_for_url(lambda url: "secret=" not in url)

    def cli(self, *arguments: str, code: int = 0, environment: Mapping[str, str] | None = None) -> Any:
        """A command's JSON document; the exit code must be `code`."""
        done = subprocess.run(
            [sys.executable, "-m", "tunebench.cli", *arguments],
            capture_output=True,
            text=True,
            env={**os.environ, **(environment or {}), "TUNEBENCH_HOME": str(self.home)},
            timeout=240,
        )
        assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
        return json.loads(done.stdout) if "--json" in arguments else {}

    def status(self, run_id: str) -> str:
        """How the run stands, as its engine has it."""
        return str(runs.get_run(self.client, run_id).status)

    def engine_pid(self) -> int | None:
        """The process id that the last engine left on record; None where it left none."""
        path = self.home / "engine.json"
        return json.loads(path.read_text())["pid"] if path.exists() else None

    def engine(self) -> psutil.Process:
        """The process of the engine that answers now."""
        pid = self.engine_pid()
        assert pid is not None
        return psutil.Process(pid)

    def workers(self) -> list[psutil.Process]:
        """The processes of the jobs that run now."""
        alive = []
        for path in self.home.glob("jobs/*/worker.json"):
            record = json.loads(path.read_text())
            if psutil.pid_exists(record["pid"]):
                process = psutil.Process(record["pid"])
                same = get_process_start(process.pid) == record["started"]
                if same and process.status() != psutil.STATUS_ZOMBIE:
                    alive.append(process)
        return alive

    def logs_and_jobs(self) -> str:
        """The end of every log, and how each job stands."""
        logs = [*sorted(self.home.glob("logs/*.log")), *sorted(self.home.glob("jobs/*/*.log"))]
        sections = [
            f"{path.relative_to(self.home)}\n{path.read_text(errors='replace')[-2000:]}" for path in logs
        ]
        for path in sorted(self.home.glob("jobs/*/*.json")):
            sections.append(f"{path.relative_to(self.home)}: {path.read_text(errors='replace')[:500]}")
        return "\n\n".join(sections)

    def stop(self) -> None:
        """Ctrl-C, then whatever training is left."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(30)
        for worker in self.workers():
            worker.kill()
