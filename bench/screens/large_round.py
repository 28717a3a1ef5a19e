"""Time to the results of a round of 50,000 ratings, on screen and on the command line.

    python bench/screens/large_round.py [--votes 50000] [--rounds 3]

Rounds are those of `bench/made/large_round.py`: pairs of 59 models, rankings of four and labels, by 124
raters; `tunebench up` serves them. Each view is a first one: another rater is excluded before it, so that
no cached result applies. The time is measured until the agreement can be read, by a click in the list of
rounds, limit 3 s at the median, and by the round's address in a new browser, which loads the screens
first; and until `tunebench round show` has ended, limit 5 s. The exit code is 1 if a limit is missed.
"""

from __future__ import annotations

import argparse
import itertools
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from playwright.sync_api import Page, sync_playwright

from bench.made.large_round import make
from bench.report import Figure, Section
from bench.screens.data_page import opened
from bench.screens.first_use import BROWSER, down, up
from store.core.home import Home
from store.core.rating_schemas import RatingProtocol
from store.http.client import Client
from tunebench.terminal.processes import find_screens_address

SCREEN, COMMAND = 3.0, 5.0  # seconds
PROTOCOLS: tuple[RatingProtocol, ...] = ("pairwise", "rank", "label")
READ = "Krippendorff|Whether raters agree"


def measure(protocol: RatingProtocol, rounds: int) -> list[Figure]:
    """Return the median seconds of the screen and the command for one round."""
    client, round_id = Client(Home()), f"large-{protocol}"
    numbers = itertools.count()
    by_click, by_address, on_command_line = [], [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=BROWSER)
        listed = browser.new_page(viewport={"width": 1440, "height": 900})
        for _ in range(rounds):
            _leave_out(client, round_id, next(numbers))
            by_click.append(clicked(listed, f"Many {protocol}"))
            _leave_out(client, round_id, next(numbers))
            by_address.append(
                opened(browser, find_screens_address(Home(), f"/rating?round={round_id}"), READ)
            )
            _leave_out(client, round_id, next(numbers))
            began = time.perf_counter()
            command = [str(Path(sys.executable).with_name("tunebench")), "round", "show", round_id]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            on_command_line.append(time.perf_counter() - began)
        browser.close()
    middle = {name: statistics.median(seconds) for name, seconds in
              (("click", by_click), ("address", by_address), ("command", on_command_line))}  # fmt: skip
    return [
        Figure(f"{protocol}: by a click, median of {rounds}", middle["click"], "s", SCREEN, "≤", 2),
        Figure(f"{protocol}: by its address", middle["address"], "s", digits=2),
        Figure(f"{protocol}: on the command line", middle["command"], "s", COMMAND, "≤", 2),
    ]


def _leave_out(client: Client, round_id: str, number: int) -> None:
    client.command("leave_rater_out", {"round": round_id, "person": f"p{number}"})


def clicked(page: Page, name: str) -> float:
    """Return the seconds from the click on the round's name in the list until its results are visible."""
    page.goto(find_screens_address(Home(), "/rating"))
    link = page.get_by_role("link", name=name).first
    link.wait_for()
    began = time.perf_counter()
    link.click()
    page.get_by_text(re.compile(READ)).first.wait_for(timeout=60_000)
    return time.perf_counter() - began


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--votes", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="tunebench-bench-"))
    os.environ |= {"TUNEBENCH_HOME": str(folder), "TUNEBENCH_NO_SAMPLE": "1"}
    try:
        home = Home(folder).create()
        for protocol in PROTOCOLS:
            make(home, arguments.votes, protocol, f"large-{protocol}")
        process, _ = up()
        try:
            figures = [figure for protocol in PROTOCOLS for figure in measure(protocol, arguments.rounds)]
        finally:
            down(process)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    Section(f"Results of {arguments.votes:,} ratings", figures).show()
    return int(any(figure.missed for figure in figures))


if __name__ == "__main__":
    sys.exit(main())
