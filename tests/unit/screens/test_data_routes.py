"""Routes of components: a table as Arrow, refusals as they come, and no body of another site's form."""

from __future__ import annotations

import pyarrow as pa
from starlette.applications import Starlette
from starlette.testclient import TestClient

from pages.shared.data_routes import build_table_route
from store.core.errors import NotFoundError
from store.http.client import Client


def _ask(client: Client, body: dict[str, object]) -> pa.Table:
    if body.get("run") != "a":
        raise NotFoundError(f"There is no run {body.get('run')!r}.", fix="Reload the page.")
    return pa.table({"step": [1, 2], "value": [0.5, float("nan")]})


def _browser() -> TestClient:
    def acting(request: object) -> Client:
        return Client.__new__(Client)  # never used: the question is answered above

    return TestClient(Starlette(routes=[build_table_route("/curves", acting, _ask, "a question")]))


def test_a_table_comes_as_an_arrow_stream() -> None:
    answer = _browser().post("/curves", json={"run": "a"})
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    assert pa.ipc.open_stream(answer.content).read_all()["step"].to_pylist() == [1, 2]


def test_a_refusal_keeps_its_status_and_says_what_to_do() -> None:
    answer = _browser().post("/curves", json={"run": "b"})
    assert answer.status_code == 404
    assert answer.json()["fix"] == "Reload the page."


def test_a_form_of_another_site_is_refused() -> None:
    answer = _browser().post("/curves", content=b'{"run": "a"}', headers={"Content-Type": "text/plain"})
    assert answer.status_code == 415
    assert "application/json" in answer.json()["fix"]


def test_a_body_that_is_too_large_is_refused() -> None:
    assert _browser().post("/curves", json={"run": "a" * 2**20}).status_code == 413
