"""Rights: every request is held to the role of who asks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient

from engine.server.commands import Commands
from store.contract.errors import ForbiddenError
from store.db.database import Database
from store.documents.tables.person import Person, Role
from store.http.server import Handlers, build
from tests.unit.store_samples import echo_ask, new_store

RATING = {"rounds_to_rate", "next_rating_tasks", "rate"}
LOOKING = [("GET", "/machine"), ("GET", "/models"), ("POST", "/sql"), ("POST", "/questions")]
LOOKING += [("POST", "/asks/preview"), ("GET", "/jobs/no/log"), ("GET", "/exports/no")]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[tuple[Any, Database]]:
    home, database = new_store(tmp_path)
    yield home, database
    database.close()


def asking(store: tuple[Any, Database], role: Role) -> TestClient:
    """The engine as a person of that role reaches it."""
    home, database = store

    async def who(headers: object) -> Person:
        return {"person_id": "p", "name": "P", "role": role}

    commands = Commands(database, home, lambda name, body: {}).table()
    app = build(database, "t", Handlers(commands, echo_ask, who), home, ["cpu"])
    headers = {"Authorization": "Bearer t"}
    return TestClient(app, base_url="http://127.0.0.1", headers=headers, raise_server_exceptions=False)


def status(client: TestClient, method: str, path: str, body: object = None) -> int:
    answer: httpx.Response = client.request(method, path, json=body)
    return answer.status_code


@pytest.mark.parametrize("role", ["viewer", "rater"])
def test_who_may_not_work_is_refused_by_every_command(store: tuple[Any, Database], role: Role) -> None:
    home, database = store
    client = asking(store, role)
    for name in Commands(database, home, lambda name, body: {}).table():
        if role == "viewer" or name not in RATING:
            assert status(client, "POST", f"/commands/{name}", {}) == 403, name
    assert status(client, "PUT", "/uploads/rows.csv", {}) == 403


def test_a_rater_sees_nothing_beside_rounds(store: tuple[Any, Database]) -> None:
    client = asking(store, "rater")
    for method, path in LOOKING:
        assert status(client, method, path, {"sql": "SELECT 1"}) == 403, path


def test_a_viewer_looks_and_a_member_works(store: tuple[Any, Database]) -> None:
    for role in ("viewer", "member"):
        assert status(asking(store, role), "POST", "/questions", {"sql": "SELECT 1"}) == 200
    answer = asking(store, "member").post("/commands/delete", json={"job": "nothing"})
    assert answer.status_code == 404


def test_the_refusal_says_what_may_not_be_done(store: tuple[Any, Database]) -> None:
    answer = asking(store, "viewer").post("/commands/delete", json={"job": "nothing"})
    assert answer.json()["error"] == ForbiddenError.__name__
    assert "viewer" in answer.json()["message"]
