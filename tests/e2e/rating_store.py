"""A small server with the rating desk alone, for tests in a browser: `python -m tests.e2e.rating_store PORT`.

The desk, its routes and the look are the real ones. Behind the routes a store in memory stands in for the
engine: it counts, and can be told to be slow, to fail, and to lose answers. The id of a round is its
protocol, its number of tasks and a name of the test's own, such as `pairwise-20-undo`.
"""

from __future__ import annotations

import sys
import threading
import time
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from pages.__main__ import STREAMLIT_OPTIONS, flatten_options
from pages.rating.rater.routes import build_rating_routes
from pages.shared.middleware import ScreensApp
from store.core.errors import ConfigError, EngineUnavailable, NotFoundError, StateError, TunebenchError
from tests.e2e import rating_texts

SCRIPT = Path(__file__).with_name("rating_page.py")
HOLDS = 4


class SignedOut(TunebenchError):
    """What the engine says to somebody who has left."""

    status = 403


class CountingStore:
    """Rounds that come to be when they are asked for, and every rating that was sent."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.ratings: dict[str, list[dict[str, Any]]] = {}  # by round, as stored
        self.released: list[dict[str, Any]] = []
        self.settings: dict[str, Any] = {}

    def command(self, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        time.sleep(self.settings.get("delay", 0))
        status = self.settings.get("status")
        if status == 503:
            raise EngineUnavailable("No engine runs.", fix="Start it with the command: tunebench up")
        if status == 403:
            raise SignedOut("You are signed out.")
        with self._lock:
            if name == "rate" and self.settings.get("refuse", 0) > 0:
                self.settings["refuse"] -= 1
                raise ConfigError("The comment names a model.", fix="Leave the name out.", field="comment")
            commands = {
                "next_rating_tasks": self._next, "rate": self._rate, "release_rating_tasks": self._release,
            }  # fmt: skip
            answer = commands[name](body)
            if name == "rate" and self.settings.get("lose", 0) > 0:
                self.settings["lose"] -= 1
                raise EngineUnavailable("The engine's answer broke off.")
            return answer

    def _next(self, body: Mapping[str, Any]) -> dict[str, Any]:
        round_id = body["round"]
        last = [
            {name: rating[name] for name in ("revision", "answer", "comment")}
            | {"task": self._task(round_id, rating["task"])}
            for rating in self._latest(round_id).values()
        ]
        return {
            "round": rating_texts.round_for_rater(round_id)
            | {"state": "closed" if self.settings.get("closed") else "open"},
            "tasks": self._tasks(round_id, body["have"]),
            "progress": self._progress(round_id),
            "last": last[::-1][:20],
        }

    def _rate(self, body: Mapping[str, Any]) -> dict[str, Any]:
        round_id = body["round"]
        if self.settings.get("closed"):
            raise StateError("The round was closed at noon.", fix="Ask who opened it.")
        if body["task"] not in {task["task_id"] for task in rating_texts.tasks(round_id)}:
            raise NotFoundError("There is no such task.")
        before = self._latest(round_id).get(body["task"])
        already = before is not None and before["revision"] >= body["revision"]
        if not already:
            self.ratings.setdefault(round_id, []).append(dict(body))
        revision = self._latest(round_id)[body["task"]]["revision"]
        return {
            "stored": True, "revision": revision, "already": already,
            "progress": self._progress(round_id), "tasks": self._tasks(round_id, body["have"]),
        }  # fmt: skip

    def _release(self, body: Mapping[str, Any]) -> dict[str, Any]:
        self.released.append(dict(body))
        return {"released": 0}

    def _latest(self, round_id: str) -> dict[str, dict[str, Any]]:
        """The newest revision of each task, in the order of rating."""
        latest: dict[str, dict[str, Any]] = {}
        for rating in self.ratings.get(round_id, []):
            latest.pop(rating["task"], None)
            latest[rating["task"]] = rating
        return latest

    def _task(self, round_id: str, task_id: str) -> dict[str, Any]:
        return next(task for task in rating_texts.tasks(round_id) if task["task_id"] == task_id)

    def _tasks(self, round_id: str, have: list[str]) -> list[dict[str, Any]]:
        away = {*have, *self._latest(round_id), *self.settings.get("held", [])}
        open_tasks = [task for task in rating_texts.tasks(round_id) if task["task_id"] not in away]
        return open_tasks[: HOLDS - len(have)]

    def _progress(self, round_id: str) -> dict[str, Any]:
        done = len(self._latest(round_id))
        return {
            "done": done, "total": len(rating_texts.tasks(round_id)), "seconds_each": 12.5 if done else None,
        }  # fmt: skip


def main() -> None:
    store = CountingStore()

    async def settings(request: Request) -> JSONResponse:
        store.settings = await request.json()
        return JSONResponse({})

    async def ratings(request: Request) -> JSONResponse:
        return JSONResponse(store.ratings.get(request.query_params["round"], []))

    async def released(request: Request) -> JSONResponse:
        return JSONResponse(
            [each for each in store.released if each["round"] == request.query_params["round"]]
        )

    routes = [
        *build_rating_routes(lambda _: store),
        Route("/store/released", released, methods=["GET"]),
        Route("/store/settings", settings, methods=["PUT"]),
        Route("/store/ratings", ratings, methods=["GET"]),
    ]
    options = flatten_options(tomllib.loads(STREAMLIT_OPTIONS.read_text(encoding="utf-8")))
    address = {"server.address": "127.0.0.1", "server.port": int(sys.argv[1])}
    ScreensApp(SCRIPT, routes=routes).run(config=options | address)


if __name__ == "__main__":
    main()
