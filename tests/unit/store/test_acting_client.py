"""Whatever the screens ask the engine for a person, they say whose session it is."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from store.core.home import Home
from store.db.records import to_json
from store.http.access import SESSION_HEADER
from store.http.client import Client
from store.http.schemas import PlaygroundState
from tests.unit.store_samples import row_of


def test_answers_of_models_too_are_asked_for_in_the_persons_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, str | None] = {}
    state = to_json(row_of(PlaygroundState))

    def answer(request: httpx.Request) -> httpx.Response:
        asked[request.url.path] = request.headers.get(SESSION_HEADER)
        return httpx.Response(200, text=state)

    http = httpx.Client(base_url="http://engine", transport=httpx.MockTransport(answer))
    client = Client(Home(tmp_path))
    monkeypatch.setattr(client, "_connect", lambda: http)
    acting = client.acting_for("a session")
    assert list(acting.generate({"prompt": "Hello"})) == [f"{state}\n".encode()]
    acting.playground()
    acting.command("say", {})
    assert asked == dict.fromkeys(["/playground/generate", "/playground", "/commands/say"], "a session")
