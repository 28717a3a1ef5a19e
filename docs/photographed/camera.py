"""A window over the app, and its pictures; and where both are told to people at the terminal."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Never

from PIL import Image
from playwright.sync_api import Locator, Page, ViewportSize, expect

from bench.screens.clicks import SETTLED
from tests.e2e.started_app import App

FOLDER = Path(__file__).parent.parent / "pictures"
SIZE: ViewportSize = {"width": 1440, "height": 900}
HEADER = "4.5rem"  # of the window: it lies over what is scrolled under it
MAX_BYTES = 200 * 1024
QUIET_MS = 700  # a page that says nothing new for so long is taken
SHORT, LONG = 300.0, 3600.0  # seconds that a job may take: one of the data, one of a model


def say(words: str) -> None:
    """What is being done, with the time."""
    print(f"{time.strftime('%H:%M:%S')}  {words}", flush=True)


def missing(name: str) -> Never:
    """Ends it all: what was to be made is not there."""
    raise SystemExit(f"There is no {name}.")


class Camera:
    """A browser window over the app, and the pictures that it takes."""

    def __init__(self, page: Page, app: App, only: list[str]) -> None:
        self.page = page
        self._app = app
        self._only = only

    def go(self, path: str) -> Page:
        """Open a screen."""
        self.page.goto(f"{self._app.address}{path}")
        return self.page

    def tab(self, name: str) -> None:
        """Open a tab of the page."""
        self.page.get_by_role("tab", name=name).first.click()

    def take(self, name: str, *shows: Locator, top: Locator | None = None) -> None:
        """The window as a picture, once `shows` are there and nothing moves; `top` is at its top."""
        if self._only and name not in self._only:
            return
        for locator in shows:
            locator.first.wait_for(timeout=SHORT * 1000)
        self.still()
        top_block = self.page.get_by_test_id("stMainBlockContainer") if top is None else top.first
        top_block.evaluate(f"e => {{ e.style.scrollMarginTop = '{HEADER}'; e.scrollIntoView(); }}")
        self.page.mouse.move(SIZE["width"] - 5, SIZE["height"] - 5)  # where it points at nothing
        self.still()
        path = FOLDER / f"{name}.png"
        self.page.screenshot(path=path)
        with Image.open(path) as picture:
            opaque = picture.convert("RGB")
        opaque.save(path, optimize=True)
        if path.stat().st_size > MAX_BYTES:  # a palette takes colours from small dots
            opaque.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
        say(f"  {path.name}: {path.stat().st_size / 1024:.0f} KiB")

    def still(self) -> None:
        """No part of the page waits for the server, no message lies over it, and nothing changes."""
        for waiting in ("stSpinner", "stSkeleton", "stToast"):
            expect(self.page.get_by_test_id(waiting)).to_have_count(0, timeout=SHORT * 1000)
        self.page.evaluate(SETTLED, ["\0", QUIET_MS])

    def text(self, words: str) -> Locator:
        """Where the page says `words`."""
        return self.page.get_by_text(words)

    def button(self, name: str) -> Locator:
        """The button with that name."""
        return self.page.get_by_role("button", name=name)


def charts(page: Page) -> Locator:
    """Charts that are drawn."""
    return page.locator(".js-plotly-plot .main-svg")
