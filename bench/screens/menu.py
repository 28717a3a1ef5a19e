"""Time from a click in the menu to a settled page, with a thousand runs over sixty data sets, in a browser.

    python bench/screens/menu.py [--rounds 8]

Every page of the menu is opened in turn, round after round; the first round imports the pages and does not
count. A page is settled when it shows something else, no part waits for the server, and nothing changes
for a while (which does not count). Limit at the median: 0.7 s; the exit code is 1 if one is missed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from playwright.sync_api import Page, sync_playwright

from bench.report import Figure, Section
from bench.screens.clicks import CLICK_SECONDS, Screen
from bench.screens.first_use import BROWSER, down, up
from store.core.home import Home
from tests.pages.seeds.seed import seed
from tunebench.terminal.processes import find_screens_address

PAGES = ("Data sets", "Launch", "Runs", "Compare", "Evaluations", "Overview")


def click(page: Page, name: str) -> float:
    """Return the seconds from a click on a menu entry until its page has stopped changing."""
    screen = Screen(page)
    before = screen.text()
    page.get_by_test_id("stSidebarNav").get_by_role("link", name=name).click()
    return screen.settled(before)


def measure(rounds: int) -> list[Figure]:
    """Return the median seconds of each page."""
    process, _ = up()
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=BROWSER)
            page = browser.new_page(viewport={"width": 1440, "height": 900})
            page.goto(find_screens_address(Home(), "/"))
            page.get_by_role("button", name="New run").first.wait_for(timeout=60_000)
            taken = [[click(page, name) for name in PAGES] for _ in range(rounds + 1)][1:]
            browser.close()
    finally:
        down(process)
    return [
        Figure(f"{name} (median of {rounds}, {min(seconds):.2f} to {max(seconds):.2f})",
               statistics.median(seconds), "s", CLICK_SECONDS, "≤", 2)
        for name, seconds in zip(PAGES, zip(*taken, strict=True), strict=True)
    ]  # fmt: skip


def main() -> int:
    """Print the table; return 1 if a page took too long."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=8)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="tunebench-bench-"))
    os.environ |= {"TUNEBENCH_HOME": str(folder / "home"), "TUNEBENCH_NO_SAMPLE": "1"}
    try:
        seed(folder / "home", runs=1000, sets=60, probed=True)
        figures = measure(arguments.rounds)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    Section("From a click in the menu to a settled page, 1,000 runs", figures).show()
    return int(any(figure.missed for figure in figures))


if __name__ == "__main__":
    sys.exit(main())
