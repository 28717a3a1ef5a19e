"""How many tabs are let in, what one too many is told, and that what a closed one had goes in time."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect
from streamlit.runtime.caching.ttl_cache import TTLCache
from streamlit.runtime.memory_session_storage import MemorySessionStorage

from pages.shared.middleware import (
    HEALTH_PATH,
    MAX_SESSIONS,
    RESERVED_DESCRIPTORS,
    STREAM_PATH,
    SessionLimit,
    compute_max_sessions,
    expire_disconnected_sessions,
)
from store.core.processes import MAX_DESCRIPTORS

CONFIG = "/_stcore/host-config"


async def _live(socket: WebSocket) -> None:
    await socket.accept()
    await socket.send_text("inside")
    await socket.receive()


async def _fail(socket: WebSocket) -> None:
    raise RuntimeError("a fault")


async def _answer(request: Request) -> PlainTextResponse:
    return PlainTextResponse("inside")


def browser(limit: int, live: Any = _live) -> TestClient:
    routes = [
        WebSocketRoute(STREAM_PATH, live),
        WebSocketRoute("/other", _live),
        Route("/{path:path}", _answer),
    ]
    return TestClient(Starlette(routes=routes, middleware=[Middleware(SessionLimit, limit=limit)]))


def test_one_tab_too_many_is_refused_and_told_why_until_another_closes() -> None:
    with browser(2) as client:
        first, second = client.websocket_connect(STREAM_PATH), client.websocket_connect(STREAM_PATH)
        with first:
            with second:
                assert (first.receive_text(), second.receive_text()) == ("inside", "inside")
                with pytest.raises(WebSocketDisconnect) as refused, client.websocket_connect(STREAM_PATH):
                    pass
                assert refused.value.code == 1013
                for path in (
                    CONFIG,
                    f"/rating{CONFIG}",
                    f"/rating{HEALTH_PATH}",
                ):  # a page tries its own path too
                    answer = client.get(path)
                    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
                    assert answer.json().startswith("2 tabs of Tunebench are open")
                assert client.get(HEALTH_PATH).text == "inside"  # the process is well
                with client.websocket_connect("/other") as other:
                    assert other.receive_text() == "inside"
            assert client.get(CONFIG).text == "inside"
            with client.websocket_connect(STREAM_PATH) as third:
                assert third.receive_text() == "inside"


def test_a_connection_that_fails_gives_its_place_back() -> None:
    with browser(1, _fail) as client:
        for _ in range(3):
            with pytest.raises(RuntimeError), client.websocket_connect(STREAM_PATH):
                pass
        assert client.get(CONFIG).text == "inside"


@pytest.mark.parametrize(
    ("descriptors", "sessions"),
    [(64, 1), (RESERVED_DESCRIPTORS, 1), (264, 2), (1024, 192), (MAX_DESCRIPTORS, MAX_SESSIONS)],
)
def test_descriptors_bound_the_tabs(descriptors: int, sessions: int) -> None:
    assert compute_max_sessions(descriptors) == sessions


class Loop:
    """A clock, and what is to be done later."""

    def __init__(self) -> None:
        self.now = 0.0
        self.later: list[tuple[float, Callable[[], None]]] = []

    def call_later(self, seconds: float, call: Callable[..., None], *arguments: Any) -> None:
        self.later.append((self.now + seconds, lambda: call(*arguments)))

    def go_on(self, seconds: float) -> None:
        self.now += seconds
        due = [call for at, call in self.later if at <= self.now]
        self.later = [(at, call) for at, call in self.later if at > self.now]
        for call in due:
            call()


class Kept:
    """A session of a tab that is gone, as the storage is given it."""

    def __init__(self, name: str, ended: list[str]) -> None:
        self.session, self.id, self._ended = self, name, ended

    def shutdown(self) -> None:
        self._ended.append(self.id)


def test_a_kept_session_ends_when_its_time_is_over_unless_its_tab_came_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop, ended = Loop(), []  # type: tuple[Loop, list[str]]
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: loop)
    monkeypatch.setattr(MemorySessionStorage, "save", MemorySessionStorage.save)
    expire_disconnected_sessions()
    storage = MemorySessionStorage(ttl_seconds=120)
    storage._cache = TTLCache(maxsize=128, ttl=120, timer=lambda: loop.now)
    storage.save(Kept("first", ended))  # type: ignore[arg-type]
    storage.save(Kept("back", ended))  # type: ignore[arg-type]
    loop.go_on(60)
    storage.save(Kept("second", ended))  # type: ignore[arg-type]
    storage.delete("back")
    assert ended == []
    loop.go_on(61)
    assert ended == ["first"]
    loop.go_on(60)
    assert ended == ["first", "second"]
    assert loop.later == []


@pytest.mark.parametrize(("hard", "allowed"), [(700, 700), (4096, 4096)])
def test_a_server_may_open_what_the_system_lets_it(hard: int, allowed: int) -> None:
    code = "import resource; from store.core.processes import raise_descriptor_limit as r; "
    code += "print(r(), r(), *resource.getrlimit(resource.RLIMIT_NOFILE))"
    command = ["prlimit", f"--nofile=256:{hard}", sys.executable, "-c", code]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert printed.split() == [str(number) for number in (allowed, allowed, allowed, hard)]
