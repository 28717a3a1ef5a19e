"""Speed of the engine's ingestion of metrics, and of its responses meanwhile.

Eight job folders have real `events.jsonl` files, as workers write them. An engine process (store, HTTP
server and the tailing loop in one process, as in `python -m engine`) ingests them, while this process
repeatedly requests the training-loss curve of a run of 10,000 steps over HTTP on loopback.

    python bench/load/engine.py [--points 4000000] [--json]

Limits: 200,000 points a second, 50 ms at the 95th percentile of the responses. The exit code is 1 if one
is missed, or if a point is missing from the store afterwards.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from bench.report import ended
from store.core.errors import EngineUnavailable
from store.core.home import Home
from store.core.job_folder import JobDir, read_json, write_json
from store.core.schemas import Person
from store.db.named_query import load_queries
from store.http.client import Client
from store.jobs import metric_points

FOLDERS = 8
STEPS = 10_000  # steps of the run whose curve is requested
POINTS_A_SECOND = 200_000
P95_MS = 50.0
PAUSE = 0.02  # seconds between a response and the next request
NAMES = (
    "train/loss",
    "train/learning_rate",
    "train/grad_norm",
    "train/tokens_per_second",
    "train/tokens_seen",
    "train/epoch",
    "system/memory_gib",
)


# -- the events ---------------------------------------------------------------------------------------


def write_events(folder: Path, steps: int, seed: int) -> int:
    """Write an events.jsonl like a worker's, with a line of metrics per step and occasional progress; return
    the number of points.
    """
    folder.mkdir(parents=True)
    noise = np.random.default_rng(seed).normal(0, 0.05, steps).tolist()
    points = 0
    with open(JobDir(folder).events, "w", encoding="utf-8") as file:
        for step in range(1, steps + 1):
            at = 1_790_000_000 + step * 0.05
            loss = 1 + 2 * math.exp(-step / 3000) + noise[step - 1]
            figures = (loss, 2e-4, abs(noise[step - 1]) * 20, 2311.4, step * 870, step / steps, 1.9)
            values = dict(zip(NAMES, figures, strict=True))
            file.write(json.dumps({"type": "metrics", "at": at, "step": step, "values": values}) + "\n")
            points += len(values)
            if step % 20 == 0:
                progress = {"done": step, "total": steps, "unit": "steps", "message": "Training"}
                file.write(json.dumps({"type": "progress", "at": at, **progress, "eta_seconds": 9.5}) + "\n")
    return points


# -- the engine process -------------------------------------------------------------------------------


def serve(home: Home) -> None:
    """Serve HTTP, ingest the run that is queried, then the eight folders once the file `go` exists."""
    import uvicorn

    from store.db.database import Database
    from store.http.server import Handlers, build_app

    database = Database(home.database, [home.datasets, home.jobs])
    home.token.write_text("bench", encoding="utf-8")
    _add_jobs(database, ["asked", *(f"job-{index}" for index in range(FOLDERS))])
    _tail(database, home, ["asked"])

    async def no_asks(name: str, body: dict[str, Any], person: Person) -> dict[str, Any]:
        return {}

    app = build_app(database, "bench", Handlers({}, no_asks, queries=load_queries()), home, ["cpu"])
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", access_log=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=_take_in, args=(database, home, server), daemon=True)
    thread.start()
    server.run()
    thread.join()


def _take_in(database: Any, home: Home, server: Any) -> None:
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    write_json(home.engine_file, {"address": address, "pid": os.getpid(), "version": "bench"})
    while not (home.path / "go").exists():
        time.sleep(0.01)
    began = time.perf_counter()
    points = _tail(database, home, [f"job-{index}" for index in range(FOLDERS)])
    write_json(home.path / "taken.json", {"points": points, "seconds": time.perf_counter() - began})
    while (home.path / "go").exists():
        time.sleep(0.01)
    server.should_exit = True


def _tail(database: Any, home: Home, job_ids: list[str]) -> int:
    """Read new events in every folder and commit, until there are none: the loop of the scheduler."""
    from store.core.job_folder import read_events
    from store.jobs.event_ingest import EventBatch, ingest_many

    offsets = dict.fromkeys(job_ids, 0)
    points = 0
    while True:
        batches = []
        for job_id, old in offsets.items():
            events, new = read_events(JobDir(home.jobs / job_id).events, old)
            if new > old:
                batches.append(EventBatch(job_id, events, new, old))
                offsets[job_id] = new
        if not batches:
            return points
        points += sum(report["points"] for report in ingest_many(database, batches))


def _add_jobs(database: Any, job_ids: list[str]) -> None:
    from store.db.database import utc_now

    with database.transaction() as tx:
        for job_id in job_ids:
            tx.execute(
                "INSERT INTO job (job_id, kind, lane, title, status, config, after_jobs, created_at)"
                " VALUES (?, 'train', 'device', ?, 'training', '{}', [], ?)",
                [job_id, job_id, utc_now()],
            )


# -- the measurement ----------------------------------------------------------------------------------


@contextlib.contextmanager
def engine(home: Home) -> Iterator[Client]:
    """Run an engine process during the block."""
    process = subprocess.Popen([sys.executable, __file__, "--serve", str(home.path)])
    client = Client(home)
    try:
        while True:
            try:
                client.health()
                break
            except EngineUnavailable:
                if process.poll() is not None:
                    raise
                time.sleep(0.05)
        yield client
    finally:
        (home.path / "go").unlink(missing_ok=True)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()


def ask(client: Client, run_id: str, seconds: list[float]) -> int:
    """Query one curve; append the time until its table arrives, and return the number of points in it."""
    began = time.perf_counter()
    table = metric_points.curve(client, run_id, "train/loss")
    seconds.append(time.perf_counter() - began)
    return int(sum(table.column("count").to_pylist()))


def measure(home: Home, points: int) -> dict[str, Any]:
    """Ingest about `points` points while querying; return the figures."""
    write_events(home.jobs / "asked", STEPS, seed=0)
    steps = points // FOLDERS // len(NAMES)
    written = sum(write_events(home.jobs / f"job-{i}", steps, seed=i + 1) for i in range(FOLDERS))
    idle: list[float] = []
    finished: list[float] = []  # seconds for the curve of the finished run of 10,000 steps
    live: list[float] = []  # seconds for the curve of a run being ingested
    with engine(home) as client:
        for _ in range(100):
            ask(client, "asked", idle)
            time.sleep(PAUSE)
        (home.path / "go").touch()
        while (taken := read_json(home.path / "taken.json")) is None:
            if ask(client, "asked", finished) != STEPS:
                raise SystemExit("The curve does not have its points.")
            ask(client, "job-0", live)
            time.sleep(PAUSE)
        stored = sum(
            row.count for row in metric_points.summaries(client, [f"job-{i}" for i in range(FOLDERS)])
        )
        rows = (
            client.people.query("SELECT count(*) AS n FROM metric WHERE run_id <> 'asked'")
            .column("n")[0]
            .as_py()
        )
    return {
        "points": written,
        "points_stored": rows,
        "points_summarised": stored,
        "seconds": taken["seconds"],
        "points_a_second": taken["points"] / taken["seconds"],
        "questions": len(finished),
        **{f"idle_p{q}_ms": float(np.percentile(idle[10:], q)) * 1000 for q in (50, 95)},
        **{f"p{q}_ms": float(np.percentile(finished, q)) * 1000 for q in (50, 95, 99)},
        **{f"live_p{q}_ms": float(np.percentile(live, q)) * 1000 for q in (50, 95, 99)},
    }


def missed(figures: dict[str, Any]) -> list[str]:
    """Return the limits that the figures miss."""
    misses = []
    if figures["points_a_second"] < POINTS_A_SECOND:
        misses.append(f"{figures['points_a_second']:,.0f} points a second are under {POINTS_A_SECOND:,}")
    if figures["p95_ms"] >= P95_MS:
        misses.append(f"{figures['p95_ms']:.1f} ms at the 95th percentile are not under {P95_MS:g}")
    if not figures["points"] == figures["points_stored"] == figures["points_summarised"]:
        misses.append("points are missing or doubled in the store")
    return misses


def show(figures: dict[str, Any]) -> None:
    """Print the figures as a table."""
    rate, p95 = f"≥ {POINTS_A_SECOND:,}", f"< {P95_MS:g}"
    lines = [
        ("points written", f"{figures['points']:,}", ""),
        ("points in the store", f"{figures['points_stored']:,}", ""),
        ("points taken in a second", f"{figures['points_a_second']:,.0f}", rate),
        ("curve of 10,000 steps before, p50 (ms)", f"{figures['idle_p50_ms']:.1f}", ""),
        ("curve of 10,000 steps before, p95 (ms)", f"{figures['idle_p95_ms']:.1f}", ""),
        ("curve of 10,000 steps meanwhile, p50 (ms)", f"{figures['p50_ms']:.1f}", ""),
        ("curve of 10,000 steps meanwhile, p95 (ms)", f"{figures['p95_ms']:.1f}", p95),
        ("curve of 10,000 steps meanwhile, p99 (ms)", f"{figures['p99_ms']:.1f}", ""),
        ("curve of a run being taken in, p95 (ms)", f"{figures['live_p95_ms']:.1f}", ""),
        ("questions asked of each", f"{figures['questions']}", ""),
    ]
    for name, figure, limit in lines:
        print(f"{name:<44}{figure:>12}{limit:>12}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--points", type=int, default=4_000_000)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(Home(arguments.serve))
        return 0
    folder = Path(tempfile.mkdtemp(prefix="tunebench-bench-"))
    try:
        figures = measure(Home(folder).create(), arguments.points)
    finally:
        shutil.rmtree(folder)
    return ended(figures, missed(figures), show, arguments.json)


if __name__ == "__main__":
    sys.exit(main())
