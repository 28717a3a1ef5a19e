"""Engine, screens and the command that started them, killed with -9 at seeded moments while there is work.

In each round an import is queued and an upload is in progress when one of the three is killed. Then
Tunebench is restarted: every accepted import finishes and exists once with all its rows, no partial files
are left, no process of the previous round is left, and the screens have the same port and secret.
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

from bench.hostility import Attempt
from bench.served import Served, processes_of, wait_until
from store.core.errors import TunebenchError
from store.core.home import Home
from store.core.job_kinds import ALIVE
from store.data import datasets
from store.http.client import Client
from store.jobs import job_queue
from tunebench.terminal.processes import find_free_port, stop_engine

KILLED = ("engine", "screens", "up")
ROUNDS = 6  # each of the three equally often
ROWS = 2000
MOMENT_SECONDS = 4.0  # after the command; covers the worker's start, work and end
FREE_SECONDS = 5.0  # time for the screens to end with their parent


def attempts(seed: int, folder: Path) -> Iterator[Attempt]:
    """Yield one attempt per round, then those on what is left of all."""
    draw = random.Random(seed)
    home, port = Home(folder / "home").create(), find_free_port(None)
    rows = folder / "rows.csv"
    rows.write_text("question,answer\n" + "".join(f"What is {n}?,It is {n}.\n" for n in range(ROWS)))
    order = [KILLED[number % len(KILLED)] for number in range(ROUNDS)]
    draw.shuffle(order)
    taken: list[tuple[str, str]] = []  # name and job of accepted imports
    entrance = ""
    for number, victim in enumerate(order):
        served = Served(home, port)
        moment = draw.random() * MOMENT_SECONDS
        try:
            problems = (
                [] if served.entrance == (entrance or served.entrance) else ["another address or secret"]
            )
            entrance = served.entrance
            problems += _round(served, rows, f"set {number}", taken, victim, moment)
        finally:
            served.stop()
        yield Attempt(f"{number}: kill -9 of {victim} after {moment:.2f} s", "; ".join(problems))
    yield from _left(home, port, taken)


def _round(
    served: Served, rows: Path, name: str, taken: list[tuple[str, str]], victim: str, moment: float
) -> list[str]:
    """Kill one process during an import and an upload; return the problems."""
    client = Client(served.home)
    body = {"name": name, "source": {"path": str(rows)}}
    taken.append((name, str(client.command("import_dataset", body)["job_id"])))
    client.close()
    pid = {"engine": served.engine.pid, "screens": served.screens.pid, "up": served.process.pid}[victim]
    port = httpx.URL(served.engine.address).port or 0
    with socket.create_connection(("127.0.0.1", port)) as connection:
        head = "".join(f"{key}: {value}\r\n" for key, value in served.bearer.items())
        line = f"PUT /uploads/cut.csv HTTP/1.1\r\nHost: 127.0.0.1\r\n{head}Content-Length: 900000000\r\n\r\n"
        connection.sendall(line.encode() + b"x" * 5_000_000)
        time.sleep(moment)
        engine = served.engine.pid
        os.kill(pid, 9)
    if victim == "engine":  # the command restarts it by itself
        wait_until(lambda: _engine_pid(served) not in (0, engine), "a new engine")
        return []
    served.process.wait(60)
    return _gone(served)


def _engine_pid(served: Served) -> int:
    """Return the pid of the engine that responds now; 0 if there is none."""
    with contextlib.suppress(TunebenchError, AssertionError, ValueError):
        return int(Client(served.home).health()["pid"])
    return 0


def _gone(served: Served) -> list[str]:
    """Check that the screens end with their parent and free the port."""
    deadline = time.monotonic() + FREE_SECONDS
    while processes_of(served.home, "pages"):
        if time.monotonic() > deadline:
            return [f"the screens are still there after {FREE_SECONDS:.0f} s"]
        time.sleep(0.05)
    return []


def _left(home: Home, port: int, taken: list[tuple[str, str]]) -> Iterator[Attempt]:
    """Start once more, and check that every import is there once and complete, and nothing else is."""
    served = Served(home, port)
    try:
        client = Client(home)
        wait_until(
            lambda: all(job_queue.get_job(client, job).status not in ALIVE for _, job in taken),
            "ended imports",
        )
        for name, job in taken:
            there = [dataset for dataset in datasets.list_datasets(client) if dataset.name == name]
            counts = [dataset.row_count for dataset in there]
            status = job_queue.get_job(client, job).status
            yield Attempt(f"{name}: {status}", "" if counts == [ROWS] else f"{status}, with rows {counts}")
        half = [*home.uploads.iterdir(), *home.path.glob(".*.*"), *home.path.glob("jobs/*/aside/*")]
        half += home.asks.iterdir()
        yield Attempt("what is half-made", ", ".join(str(path.relative_to(home.path)) for path in half))
        for module in ("engine", "pages"):
            count = len(processes_of(home, module))
            yield Attempt(f"processes of {module}", "" if count == 1 else f"{count} of them")
    finally:
        served.stop()
        stop_engine(home)  # an engine whose command was killed continues
    count = sum(len(processes_of(home, module)) for module in ("engine", "pages"))
    yield Attempt("processes after the end", f"{count} of them" if count else "")
