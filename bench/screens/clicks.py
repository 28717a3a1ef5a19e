"""Time from a click to a settled page: a search, a bar of a histogram, a box on the map, in a browser.

    python bench/screens/clicks.py [--rows 200000] [--rounds 7]

Rows and sidecars are those of `bench/made/million_rows.py`; `tunebench up` serves them. Each round does
something new, so that nothing is cached. A page is settled when the requested content can be read, no part
waits for the server, and nothing changes for a while (which does not count). Limits at the median: search
and bar 0.7 s, box 2 s; the exit code is 1 if one is missed. The first round warms the caches and does not
count.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from playwright.sync_api import Locator, Page, sync_playwright

from bench.made.million_rows import make
from bench.report import Figure, Section
from bench.screens.first_use import BROWSER, down, up
from store.core.home import Home
from tunebench.terminal.processes import find_screens_address

CLICK_SECONDS, BOX_SECONDS = 0.7, 2.0
# Pairs of letters: words of the rows are random, and up to a third of the rows contain a pair.
SEARCHES = ("ab", "qu", "ix", "zo", "ke", "wy", "fu", "og", "th", "pl", "ru", "yn")
SETTLED = """([text, quiet]) => new Promise((resolve) => {
  const began = performance.now();
  const idle = () => document.querySelector('[data-testid="stApp"]')?.dataset.testScriptState === "notRunning"
    && !document.querySelector('[data-stale="true"]')
    && document.querySelector('[data-testid="stMain"]').innerText !== text;
  let since = null;
  new MutationObserver(() => { if (since !== null) since = performance.now(); })
    .observe(document.body, {childList: true, subtree: true, characterData: true});
  const look = () => {
    const now = performance.now();
    if (!idle()) since = null;
    else if (since === null) since = now;
    if (since !== null && now - since > quiet) resolve((since - began) / 1000);
    else requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
})"""
QUIET_MS = 400  # longer than a page waits before its next request


class Screen:
    """The page of the data set in a browser tab."""

    def __init__(self, page: Page) -> None:
        self._page = page

    def settled(self, text: str) -> float:
        """Return the seconds until the page's text differs from `text` and has stopped changing."""
        seconds: float = self._page.evaluate(SETTLED, [text, QUIET_MS])
        return seconds

    def text(self) -> str:
        """Return all visible text of the page."""
        return self._page.locator('[data-testid="stMain"]').inner_text()

    def search(self, words: str) -> float:
        """Return the seconds from pressing Enter in the search box."""
        box = self._page.get_by_placeholder("Search in the text")
        box.fill("")
        box.press("Enter")
        self._page.wait_for_timeout(2_000)
        before = self.text()
        box.fill(words)
        box.press("Enter")
        return self.settled(before)

    def bar(self, place: int) -> float:
        """Return the seconds from a click on a bar of the second histogram; the filter is removed
        afterwards.
        """
        before = self.text()
        self._bars().nth(place).click(force=True)
        seconds = self.settled(before)
        self._page.locator('[class*="st-key-filter-chips"] button').first.click()
        self._page.wait_for_timeout(2_000)
        return seconds

    def _bars(self) -> Locator:
        return self._page.locator(".js-plotly-plot").nth(1).locator(".bars .point path")

    def box(self, place: int) -> float:
        """Return the seconds from releasing the mouse after drawing a box on the map."""
        area = self._page.locator(".js-plotly-plot .nsewdrag").first
        area.scroll_into_view_if_needed()
        bounds = area.bounding_box()
        assert bounds
        left = bounds["x"] + bounds["width"] * (0.2 + 0.03 * place)
        top = bounds["y"] + bounds["height"] * (0.2 + 0.02 * place)
        mouse = self._page.mouse
        mouse.move(left, top)
        mouse.down()
        mouse.move(left + bounds["width"] * 0.2, top + bounds["height"] * 0.2, steps=4)
        before = self.text()
        mouse.up()
        seconds = self.settled(before)
        self._page.wait_for_timeout(1_000)
        return seconds


def measure(rows: int, rounds: int) -> list[Figure]:
    """Return the median seconds of each click."""
    process, _ = up()
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=BROWSER)
            page = browser.new_page(viewport={"width": 1440, "height": 1400})
            screen = Screen(page)
            page.goto(find_screens_address(Home(), '/data?dataset=data-bench&filter={"search":""}'))
            page.get_by_text(re.compile(f"Rows 1 to 20 of {rows:,}")).first.wait_for(timeout=60_000)
            page.wait_for_timeout(3_000)
            searches = [screen.search(words) for words in SEARCHES[: rounds + 1]][1:]
            page.goto(find_screens_address(Home(), '/data?dataset=data-bench&filter={"search":""}'))
            page.locator(".js-plotly-plot").nth(1).wait_for(timeout=60_000)
            page.wait_for_timeout(3_000)
            bars = [screen.bar(place) for place in range(rounds + 1)][1:]
            page.get_by_role("tab", name="Map").click()
            page.get_by_text(re.compile("rows drawn")).wait_for(timeout=60_000)
            page.wait_for_timeout(5_000)
            boxes = [screen.box(place) for place in range(rounds + 1)][1:]
            browser.close()
    finally:
        down(process)
    taken = (
        ("a search, from Enter", searches, CLICK_SECONDS),
        ("a click on a bar", bars, CLICK_SECONDS),
        ("a box on the map, from letting go", boxes, BOX_SECONDS),
    )
    return [
        Figure(f"{name} (median of {len(seconds)}, {min(seconds):.2f} to {max(seconds):.2f})",
               statistics.median(seconds), "s", limit, "≤", 2)
        for name, seconds, limit in taken
    ]  # fmt: skip


def main() -> int:
    """Print the table; return 1 if a click took too long."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="tunebench-bench-"))
    os.environ |= {"TUNEBENCH_HOME": str(folder), "TUNEBENCH_NO_SAMPLE": "1"}
    try:
        make(Home(folder).create(), arguments.rows, mapped=True)
        figures = measure(arguments.rows, arguments.rounds)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    Section(f"From a click to a settled page, {arguments.rows:,} rows", figures).show()
    return int(any(figure.missed for figure in figures))


if __name__ == "__main__":
    sys.exit(main())
