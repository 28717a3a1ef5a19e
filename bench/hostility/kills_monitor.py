"""Engine and worker killed with -9 while the log of an endpoint is ingested and analyzed.

Each round appends requests and feedback, with a partial last line at first, and kills the engine at a
random moment; the next engine ingests the rest and queues an analysis, whose worker is killed too in some
rounds. In the end every line is in the store once, and so is each request's measurement.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bench.hostility import Attempt
from bench.killed import VICTIMS, KilledHome, moment, seen
from bench.made.monitored import add_endpoint
from bench.made.request_log import Traffic, request_lines, thumbs
from bench.served import wait_until
from store.core.home import Home
from store.core.job_kinds import ALIVE
from store.db.database import Database
from store.jobs import job_queue
from store.monitoring import monitors
from store.monitoring.log_ingest import get_log_folder
from tests.unit.monitoring.texts import bank_questions

ENDPOINT = "endpoint-1"
REQUESTS = 80  # per round; the first ones are the reference
REFERENCE = 60
MOMENT_SECONDS = 1.5
SERIES = ("requests", "feedback")


def attempts(seed: int, folder: Path) -> Iterator[Attempt]:
    """Yield one attempt per round, then those on the final content of the store."""
    draw = random.Random(seed)
    home = Home(folder / "home").create()
    database = Database(home.database, [home.datasets, home.jobs])
    with database.transaction() as tx:
        add_endpoint(tx, ENDPOINT, "Bank")
        tx.execute("UPDATE endpoint SET wanted = 'stopped'")
    database.close()
    get_log_folder(home, ENDPOINT).mkdir(parents=True)
    killed = KilledHome(home.path)
    try:
        killed.client.command("set_monitor", {"endpoint": "Bank", "reference_rows": REFERENCE})
        order = [*VICTIMS, draw.choice(VICTIMS)]
        draw.shuffle(order)
        counts = dict.fromkeys(SERIES, 0)
        for number, victim in enumerate(order):
            name, problem = _round(killed, draw, number, victim, counts)
            yield Attempt(f"{number}: kill -9 of {name}", problem)
        while not _is_measured(killed, counts["requests"]):
            killed.kill("engine", [])  # the next one analyzes at once
            _looked_at(killed)
        database = killed.stop()
        try:
            yield from _left(killed, database, counts)
        finally:
            database.close()
    finally:
        killed.end()


def _round(
    killed: KilledHome, draw: random.Random, number: int, victim: str, counts: dict[str, int]
) -> tuple[str, str]:
    """Kill a process during a monitoring job; return the victim with the time, and the problem."""
    rng, first = np.random.default_rng(draw.getrandbits(32)), number * REQUESTS
    texts = bank_questions(rng, REQUESTS)
    made = Traffic(failing=0.0, start=time.time() - 86_400, every=1.0)
    requests = list(request_lines(texts, texts, made, rng, first=first))
    lines: dict[str, list[Any]] = {"requests": requests, "feedback": list(thumbs(requests, 0.4, 0.5, rng))}
    rest = {}
    for series in SERIES:
        text = "".join(json.dumps(line) + "\n" for line in lines[series])
        cut = draw.randrange(1, len(text))
        _append(killed.home, series, text[:cut])
        rest[series] = text[cut:]
        counts[series] += len(lines[series])
    after = moment(draw, MOMENT_SECONDS)
    killed.kill("engine", [])
    for series in SERIES:
        _append(killed.home, series, rest[series])
    if victim == "engine":
        return f"{victim} {after:.2f} s after half a line", ""
    if not seen(lambda: any(killed.worker(job) for job in _looks(killed)), seconds=10):
        return f"{victim} (there was no look to kill)", ""
    (look,) = _looks(killed)
    after = moment(draw, MOMENT_SECONDS)
    killed.kill(victim, [look])
    return f"{victim} {after:.2f} s into a look", killed.resumed(look)


def _append(home: Home, series: str, text: str) -> None:
    with open(get_log_folder(home, ENDPOINT) / f"{series}-000000.jsonl", "a", encoding="utf-8") as file:
        file.write(text)


def _looks(killed: KilledHome) -> list[str]:
    alive = job_queue.with_status(killed.client, sorted(ALIVE))
    return [job.job_id for job in alive if job.kind == monitors.KIND]


def _is_measured(killed: KilledHome, count: int) -> bool:
    monitor = monitors.find(killed.client, ENDPOINT)
    return bool(monitor and monitor.measured_place == monitor.next_place == count)


def _looked_at(killed: KilledHome) -> None:
    """Wait until a monitoring job is queued and has ended."""
    seen(lambda: _looks(killed), seconds=10)
    wait_until(lambda: not _looks(killed), "the end of a look")


def _left(killed: KilledHome, database: Database, counts: dict[str, int]) -> Iterator[Attempt]:
    total, rest = counts["requests"], counts["requests"] - REFERENCE
    for what, sql, expected in (
        ("requests", "SELECT count(*), count(DISTINCT request_id), max(place) + 1 FROM request", [total] * 3),
        ("by the minute", "SELECT sum(requests) FROM request_minute", [total]),
        ("by the hour", "SELECT sum(requests) FROM request_hour", [total]),
        (
            "feedback with its request",
            "SELECT count(*), count(DISTINCT feedback_id), count(version) FROM feedback",
            [counts["feedback"]] * 3,
        ),
        ("lines", "SELECT sum(lines), sum(torn) FROM log_offset", [sum(counts.values()), 0]),
        ("measured", "SELECT count(*), count(DISTINCT place) FROM request_signal", [rest] * 2),
        (
            "measured by the hour",
            "SELECT sum(c.n) FROM (SELECT unnest(counts) AS c FROM signal_hour WHERE name = 'output_length')",
            [rest],
        ),
    ):
        counted = list(database.query(sql).to_pylist()[0].values())
        yield Attempt(what, "" if counted == expected else f"{counted}, where {expected} were written")
    past = job_queue.list_of_kind(database, monitors.KIND)
    yield Attempt("looks that are kept", "" if len(past) <= 2 else f"{len(past)} of them")
    yield Attempt("what is left", ", ".join(killed.left(database)))
