"""Fifty people rate at once, and the engine is killed again and again: how long is a rating, and is any lost?

    python bench/load/raters.py [--raters 50] [--seconds 60] [--pause 3] [--kills 100]

Each rater is a person with a token of their own who rates pair after pair over HTTP, as the screens ask for
them: what counts is the time from sending a rating until it is stored and the next pairs are there. The pause
between two is a quarter of what people take, so the load is that of two hundred. Then the engine is killed
with SIGKILL while they go on; whatever was not acknowledged is sent again. At the end every rating that was
acknowledged has to be in the store, as it was given, once.

Limit: 300 ms at the 95th percentile, nothing lost or doubled; the exit code is 1 where one is missed.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import pyarrow as pa

from engine.jobs.rounds.gather_answers import SCHEMA
from store.config.judging.round_config import RoundConfig
from store.contract.errors import EngineUnavailable, TunebenchError
from store.contract.home import Home
from store.contract.secret_text import API_TOKEN, hashed
from store.db.database import Database, utc_now
from store.http.client import Client
from store.queries import settings
from store.queries.people import tokens
from store.queries.rating import ratings, rounds

ROUND, PROMPTS = "round-bench", 2_000
P95_MS = 300.0
CHOICES = ("A", "B", "tie", "both_bad")


def prepare(home: Home, people: int) -> list[str]:
    """A store with an open round and so many raters; their tokens."""
    secrets = [f"{API_TOKEN}rater-{number}" for number in range(people)]
    config = RoundConfig.parse(
        {"name": "Bench", "models": [{"model": "One"}, {"model": "Two"}], "overlap": 3, "items": None}
    )
    words = ["a", "word", "or", "two", "of", "an", "answer", "that", "somebody", "has", "to", "read"]
    chance = random.Random(0)
    items = [
        {
            **{
                "item_id": n,
                "row_id": n,
                "prompt": '[{"role": "user", "content": "Why?"}]',
                "reference": None,
            },
            **{"answers": [" ".join(chance.choices(words, k=120)) for _ in range(2)]},
            **{"named": False, "check": None, "expected": None, "weight": 1.0},
        }
        for n in range(PROMPTS)
    ]
    database = Database(home.database, [home.datasets, home.jobs])
    with database.transaction() as tx:
        settings.set_team(tx, True)
        for number, secret in enumerate(secrets):
            person = f"person-{number}"
            tx.execute("INSERT INTO person VALUES (?, ?, 'rater', true, ?)", [person, person, utc_now()])
            row = {"token_id": f"token-{number}", "secret": hashed(secret), "person_id": person}
            tokens.add(tx, {**row, "name": "bench", "created_at": utc_now()})
        system = {"evaluation_id": None, "run_id": None, "model": "m", "checkpoint": ""}
        rounds.insert(
            tx,
            {
                **{"round_id": ROUND, "name": "Bench", "notes": "", "protocol": "pairwise"},
                **{"config": config.document(), "systems": [system | {"name": n} for n in ("One", "Two")]},
                **{"state": "open", "dataset_id": None, "item_count": PROMPTS, "details": {}},
                **{"created_by": "p", "created_by_name": "P", "created_at": utc_now()},
                **{"closed_at": None, "closed_by_name": None},
            },
            pa.Table.from_pylist(items, schema=SCHEMA),
        )
    database.close()
    return secrets


def start_engine(home: Home) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "TUNEBENCH_HOME": str(home.path), "TUNEBENCH_NO_SAMPLE": "1"}
    with open(home.logs / "engine.log", "ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "engine"],
            env=environment,
            stdout=log,
            stderr=log,
            cwd=Path(__file__).parents[2],
        )
    client = Client(home)
    while True:
        try:
            client.health()
            return process
        except EngineUnavailable:
            assert process.poll() is None, (home.logs / "engine.log").read_text()[-2000:]
            time.sleep(0.05)


class Rater(threading.Thread):
    """One person; acknowledged: task -> what was stored."""

    def __init__(self, home: Home, secret: str, pause: float, ended: threading.Event) -> None:
        super().__init__(daemon=True)
        file = home.path / f"{secret}.secret"
        file.write_text(secret)
        self.client = Client(home, secret=file)
        self.pause, self.ended = pause, ended
        self.acknowledged: dict[str, str] = {}
        self.milliseconds: list[float] = []
        self.again = 0

    def run(self) -> None:
        chance = random.Random(self.name)
        waiting: list[str] = []
        while not self.ended.is_set():
            if not waiting:
                answer = self._asked("next_rating_tasks", {"round": ROUND, "want": 20, "have": []})
                waiting = [task["task_id"] for task in answer["tasks"]]
                if not waiting:
                    return
            self.ended.wait(self.pause * chance.uniform(0.5, 1.5))
            task, choice = waiting.pop(0), chance.choice(CHOICES)
            body = {
                "round": ROUND,
                "task": task,
                "revision": 1,
                "answer": {"choice": choice},
                "have": waiting,
            }
            began = time.perf_counter()
            receipt = self._asked("rate", body | {"seconds": 1.0, "want": 20})
            self.milliseconds.append(1000 * (time.perf_counter() - began))
            self.acknowledged[task] = choice
            waiting += [each["task_id"] for each in receipt["tasks"]]

    def _asked(self, command: str, body: dict) -> dict:
        """Until somebody answers, as the browser does."""
        while True:
            try:
                return self.client.command(command, body)
            except (EngineUnavailable, TunebenchError) as error:
                if not isinstance(error, EngineUnavailable) and error.status < 500:
                    raise
                self.again += 1
                time.sleep(0.2)


def rate(home: Home, secrets: list[str], pause: float, act: object) -> list[Rater]:
    """All rate while `act` goes on."""
    ended = threading.Event()
    raters = [Rater(home, secret, pause, ended) for secret in secrets]
    for rater in raters:
        rater.start()
    act()
    ended.set()
    for rater in raters:
        rater.join(60)
        assert not rater.is_alive(), "a rater waits still"
    return raters


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--raters", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--pause", type=float, default=3.0, help="seconds between two ratings of one person")
    parser.add_argument("--kills", type=int, default=100)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Home(folder).create()
        secrets = prepare(home, arguments.raters)
        process = start_engine(home)
        quiet = rate(home, secrets, arguments.pause, lambda: time.sleep(arguments.seconds))
        times = np.array([each for rater in quiet for each in rater.milliseconds])

        def kill() -> None:
            nonlocal process
            for _ in range(arguments.kills):
                time.sleep(random.uniform(0.1, 1.0))
                process.send_signal(signal.SIGKILL)
                process.wait()
                process = start_engine(home)

        killed = rate(home, secrets, arguments.pause / 10, kill)
        process.terminate()
        process.wait(30)
        database = Database(home.database, [home.datasets, home.jobs])
        stored = {task["task_id"]: task for task in ratings.dealt(database, ROUND) if task["answer"]}
        rows, every = ratings.revisions(database, ROUND), [*quiet, *killed]
        database.close()
    given = {task: choice for rater in every for task, choice in rater.acknowledged.items()}
    lost = [
        task
        for task, choice in given.items()
        if task not in stored or stored[task]["answer"]["choice"] != choice
    ]
    p95 = float(np.percentile(times, 95))
    a_second = len(times) / arguments.seconds
    print(f"{arguments.raters} raters, {len(times):,} ratings, {a_second:.0f} a second")
    print(f"sent until stored: median {np.median(times):.0f} ms, 95% {p95:.0f} ms, most {times.max():.0f} ms")
    doubled, again = rows - len(stored), sum(rater.again for rater in killed)
    print(f"{arguments.kills} kills: {len(given):,} acknowledged, {len(lost)} lost, {doubled} doubled")
    print(f"{again:,} were sent again")
    return int(p95 > P95_MS or bool(lost) or rows != len(stored))


if __name__ == "__main__":
    sys.exit(main())
