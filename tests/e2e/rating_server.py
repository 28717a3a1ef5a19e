"""The desk's page over a store that is told how to behave, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import Locator, Page, expect

from tests.e2e.started_app import pick_port, wait_until

ROOT = Path(__file__).parents[2]


class RatingServer:
    """`tests.e2e.rating_store`, and what its store has."""

    def __init__(self) -> None:
        self.port = pick_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self.http = httpx.Client(base_url=self.address, trust_env=False)
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.e2e.rating_store", str(self.port)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        wait_until(self.answers, 60, "the server answers")

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()

    def answers(self) -> bool:
        try:
            return self.http.get("/_stcore/health").status_code == 200
        except httpx.TransportError:
            return False

    def set(self, **settings: object) -> None:
        """How the store behaves from now on; nothing: as it should."""
        self.http.put("/store/settings", json=settings)

    def ratings(self, round_id: str) -> list[dict[str, Any]]:
        """As stored, in their order."""
        ratings: list[dict[str, Any]] = self.http.get("/store/ratings", params={"round": round_id}).json()
        return ratings

    def released(self, round_id: str) -> list[dict[str, Any]]:
        """What pages that were left have let go."""
        released: list[dict[str, Any]] = self.http.get("/store/released", params={"round": round_id}).json()
        return released

    def answers_of(self, round_id: str) -> list[object]:
        return [rating["answer"] for rating in self.ratings(round_id)]


# Before the page's own listeners, which may keep a key to themselves.
PRESSED = "window.addEventListener('keydown', () => { window.pressed = performance.now() }, true)"
# From a key until the frame that shows another task is painted.
WATCH = """() => {
    window.laps = [];
    const roots = [...document.querySelectorAll("*")].map((host) => host.shadowRoot);
    const root = roots.find((shadow) => shadow?.querySelector(".desk"));
    new MutationObserver(() => requestAnimationFrame(() => setTimeout(() => {
        if (window.pressed) window.laps.push(performance.now() - window.pressed);
        window.pressed = 0;
    }))).observe(root.querySelector(".work"), {childList: true});
}"""
EARLY = "Not counted: the key was pressed too soon"
# By the page's own clock, which begins once a frame is painted: a busy machine paints late.
READ = """() => new Promise((done) =>
    requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 420))))"""


def read(page: Page) -> None:
    """Wait until a press counts for what is on screen now."""
    page.evaluate(READ)


def press(page: Page, *keys: str) -> None:
    """Press keys as somebody who reads first: each once it counts for what is on screen."""
    for key in keys:
        read(page)
        page.keyboard.press(key)
        while page.locator(".notice", has_text=EARLY).count():  # the task came while it was waited
            read(page)
            page.keyboard.press(key)


def build_choices(*letters: str) -> list[dict[str, str]]:
    """The answers of a pairwise round, one for each letter."""
    return [{"choice": letter} for letter in letters]


def open_round(page: Page, server: RatingServer, round_id: str, also: str = "") -> Locator:
    page.goto(f"{server.address}/?round={round_id}{also}")
    desk = page.locator(".desk.rating")
    expect(desk).to_be_visible()
    return desk
