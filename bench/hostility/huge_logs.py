"""A worker that died and left gigabytes: a log, a report without a line break, and one of garbage lines.

A real engine finds them at its start, with an import in the queue. The import finishes, the engine
responds and stays small meanwhile, only the end of the log is read, and the jobs end once their reports
are read.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from bench.hostility import Attempt
from bench.killed import KilledHome
from store.core.home import Home
from store.core.job_folder import MAX_LINE, JobDir
from store.core.job_kinds import ALIVE
from store.data import datasets
from store.db.database import Database
from store.http.server import MAX_TAIL
from store.jobs import job_queue
from store.jobs.event_ingest import TORN

GIB = 2**30
LINES_BYTES = 32 * 2**20
END = b"\nthe last line\n"
ANSWER_SECONDS = 2.0  # on a machine that does other work too
GROWTH_MIB = 300.0
NOBODY = 2**22 - 3  # a pid without a process


def attempts(seed: int, folder: Path) -> Iterator[Attempt]:
    """Read the log while the engine works, and check its memory and response times."""
    home = Home(folder / "home").create()
    sizes = _leave(home, random.Random(seed))
    rows = folder / "rows.csv"
    rows.write_text("question,answer\n" + "".join(f"What is {n}?,It is {n}.\n" for n in range(50)))
    killed = KilledHome(home.path)
    try:
        engine = psutil.Process(killed.engine.pid)
        before = engine.memory_info().rss
        body = {"name": "Small", "source": {"path": str(rows)}}
        importing = str(killed.client.command("import_dataset", body)["job_id"])
        for tail in (1_000, 64 * 2**10, GIB):
            yield _asked(killed, "left-0", tail, GIB + len(END))
        slowest, largest = 0.0, before
        while any(job_queue.get_job(killed.client, job).status in ALIVE for job in (importing, *sizes)):
            slowest = max(slowest, _seconds(lambda: killed.client.health()))
            largest = max(largest, engine.memory_info().rss)
            time.sleep(0.02)
        grown = (largest - before) / 2**20
        yield Attempt(f"memory: {grown:.0f} MiB", "" if grown < GROWTH_MIB else f"{GROWTH_MIB:.0f} at most")
        yield Attempt(f"slowest answer: {slowest:.2f} s", "" if slowest < ANSWER_SECONDS else "too slow")
        there = [dataset.name for dataset in datasets.list_datasets(killed.client)]
        yield Attempt("the import", "" if there == ["Small"] else f"there are {there}")
        database = killed.stop()
        for job_id, size in sizes.items():
            yield Attempt(f"the report of {job_id}", _not_taken(database, job_id, size))
        database.close()
    finally:
        killed.end()


def _leave(home: Home, draw: random.Random) -> dict[str, int]:
    """Create jobs whose worker is gone; return the sizes of their reports."""
    reports: list[Callable[[Path], object]] = [
        lambda path: _sparse(path, b""),
        lambda path: path.write_bytes((draw.randbytes(48).hex().encode() + b"\n") * (LINES_BYTES // 97)),
    ]
    database = Database(home.database, [home.datasets, home.jobs])
    sizes = {}
    for number, write in enumerate(reports):
        job_id = f"left-{number}"
        folder = JobDir(home.jobs / job_id)
        folder.path.mkdir()
        _sparse(folder.log, END)
        write(folder.events)
        sizes[job_id] = folder.events.stat().st_size
        with database.transaction() as tx:
            job = job_queue.NewJob(job_id, "convert", job_id, {"model": "m"}, time.time(), lane="device")
            job_queue.insert(tx, job)
            job_queue.claim(tx, job_id, "cpu", time.time())
            job_queue.announce(tx, job_id, NOBODY, 1.0)
    database.close()
    return sizes


def _sparse(path: Path, end: bytes) -> None:
    """Write a sparse file of zeros with the given ending."""
    with open(path, "wb") as file:
        file.truncate(GIB)
        file.seek(0, 2)
        file.write(end)


def _asked(killed: KilledHome, job_id: str, tail: int, size: int) -> Attempt:
    began = time.perf_counter()
    log = killed.client.log(job_id, tail)
    name = f"the last {tail:,} bytes of the log"
    if not (log["bytes"] == size and log["shown_bytes"] <= min(tail, MAX_TAIL)):
        return Attempt(name, f"{log['shown_bytes']:,} of {log['bytes']:,} bytes came")
    if not log["text"].endswith("the last line\n"):
        return Attempt(name, f"it ends with {log['text'][-20:]!r}")
    seconds = time.perf_counter() - began
    return Attempt(name, "" if seconds < ANSWER_SECONDS else f"it took {seconds:.1f} s")


def _seconds(act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def _not_taken(database: Database, job_id: str, size: int) -> str:
    job = job_queue.get_job(database, job_id)
    if job.status != "lost" or size - job.event_offset > MAX_LINE:  # less is a partial line
        return f"it is {job.status}, and {job.event_offset:,} of {size:,} bytes were taken"
    alerts = database.query("SELECT message FROM alert WHERE job_id = ?", [job_id])["message"].to_pylist()
    return "" if alerts == [TORN] else f"{len(alerts)} alerts"
