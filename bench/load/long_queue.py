"""Cost of a long queue: 10,000 queued jobs compared with 100, in one run.

Each is measured in its own store: jobs are queued, the scheduler steps, the overview is queried, an engine
starts with them, and the last hundred are cancelled. Nobody queues so many by hand, but a script may; the
engine must respond meanwhile, and no time may grow with the square of the queue.

    python bench/load/long_queue.py [--json]

Limits: a hundred times the jobs cost at most 200 times as much, and the hundred cancels 10 times; a step
of the scheduler takes 250 ms. The exit code is 1 if one is missed.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench.killed import KilledHome
from bench.report import ended
from engine.commands import Commands
from store.core.home import Home
from store.core.rights import OWNER
from store.db.database import Database
from store.jobs import job_queue
from store.runs import runs
from tests.unit.played import START, World

FEW, MANY = 100, 10_000
RATIO = 2.0 * MANY / FEW
STEP = "a step of the scheduler"
STEP_MS = 250.0
CANCEL = "cancel the last hundred"
CANCEL_RATIO = 10.0
SHOWN = 8  # jobs on the overview


def measured(count: int, folder: Path) -> dict[str, float]:
    """Return the milliseconds of each part for this number of jobs."""
    world = World(folder / "home")
    took = {"queue all": _timed(lambda: _queue(world.database, count))}
    world.step()  # claims the first job
    took[STEP] = min(_timed(world.step) for _ in range(5))
    took["what the overview asks"] = min(_timed(lambda: _overview(world.database)) for _ in range(5))
    world.database.close()
    began = time.perf_counter()
    engine = KilledHome(world.home.path)
    took["start an engine"] = 1000 * (time.perf_counter() - began)
    engine.end()
    database = Database(world.home.database, [world.home.datasets, world.home.jobs])
    took[CANCEL] = _timed(lambda: _cancel(database, world.home))
    database.close()
    return took


def _timed(act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    return 1000 * (time.perf_counter() - began)


def _queue(database: Database, count: int) -> None:
    """Queue jobs, half of which wait for the previous one."""
    with database.transaction() as tx:
        for place in range(count):
            job_id, before = f"job-{place:06}", [f"job-{place - 1:06}"] if place % 2 else []
            config = {"model": "m", "rows": list(range(30))}
            job_queue.insert(
                tx, job_queue.NewJob(job_id, "convert", f"Job {place}", config, START + place, before)
            )


def _overview(database: Database) -> None:
    job_queue.queue(database, limit=SHOWN)
    job_queue.queue_length(database)
    runs.status_counts(database)
    runs.list_runs(database)


def _cancel(database: Database, home: Home) -> None:
    def ask(name: str, body: object) -> object:
        raise AssertionError(f"Nothing here asks {name}.")

    cancel = Commands(database, home, ask).table()["cancel"]
    for job in job_queue.list_waiting(database)[-FEW:]:
        cancel({"job": job.job_id}, OWNER)


def show(figures: dict[str, Any]) -> None:
    print(f"{'':<28}{FEW:>12,}{MANY:>12,}{'ratio':>10}")
    for name, (few, many) in figures.items():
        print(f"{name:<28}{few:>9,.0f} ms{many:>9,.0f} ms{many / few:>10.1f}")


def main() -> int:
    """Print the times; return 1 if a limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    taken = []
    for count in (FEW, MANY):
        with tempfile.TemporaryDirectory() as folder:
            taken.append(measured(count, Path(folder)))
    figures = {name: (taken[0][name], taken[1][name]) for name in taken[0]}
    missed = []
    for name, (few, many) in figures.items():
        limit = CANCEL_RATIO if name == CANCEL else RATIO
        if many > limit * few:
            missed.append(f"{name}: more than {limit:.0f} times as long")
    if figures[STEP][1] > STEP_MS:
        missed.append(f"{STEP}: more than {STEP_MS:.0f} ms")
    return ended(figures, missed, show, options.json)


if __name__ == "__main__":
    sys.exit(main())
