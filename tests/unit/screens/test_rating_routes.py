"""The routes of the rating desk: what reaches the engine, and what comes back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from pages.rating.rater.routes import build_rating_routes
from pages.shared.data_routes import MAX_BODY_BYTES
from store.core.errors import EngineUnavailable, StateError, TunebenchError

RECEIPT = {"stored": True, "revision": 1, "already": False}


class Recorder:
    """In the engine's place: keeps what it is sent, and answers or refuses as it is told."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, Mapping[str, object]]] = []
        self.refusal: TunebenchError | None = None

    def command(self, name: str, body: Mapping[str, object]) -> Any:
        self.sent.append((name, body))
        if self.refusal:
            raise self.refusal
        return RECEIPT


@pytest.fixture
def engine() -> Recorder:
    return Recorder()


@pytest.fixture
def browser(engine: Recorder) -> TestClient:
    return TestClient(Starlette(routes=build_rating_routes(lambda _: engine)))


def test_each_route_hands_its_document_to_its_command(engine: Recorder, browser: TestClient) -> None:
    first = browser.post("/rating/next", json={"round": "r", "want": 4, "have": []})
    second = browser.post("/rating/rate", json={"round": "r", "task": "t", "comment": "مرحبا"})
    third = browser.post("/rating/release", json={"round": "r", "keep": ["t"]})
    assert (first.status_code, second.status_code, third.status_code) == (200, 200, 200)
    assert second.json() == RECEIPT
    assert second.headers["cache-control"] == "no-store"
    assert engine.sent == [
        ("next_rating_tasks", {"round": "r", "want": 4, "have": []}),
        ("rate", {"round": "r", "task": "t", "comment": "مرحبا"}),
        ("release_rating_tasks", {"round": "r", "keep": ["t"]}),
    ]


@pytest.mark.parametrize(
    "error",
    [StateError("The round is closed.", fix="Ask who opened it."), EngineUnavailable("No engine runs.")],
)
def test_a_refusal_of_the_engine_comes_with_its_status(
    engine: Recorder, browser: TestClient, error: TunebenchError
) -> None:
    engine.refusal = error
    answer = browser.post("/rating/rate", json={})
    assert (answer.status_code, answer.json()) == (error.status, error.to_dict())


@pytest.mark.parametrize(
    "kind", ["application/x-www-form-urlencoded", "multipart/form-data", "text/plain", ""]
)
def test_what_a_form_of_another_page_could_send_is_refused(
    engine: Recorder, browser: TestClient, kind: str
) -> None:
    answer = browser.post("/rating/rate", content=b"{}", headers={"Content-Type": kind})
    assert (answer.status_code, answer.json()["field"]) == (415, "content-type")
    assert engine.sent == []
    assert browser.get("/rating/rate").status_code == 405


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"not json", 422),
        (b"[1]", 422),
        (b'{"a": "\\ud800"}', 422),
        (b'"' + b"x" * MAX_BODY_BYTES + b'"', 413),
    ],
)
def test_a_body_that_is_no_document_or_too_long_never_reaches_the_engine(
    engine: Recorder, browser: TestClient, body: bytes, status: int
) -> None:
    answer = browser.post("/rating/next", content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["field"]) == (status, "body")
    assert engine.sent == []


def test_who_sends_is_chosen_by_the_request(engine: Recorder) -> None:
    other = Recorder()
    people = {"a": engine, "b": other}
    browser = TestClient(
        Starlette(routes=build_rating_routes(lambda request: people[request.headers["x-person"]]))
    )
    browser.post("/rating/next", json={}, headers={"X-Person": "b"})
    assert (len(engine.sent), len(other.sent)) == (0, 1)
