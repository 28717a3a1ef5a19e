"""How long the results of a round of 50,000 ratings take, on screen and on the command line.

    python bench/screens/large_round.py [--votes 50000] [--rounds 3]

Rounds are those of `bench/made/large_round.py`: pairs of 59 models, rankings of four and labels, by 124
raters; `tunebench up` serves them. Each look is a first one: somebody is left out before it and taken in
again, so that nothing that was worked out before is of use. Seconds until whether people agree can be read,
and until `tunebench round show` has ended; limits 3 and 5 s at the median. The exit code is 1 where one is
missed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from playwright.sync_api import sync_playwright

from bench.made.large_round import make
from bench.report import Figure, Section
from bench.screens.data_page import opened
from bench.screens.first_use import BROWSER, down, up
from store.contract.home import Home
from store.documents.rating.rating_desk import RatingProtocol
from store.http.client import Client
from tunebench.terminal.processes import screens_entrance

SCREEN, COMMAND = 3.0, 5.0  # seconds
PROTOCOLS: tuple[RatingProtocol, ...] = ("pairwise", "rank", "label")
READ = "Krippendorff|Whether raters agree"


def measure(protocol: RatingProtocol, rounds: int) -> list[Figure]:
    """The screen and the command of one round, in seconds at the median."""
    client, round_id = Client(Home()), f"large-{protocol}"
    on_screen, on_command_line = [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=BROWSER)
        opened(browser, screens_entrance(Home(), "/rating"), "Many pairwise")
        for number in range(rounds):
            change = "leave_rater_out" if number % 2 == 0 else "take_rater_in"
            client.command(change, {"round": round_id, "person": "p0"})
            on_screen.append(opened(browser, screens_entrance(Home(), f"/rating?round={round_id}"), READ))
            began = time.perf_counter()
            command = [str(Path(sys.executable).with_name("tunebench")), "round", "show", round_id]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            on_command_line.append(time.perf_counter() - began)
        browser.close()
    return [
        Figure(
            f"{protocol}: on screen, median of {rounds}", statistics.median(on_screen), "s", SCREEN, "≤", 2
        ),
        Figure(f"{protocol}: on the command line", statistics.median(on_command_line), "s", COMMAND, "≤", 2),
    ]


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
