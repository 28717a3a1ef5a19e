"""Fifty people rating at once, with the engine killed repeatedly: time per rating, and lost ratings.

    python bench/load/raters.py [--raters 50] [--seconds 60] [--pause 3] [--kills 100]

Each rater is a person with their own token who rates pair after pair over HTTP, as the screens request
them: the measure is the time from sending a rating until it is stored and the next pairs are there. The
pause between two is a quarter of people's, so the load is that of two hundred. Then the engine is killed
with SIGKILL meanwhile; unacknowledged ratings are sent again. At the end every acknowledged rating must be
in the store, as it was given, once.

Limit: 300 ms at the 95th percentile, nothing lost or duplicated; the exit code is 1 if one is missed.

    python bench/load/raters.py --browsers 3 [--items 100] [--kills 0]

People rate on the rating page itself, each in their own Chromium signed in to real screens of a real
engine: the measures are the time from a key press until the next item is painted, and that the stored
ratings are those pressed, key by key. Limit: a median of 100 ms, nothing lost, duplicated or stored for an
item that was not on screen.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from store.core.rating_schemas import Round, RoundDetails, RoundSystem

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import pyarrow as pa
from playwright.sync_api import Page, expect, sync_playwright

from engine.rating.jobs.gather_answers import SCHEMA
from pages.shared.engine_client import build_session_name
from store.core.errors import EngineUnavailable, TunebenchError
from store.core.home import Home
from store.db.database import Database, utc_now
from store.http.access import API_TOKEN, hash_secret, read_secret
from store.http.client import Client
from store.people import accounts, settings
from store.rating import ratings, rounds
from store.rating.config import RoundConfig
from tests.e2e.rating_server import EARLY, PRESSED, WATCH
from tests.e2e.started_app import BROWSER_ARGS, screens_of, wait_until

ROUND, PROMPTS = "round-bench", 2_000
HELD = 4  # tasks held by a page
P95_MS = 300.0
MEDIAN_PAINTED_MS = 100.0
READS_MS = (450, 900)  # minimum and maximum time that a person looks at an item
CHOICES = ("A", "B", "tie", "both_bad")


def prepare(home: Home, people: int) -> list[str]:
    """Create a store with an open round and this number of raters; return their tokens."""
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
            row = {"token_id": f"token-{number}", "secret": hash_secret(secret), "person_id": person}
            accounts.add_token(tx, {**row, "name": "bench", "created_at": utc_now()})
            seen = {"address": "", "agent": "", "created_at": utc_now(), "seen_at": utc_now()}
            accounts.add_session(
                tx,
                {
                    "session_id": f"session-{number}",
                    "secret": hash_secret(secret),
                    "person_id": person,
                    **seen,
                },
            )
        rounds.insert(tx, _build_round(config), pa.Table.from_pylist(items, schema=SCHEMA))
    database.close()
    return secrets


def _build_round(config: RoundConfig) -> Round:
    systems = [
        RoundSystem(name=name, evaluation_id=None, run_id=None, model="m", checkpoint="")
        for name in ("One", "Two")
    ]
    details = RoundDetails(
        rows=PROMPTS, drawn=PROMPTS, named=0, left_out=0, empty=0, same=0, gold=0, notices=[]
    )
    return Round(
        round_id=ROUND, name="Bench", notes="", protocol="pairwise", config=config.document(),
        systems=systems, state="open", dataset_id=None, item_count=PROMPTS, details=details,
        created_by="p", created_by_name="P", created_at=utc_now(), closed_at=None, closed_by_name=None,
    )  # fmt: skip


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
    """A rater. acknowledged: task -> rating acknowledged by the engine."""

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
                answer = self._asked("next_rating_tasks", {"round": ROUND, "want": HELD, "have": []})
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
            receipt = self._asked("rate", body | {"seconds": 1.0, "want": HELD})
            self.milliseconds.append(1000 * (time.perf_counter() - began))
            self.acknowledged[task] = choice
            waiting += [each["task_id"] for each in receipt["tasks"]]

    def _asked(self, command: str, body: dict) -> dict:
        """Send a command, retrying until there is a response, as the browser does."""
        while True:
            try:
                return self.client.command(command, body)
            except (EngineUnavailable, TunebenchError) as error:
                if not isinstance(error, EngineUnavailable) and error.status < 500:
                    raise
                self.again += 1
                time.sleep(0.2)


def rate(home: Home, secrets: list[str], pause: float, act: object) -> list[Rater]:
    """Let all raters rate while `act` runs."""
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


def rate_in_browsers(home: Home, secrets: list[str], items: int, kills: int) -> int:
    """Let each rater use a separate browser; return the exit code."""
    engines = [start_engine(home)]
    seated = threading.Barrier(len(secrets) + 1)

    def kill() -> None:
        seated.wait()
        for _ in range(kills):
            time.sleep(random.uniform(4.0, 12.0))
            engines[-1].send_signal(signal.SIGKILL)
            engines[-1].wait()
            engines.append(start_engine(home))

    with screens_of(home) as address, ThreadPoolExecutor(len(secrets) + 1) as threads:
        killing = threads.submit(kill)
        raters = [threads.submit(_rate_at_a_desk, home, address, secret, items, seated) for secret in secrets]
        sittings = [rater.result() for rater in raters]
        killing.result()
    engines[-1].terminate()
    engines[-1].wait(30)
    database = Database(home.database, [home.datasets, home.jobs])
    rated = [task for task in ratings.dealt(database, ROUND) if task.answer]
    rows = ratings.count_revisions(database, ROUND)
    database.close()
    wrong = 0
    for number, (pressed, _, _) in enumerate(sittings):
        own = [task for task in rated if task.person_name == f"person-{number}"]
        stored = [str(task.answer["choice"]) for task in sorted(own, key=lambda task: str(task.rated_at))]
        wrong += stored != pressed
    counted = sum(len(pressed) for pressed, _, _ in sittings)
    times = np.array([each for _, milliseconds, _ in sittings for each in milliseconds])
    median, p95, most = float(np.median(times)), np.percentile(times, 95), times.max()
    print(f"{len(secrets)} browsers, {counted} presses that count, {len(rated)} items rated, {rows} stored")
    print(f"key until the next is painted: median {median:.0f} ms, 95% {p95:.0f} ms, most {most:.0f} ms")
    refused = sum(early for _, _, early in sittings)
    print(f"{kills} kills; {refused} presses too early; {wrong} people with others than they pressed")
    return int(median > MEDIAN_PAINTED_MS or wrong > 0 or not counted == len(rated) == rows)


def _rate_at_a_desk(
    home: Home, address: str, secret: str, items: int, seated: threading.Barrier
) -> tuple[list[str], list[float], int]:
    """Return the counted presses, the milliseconds of each, and the number of presses that came too early."""
    chance = random.Random(secret)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=BROWSER_ARGS)
        context = browser.new_context(viewport={"width": 1440, "height": 900})
        name = build_session_name(read_secret(home.screens_secret))
        context.add_cookies([{"name": name, "value": secret, "url": address}])
        page = context.new_page()
        page.add_init_script(PRESSED)
        page.goto(f"{address}/rating?round={ROUND}&view=rate")
        expect(page.get_by_role("button", name="A is better")).to_be_visible(timeout=60_000)
        seated.wait()
        page.evaluate(WATCH)
        pressed: list[str] = []
        early = 0
        while len(pressed) < items:
            choice = chance.choice("ab")
            page.wait_for_timeout(chance.uniform(*READS_MS))
            if not page.locator(".desk.rating").count():
                continue  # the page reports that the engine is unavailable
            page.keyboard.press(choice)
            if page.locator(".notice", has_text=EARLY).count():
                early += 1
            else:
                pressed.append(choice.upper())
        wait_until(lambda: _unsent(page) == 0, 60, "all is stored")
        laps: list[float] = page.evaluate("window.laps")
        browser.close()
    return pressed, laps, early


def _unsent(page: Page) -> int:
    """Return the number of ratings in the browser that are not stored yet."""
    names = "Object.keys(localStorage).filter((name) => name.startsWith('tunebench-rating:'))"
    return int(page.evaluate(f"{names}.length"))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--raters", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--pause", type=float, default=3.0, help="seconds between two ratings of one person")
    parser.add_argument("--kills", type=int, help="100, and of browsers none")
    parser.add_argument("--browsers", type=int, default=0, help="so many people at the desk itself")
    parser.add_argument("--items", type=int, default=100, help="that each of them rates")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Home(folder).create()
        if arguments.browsers:
            secrets = prepare(home, arguments.browsers)
            return rate_in_browsers(home, secrets, arguments.items, arguments.kills or 0)
        kills = 100 if arguments.kills is None else arguments.kills
        secrets = prepare(home, arguments.raters)
        process = start_engine(home)
        quiet = rate(home, secrets, arguments.pause, lambda: time.sleep(arguments.seconds))
        times = np.array([each for rater in quiet for each in rater.milliseconds])

        def kill() -> None:
            nonlocal process
            for _ in range(kills):
                time.sleep(random.uniform(0.1, 1.0))
                process.send_signal(signal.SIGKILL)
                process.wait()
                process = start_engine(home)

        killed = rate(home, secrets, arguments.pause / 10, kill)
        process.terminate()
        process.wait(30)
        database = Database(home.database, [home.datasets, home.jobs])
        stored = {task.task_id: task for task in ratings.dealt(database, ROUND) if task.answer}
        rows, every = ratings.count_revisions(database, ROUND), [*quiet, *killed]
        database.close()
    given = {task: choice for rater in every for task, choice in rater.acknowledged.items()}
    lost = [
        task
        for task, choice in given.items()
        if task not in stored or stored[task].answer["choice"] != choice
    ]
    p95 = float(np.percentile(times, 95))
    a_second = len(times) / arguments.seconds
    print(f"{arguments.raters} raters, {len(times):,} ratings, {a_second:.0f} a second")
    print(f"sent until stored: median {np.median(times):.0f} ms, 95% {p95:.0f} ms, most {times.max():.0f} ms")
    doubled, again = rows - len(stored), sum(rater.again for rater in killed)
    print(f"{kills} kills: {len(given):,} acknowledged, {len(lost)} lost, {doubled} doubled")
    print(f"{again:,} were sent again")
    return int(p95 > P95_MS or bool(lost) or rows != len(stored))


if __name__ == "__main__":
    sys.exit(main())
