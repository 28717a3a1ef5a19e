"""Time to open the page of a data set of a million rows in a browser.

    python bench/screens/data_page.py [--rows 1000000] [--rounds 5]

Rows and sidecars are those of `bench/made/million_rows.py`; `tunebench up` serves them. A round opens the
page in a new tab, once at its summary and once at its rows, until they can be read. Limit: 2 s at the
median; the exit code is 1 if it is missed. The first round warms the caches and does not count.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from playwright.sync_api import Browser, sync_playwright

from bench.made.million_rows import make
from bench.report import Figure, Section
from bench.screens.first_use import BROWSER, down, up
from store.core.home import Home
from tunebench.terminal.processes import find_screens_address

SECONDS = 2.0


def opened(browser: Browser, address: str, pattern: str) -> float:
    """Return the seconds from the request until text that matches `pattern` is visible."""
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    began = time.perf_counter()
    page.goto(address)
    page.get_by_text(re.compile(pattern)).first.wait_for(timeout=60_000)
    seconds = time.perf_counter() - began
    page.close()
    return seconds


def measure(rows: int, rounds: int) -> list[Figure]:
    """Return the median seconds of both ways to open the page."""
    link = "/data?dataset=data-bench"
    ways = {
        "its summary": (link, "in their healthy range|outside (its|their) healthy range"),
        "its rows": (f'{link}&filter={{"search":""}}', f"Rows 1 to 20 of {rows:,}"),
    }
    process, _ = up()
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=BROWSER)
            taken = {
                name: [
                    opened(browser, find_screens_address(Home(), path), pattern) for _ in range(rounds + 1)
                ][1:]
                for name, (path, pattern) in ways.items()
            }
            browser.close()
    finally:
        down(process)
    return [
        Figure(f"open {name}, median of {rounds}", statistics.median(seconds), "s", SECONDS, "≤", 2)
        for name, seconds in taken.items()
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="tunebench-bench-"))
    os.environ |= {"TUNEBENCH_HOME": str(folder), "TUNEBENCH_NO_SAMPLE": "1"}
    try:
        make(Home(folder).create(), arguments.rows)
        figures = measure(arguments.rows, arguments.rounds)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    Section(f"The page of {arguments.rows:,} rows", figures).show()
    return int(any(figure.missed for figure in figures))


if __name__ == "__main__":
    sys.exit(main())
