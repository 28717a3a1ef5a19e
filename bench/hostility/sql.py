"""Malicious SQL (from `bench/made/statements.py`), sent to a real engine as people send it.

Every statement must get rows or a refusal in one sentence, within its time. Meanwhile a second thread
sends the screens' queries: their 95th percentile is printed, with that of the same queries before, and
must stay under 100 ms. The engine's memory is monitored throughout, and at the end it is asked to stop
while slow statements run.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from bench.hostility import Attempt
from bench.made.statements import statements
from store.core.errors import BusyError, EngineUnavailable, TunebenchError
from store.core.home import Home
from store.http.client import Client
from store.jobs import job_queue
from store.runs import runs

LIMIT_SECONDS = 30.0
LATE_SECONDS = 15.0  # beyond the limit: waiting for a slot, starting a process, a busy machine
GROWN_BYTES = 300 * 2**20  # of the engine itself
SCREENS_MS = 100.0
STOP_SECONDS = 5.0
AT_ONCE = 4  # concurrent statements
SECRET = "the-token-that-nobody-may-read"


def attempts(seed: int, folder: Path) -> list[Attempt]:
    """Try every statement, then check what must hold for all of them together."""
    home = Home(folder / "home").create()
    _fill(home)
    made_statements = statements(random.Random(seed), home)
    process = start_engine(home)
    client = Client(home)
    wait_for(client)
    before = _state(client)
    watch = _Watch(client, process.pid)
    watch.look_before()
    watch.start()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        made = list(pool.map(lambda pair: _try(client, *pair), made_statements))
    watch.ended.set()
    watch.join()
    changed = _state(client) != before
    made += [
        Attempt("the store and its files afterwards", "something was written" if changed else ""),
        *watch.attempts(),
        _stop(process, client),
    ]
    return made


def _try(client: Client, name: str, sql: str) -> Attempt:
    """Send a statement as the API accepts it; retry until a query slot is free."""
    label = f"{name} ({' '.join(sql[:90].encode('utf-8', 'replace').decode().split())})"
    while True:
        began = time.monotonic()
        try:
            rows = client.people.query(sql)
        except BusyError:
            time.sleep(0.5)
            continue
        except EngineUnavailable as error:
            return Attempt(label, f"the engine did not answer: {error}")
        except TunebenchError as error:
            return Attempt(label, _fault(str(error), time.monotonic() - began))
        except (UnicodeEncodeError, ValueError) as error:
            return Attempt(label, f"the client raised {type(error).__name__}")
        leaked = SECRET in str(rows.slice(0, 100).to_pydict())
        return Attempt(label, "a file was read" if leaked else _fault("", time.monotonic() - began))


def _fault(message: str, seconds: float) -> str:
    if seconds > LIMIT_SECONDS + LATE_SECONDS:
        return f"it took {seconds:.1f} s"
    if "Traceback" in message or "engine failed" in message:
        return f"a raw error: {message[:200]}"
    if "\n" in message or SECRET in message:
        return f"no plain sentence: {message[:200]!r}"
    return ""


class _Watch(threading.Thread):
    """Queries the store as a screen does, and tracks the engine's memory."""

    def __init__(self, client: Client, pid: int) -> None:
        super().__init__(daemon=True)
        self.ended = threading.Event()
        self._client, self._engine = client, psutil.Process(pid)
        self._milliseconds: list[float] = []
        self._before: list[float] = []
        self._first = self._most = self._engine.memory_info().rss
        self._problem = ""

    def look_before(self) -> None:
        """Measure the duration of the queries on this machine without any statement."""
        for _ in range(60):
            self._before.append(self._look())
            time.sleep(0.05)

    def _look(self) -> float:
        """Return the milliseconds of a query."""
        began = time.perf_counter()
        try:
            runs.list_runs(self._client)
            job_queue.recent_jobs(self._client, limit=20)
        except TunebenchError as error:
            self._problem = f"a question of the screens failed: {error}"
        return (time.perf_counter() - began) * 1000 / 2

    def run(self) -> None:
        while not self.ended.wait(0.1):
            self._milliseconds.append(self._look())
            self._most = max(self._most, self._engine.memory_info().rss)

    def attempts(self) -> list[Attempt]:
        """Return the checks that must hold for all statements together."""
        p50, p95 = np.percentile(self._milliseconds, [50, 95])
        p50_before, p95_before = np.percentile(self._before, [50, 95])
        grown = self._most - self._first
        print(
            f"screens' questions before: p50 {p50_before:.1f} ms, p95 {p95_before:.1f} ms;"
            f" meanwhile: p50 {p50:.1f} ms, p95 {p95:.1f} ms, n {len(self._milliseconds)};"
            f" the engine grew by {grown / 2**20:.0f} MiB"
        )
        slow = f"{p95:.0f} ms at the 95th percentile" if p95 >= SCREENS_MS else ""
        large = f"it grew by {grown / 2**20:.0f} MiB" if grown > GROWN_BYTES else ""
        return [
            Attempt("the screens' questions meanwhile", self._problem or slow),
            Attempt("the engine's memory", large),
        ]


# -- the engine ---------------------------------------------------------------------------------------


def _fill(home: Home) -> None:
    home.token.write_text(SECRET, encoding="utf-8")
    (home.datasets / "f").mkdir()
    pq.write_table(pa.table({"n": [1, 2, 3]}), home.datasets / "f" / "rows.parquet")
    pq.write_table(pa.table({"secret": [SECRET]}), home.path / "outside.parquet")


def start_engine(home: Home) -> subprocess.Popen[bytes]:
    """Start a real engine on `home`, with its log in logs/engine.log."""
    environment = {**os.environ, "TUNEBENCH_HOME": str(home.path), "TUNEBENCH_NO_SAMPLE": "1"}
    root = Path(__file__).resolve().parents[2]
    with open(home.logs / "engine.log", "wb") as log:
        command = [sys.executable, "-m", "engine"]
        return subprocess.Popen(command, cwd=root, env=environment, stdout=log, stderr=log)


def wait_for(client: Client) -> None:
    """Wait until the engine responds."""
    for _ in range(600):
        try:
            client.health()
            return
        except EngineUnavailable:
            time.sleep(0.1)
    raise SystemExit("The engine does not answer.")


def _state(client: Client) -> object:
    tables = "SELECT table_name, sql FROM duckdb_tables() ORDER BY 1"
    settings = client.people.query("SELECT name, value FROM setting ORDER BY 1").to_pylist()
    folders = (client.home.jobs, client.home.datasets, client.home.exports, client.home.uploads)
    files = sorted(str(path) for folder in folders for path in folder.rglob("*"))
    return client.people.query(tables).to_pylist(), settings, files


def _stop(process: subprocess.Popen[bytes], client: Client) -> Attempt:
    """Send SIGTERM during statements, and check that the engine and their processes end soon."""
    name = "SIGTERM with slow statements under way"
    slow = "SELECT count(*) FROM range(1000000000000) t(a) WHERE hash(a) % 7 = 3"
    threads = [threading.Thread(target=_try, args=(client, "slow", slow), daemon=True) for _ in range(6)]
    for thread in threads:
        thread.start()
    time.sleep(4)
    children = psutil.Process(process.pid).children(recursive=True)
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()
        return Attempt(name, "the engine did not end within 60 s")
    seconds = time.monotonic() - began
    print(f"SIGTERM with slow statements under way: {seconds:.1f} s")
    _, left = psutil.wait_procs([c for c in children if "statement_process" in _line(c)], timeout=2)
    if left:
        return Attempt(name, f"{len(left)} processes were left")
    return Attempt(name, f"it took {seconds:.1f} s" if seconds > STOP_SECONDS else "")


def _line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
