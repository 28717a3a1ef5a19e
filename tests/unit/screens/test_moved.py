"""Old addresses: each leads to the tab that shows it now, with what it asks; all else goes on to the app."""

from __future__ import annotations

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket

from pages.people.access_middleware import AccessMiddleware, build_cookie_name
from pages.shared.middleware import Redirects
from store.http.access import HostNames
from tests.unit.people_samples import alone

SECRET = "the-secret-of-the-test"
COOKIE = {"Cookie": f"{build_cookie_name(SECRET)}={SECRET}"}


async def _answer(request: Request) -> PlainTextResponse:
    return PlainTextResponse(f"inside {request.url.path}")


async def _live(socket: WebSocket) -> None:
    await socket.accept()
    await socket.send_text("inside")
    await socket.close()


def visitor() -> TestClient:
    """A client of an app as the screens are served; it follows nothing."""
    app = Starlette(
        routes=[
            WebSocketRoute("/mix", _live),
            Route("/{path:path}", _answer, methods=["GET", "POST"]),
        ],
        middleware=[
            Middleware(AccessMiddleware, secret=SECRET, names=HostNames(), visitors=alone()),
            Middleware(Redirects),
        ],
    )
    return TestClient(app, base_url="http://127.0.0.1:8501", follow_redirects=False)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("/mix", "/run?tab=between"),
        ("/mix/?run=a%26b&alpha=0.4&forgetting=kl", "/run?tab=between&run=a%26b&alpha=0.4&forgetting=kl"),
        ("/evidence", "/compare?tab=cost"),
        ("/evidence?run=x&dataset=&lines=", "/compare?tab=cost&run=x&dataset=&lines="),
        ("/transfer?sets=d0&sets=d%C3%A4", "/compare?tab=transfer&sets=d0&sets=d%C3%A4"),
        ("/transfer?runs=a&runs=b&tab=x", "/compare?tab=transfer&matrix-runs=a&matrix-runs=b"),
    ],
)
def test_an_old_address_leads_to_the_new_one(old: str, new: str) -> None:
    answer = visitor().get(old, headers=COOKIE)
    assert (answer.status_code, answer.headers["location"]) == (307, new)
    assert answer.headers["cache-control"] == "no-store"
    assert visitor().head(old, headers=COOKIE).headers["location"] == new


@pytest.mark.parametrize("path", ["/", "/run", "/compare", "/mixed", "/mix/_stcore/health", "/data/mix"])
def test_all_else_goes_on_to_the_app(path: str) -> None:
    assert visitor().get(path, headers=COOKIE).text == f"inside {path}"


def test_neither_what_is_sent_nor_a_live_connection_is_led_on() -> None:
    assert visitor().post("/mix", headers=COOKIE).text == "inside /mix"
    with visitor().websocket_connect("ws://127.0.0.1:8501/mix", headers=COOKIE) as live:
        assert live.receive_text() == "inside"


def test_the_door_comes_first() -> None:
    assert visitor().get("/mix?run=a").status_code == 403
    answer = visitor().get(f"/mix?secret={SECRET}&run=a")
    assert answer.status_code == 200
    assert "url=/mix?run=a" in answer.text
