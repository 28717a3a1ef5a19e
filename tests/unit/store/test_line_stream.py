"""An answer that is sent a line at a time."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route
from starlette.testclient import TestClient

from store.http.answers import LineStream


async def _lines() -> AsyncGenerator[bytes, None]:
    yield b"1\n"
    yield b"2\n"


async def _answer(request: Request) -> LineStream:
    return LineStream(_lines())


def test_lines_are_sent_as_they_come_and_no_proxy_is_to_keep_them() -> None:
    answer = TestClient(Starlette(routes=[Route("/", _answer)])).get("/")
    assert answer.text == "1\n2\n"
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert (answer.headers["cache-control"], answer.headers["x-accel-buffering"]) == ("no-store", "no")
