"""The door where people sign in: what is reached without a session, forms, cookies, origins, engine away."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from engine.server.login import TRIES_OF_ACCOUNT
from pages.people.access_middleware import AccessMiddleware, build_cookie_name
from pages.people.login import (
    CACHE_SECONDS,
    ENGINE_AWAY_SECONDS,
    MAX_FORM_BYTES,
    SessionVerifier,
    sanitize_local_address,
)
from pages.people.single_sign_on import Provider, ProviderConfig
from pages.shared.engine_client import build_session_name
from store.core.errors import EngineUnavailable
from store.http.access import HostNames
from tests.unit.people_samples import PASSWORD, Company

SECRET = "the-secret-of-the-test"
ADDRESS = "http://127.0.0.1:8501"
LIVE = "ws://127.0.0.1:8501/_stcore/stream"
COOKIE = build_session_name(SECRET)
HTML = {"Accept": "text/html,*/*"}
OURS = {"Origin": ADDRESS}
PATHS = [
    "/",
    "/launch",
    "/static/js/index.js",
    "/media/a.png",
    "/_stcore/health",
    "/auth/login",
    "/oauth2callback",
]


async def _answer(request: Request) -> PlainTextResponse:
    answer = PlainTextResponse(f"inside {request.url.path}")
    answer.set_cookie("of-the-app", "x")
    return answer


async def _live(socket: WebSocket) -> None:
    await socket.accept()
    await socket.send_text("inside")
    await socket.close()


class Screens:
    """Screens whose engine is the company's; `away` takes the engine away, `now` is the time."""

    def __init__(self, company: Company, **door: Any) -> None:
        self.company, self.now, self.away = company, 0.0, False
        self.logout = "/"  # where the app's own route of that name leads
        self.logout_cookies: list[str] = []  # the cookies that it was given
        methods = ["GET", "PUT", "POST", "DELETE"]
        visitors = SessionVerifier(self, lambda: self.now)  # type: ignore[arg-type]
        self.app = Starlette(
            routes=[
                WebSocketRoute("/_stcore/stream", _live),
                Route("/auth/logout", self._log_out),
                Mount("/", routes=[Route("/{path:path}", _answer, methods=methods)]),
            ],
            middleware=[
                Middleware(AccessMiddleware, secret=SECRET, names=HostNames(), visitors=visitors, **door)
            ],
        )

    async def _log_out(self, request: Request) -> RedirectResponse:
        self.logout_cookies = list(request.cookies)
        return RedirectResponse(self.logout)

    def door(self, name: str, body: Mapping[str, object]) -> Any:
        if self.away:
            raise EngineUnavailable("No engine runs.", fix="Start it.")
        return self.company.door(name, body)

    def browser(self, session: str = "", address: str = ADDRESS) -> TestClient:
        browser = TestClient(self.app, base_url=address, follow_redirects=False)
        if session:
            browser.cookies.set(COOKIE, session)
        return browser


@pytest.fixture
def screens(company: Company) -> Screens:
    return Screens(company)


@pytest.fixture
def session(company: Company) -> str:
    return company.join("member")["session"]


@pytest.mark.parametrize("path", PATHS)
def test_nothing_is_reached_without_a_session(screens: Screens, path: str) -> None:
    for headers in (
        {},
        {"Cookie": f"{build_cookie_name(SECRET)}={SECRET}"},  # of the time before
        {"Cookie": f"{COOKIE}=wrong"},
        {"Cookie": f"{COOKIE}="},
        {"Cookie": f"{COOKIE}={SECRET}"},
    ):
        for method in ("GET", "PUT", "POST"):
            answer = screens.browser().request(method, path, headers=headers)
            assert (answer.status_code, answer.text) == (401, "You are not signed in.")
    assert screens.browser().get(f"{path}?secret={SECRET}").status_code == 401


@pytest.mark.parametrize("path", PATHS)
def test_a_session_opens_everything(screens: Screens, session: str, path: str) -> None:
    assert screens.browser(session).get(path).text == f"inside {path}"
    both = {"Cookie": f"{COOKIE}=wrong; other=1; {COOKIE}={session}"}  # set by another server of this host
    assert screens.browser().get(path, headers=both).status_code == 200


def test_the_live_connection_needs_a_session_too(screens: Screens, session: str) -> None:
    with screens.browser(session).websocket_connect(LIVE) as socket:
        assert socket.receive_text() == "inside"
    for wrong in ("", "wrong", SECRET):
        with pytest.raises(WebSocketDisconnect), screens.browser(wrong).websocket_connect(LIVE):
            pass


def test_a_browser_is_led_to_the_form_and_back(screens: Screens, company: Company) -> None:
    company.join("member")
    browser = screens.browser()
    led = browser.get("/run?run=a&secret=x", headers=HTML)
    assert (led.status_code, led.headers["location"]) == (303, "/sign-in?next=%2Frun%3Frun%3Da")
    form = browser.get(led.headers["location"])
    assert 'name="next" value="/run?run=a"' in form.text
    body = {"email": "member@example.org", "password": PASSWORD, "next": "/run?run=a"}
    answer = browser.post("/sign-in", data=body, headers=OURS)
    assert (answer.status_code, answer.headers["location"]) == (303, "/run?run=a")
    cookie = answer.headers["set-cookie"]
    parts = {part.strip() for part in cookie.split(";")}
    assert cookie.startswith(f"{COOKIE}=")
    assert parts >= {"HttpOnly", "SameSite=strict", "Path=/", "Max-Age=2592000"}
    assert "Secure" not in parts
    assert browser.get("/run").text == "inside /run"


def test_a_browser_is_known_again_whoever_has_guessed_elsewhere(screens: Screens, company: Company) -> None:
    company.join("member")
    form = {"email": "member@example.org", "password": PASSWORD}
    browser = screens.browser()
    cookies = browser.post("/sign-in", data=form, headers=OURS).headers.get_list("set-cookie")
    cookie = next(line for line in cookies if line.startswith("tunebench-known-"))
    assert {"HttpOnly", "SameSite=strict"} <= set(cookie.split("; "))
    browser.post("/sign-out", headers=OURS)
    for _ in range(TRIES_OF_ACCOUNT):
        guess = form | {"password": "a wrong sentence"}
        assert screens.browser().post("/sign-in", data=guess, headers=OURS).status_code == 401
    assert screens.browser().post("/sign-in", data=form, headers=OURS).status_code == 429
    assert browser.post("/sign-in", data=form, headers=OURS).status_code == 303


def test_a_new_password_by_link_says_before_and_after_what_it_ends(
    screens: Screens, company: Company
) -> None:
    member = company.join("member")
    company("make_token", by=member["person"], name="nightly")
    secret = company("reset_password", person=member["person"].person_id)["secret"]
    page = screens.browser().get("/invitation", params={"code": secret}).text
    assert "all sessions and revokes all API tokens" in page
    form = {"code": secret, "password": "a newer sentence"}
    answer = screens.browser().post("/invitation", data=form, headers=OURS)
    assert answer.status_code == 200
    assert "1 API token" in answer.text
    assert any(line.startswith(COOKIE) for line in answer.headers.get_list("set-cookie"))


def test_an_ipv4_address_is_listed_as_one_however_it_came(screens: Screens, company: Company) -> None:
    company.join("member")
    body = {"email": "member@example.org", "password": PASSWORD}
    for peer in ("::ffff:192.0.2.7", "2001:db8::7"):
        browser = TestClient(screens.app, base_url=ADDRESS, follow_redirects=False, client=(peer, 1))
        assert browser.post("/sign-in", data=body, headers=OURS).status_code == 303
    listed = {session.address for session in company.people.team().sessions}
    assert {"192.0.2.7", "2001:db8::7"} <= listed


def test_over_https_the_cookie_is_secure(screens: Screens, company: Company) -> None:
    company.join("member")
    browser = screens.browser(address="https://127.0.0.1:8501")
    body = {"email": "member@example.org", "password": PASSWORD}
    answer = browser.post("/sign-in", data=body, headers={"Origin": "https://127.0.0.1:8501"})
    assert "Secure" in answer.headers["set-cookie"]
    assert "Secure" in browser.get("/").headers["set-cookie"]  # the app's own too


def test_a_link_of_another_site_goes_on_by_itself_for_the_cookie_to_come(screens: Screens) -> None:
    answer = screens.browser().get("/run?run=a", headers=HTML | {"Sec-Fetch-Site": "cross-site"})
    assert answer.status_code == 200
    assert 'content="0; url=/run?run=a"' in answer.text


def test_a_wrong_password_is_said_and_the_address_kept(screens: Screens) -> None:
    body = {"email": 'a"><script>@example.org', "password": "wrong sentence", "next": "/"}
    answer = screens.browser().post("/sign-in", data=body, headers=OURS)
    assert answer.status_code == 422
    assert "<script" not in answer.text
    answer = screens.browser().post("/sign-in", data=body | {"email": "a@example.org"}, headers=OURS)
    assert answer.status_code == 401
    assert "The e-mail address or the password is wrong." in answer.text
    assert 'value="a@example.org"' in answer.text
    assert "wrong sentence" not in answer.text
    assert "set-cookie" not in answer.headers


def test_too_many_attempts_are_told_how_long_to_wait(screens: Screens) -> None:
    body = {"email": "a@example.org", "password": "wrong sentence"}
    browser = screens.browser()
    for _ in range(TRIES_OF_ACCOUNT):
        assert browser.post("/sign-in", data=body, headers=OURS).status_code == 401
    answer = browser.post("/sign-in", data=body, headers=OURS)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
    assert "Try again in 1 s." in answer.text


FOREIGN = [
    {},
    {"Origin": "null"},
    {"Origin": "http://evil.test"},
    {"Origin": "http://127.0.0.1:9999"},
    {"Origin": ADDRESS, "Host": "evil.test"},
]


@pytest.mark.parametrize("headers", FOREIGN)
def test_a_form_of_another_site_does_nothing(
    screens: Screens, company: Company, session: str, headers: dict[str, str]
) -> None:
    code = company.invite("admin")["secret"]
    made = {"code": code, "email": "e@example.org", "name": "E", "password": PASSWORD}
    signing = {"email": "member@example.org", "password": PASSWORD}
    browser = screens.browser(session)
    for path, body in (("/sign-in", signing), ("/invitation", made), ("/sign-out", {})):
        answer = browser.post(path, data=body, headers=headers)
        assert answer.status_code == 403
        assert "set-cookie" not in answer.headers
    assert company.door("invitation", {"secret": code})
    assert browser.get("/").status_code == 200


def test_an_invitation_is_looked_at_without_being_used(screens: Screens, company: Company) -> None:
    code = company.invite("rater", email="rita@example.org")["secret"]
    browser = screens.browser()
    for _ in range(3):  # as chat programs look at links
        form = browser.get(f"/invitation?code={code}")
        assert form.status_code == 200
        assert 'value="rita@example.org"' in form.text
    assert "<script" not in form.text
    problem = browser.post("/invitation", data={"code": code, "name": "R", "password": "short"}, headers=OURS)
    assert (problem.status_code, "5 characters" in problem.text) == (422, True)
    answer = browser.post(
        "/invitation", data={"code": code, "name": "Rita", "password": PASSWORD}, headers=OURS
    )
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert browser.get("/").status_code == 200
    assert screens.browser().get(f"/invitation?code={code}").status_code == 404
    used = browser.post("/invitation", data={"code": code, "name": "R", "password": PASSWORD}, headers=OURS)
    assert (used.status_code, "already used" in used.text) == (404, True)


def test_an_expired_invitation_says_so(screens: Screens, company: Company) -> None:
    code = company.invite("rater", days=1)["secret"]
    company.now += 24 * 3600
    answer = screens.browser().get(f"/invitation?code={code}")
    assert (answer.status_code, "has expired" in answer.text) == (409, True)


def test_signing_out_takes_a_click_and_ends_the_session_everywhere(screens: Screens, session: str) -> None:
    browser, other_tab = screens.browser(session), screens.browser(session)
    page = browser.get("/sign-out")
    assert "Sign out, Member?" in page.text
    assert other_tab.get("/").status_code == 200
    answer = browser.post("/sign-out", headers=OURS)
    assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in")
    assert other_tab.get("/").status_code == 401
    assert screens.browser().get("/sign-out", headers=HTML).headers["location"].startswith("/sign-in")


PROVIDER = ProviderConfig(
    client_id="tunebench",
    client_secret="s3cret",
    discovery_url="https://id.example.org/.well-known/openid-configuration",
    address=ADDRESS,
    name="Example <Lab>",
)
CAME_BY_PROVIDER = COOKIE.replace("session", "provider")


@pytest.mark.parametrize(
    "end", ["https://id.example.org/end?client_id=tunebench", "/", "javascript://id.example.org/%0aalert(1)"]
)
def test_who_came_by_the_provider_is_led_to_its_sign_out(company: Company, session: str, end: str) -> None:
    screens = Screens(company, provider=Provider(PROVIDER))
    screens.logout = end
    browser = screens.browser(session)
    browser.cookies.set(CAME_BY_PROVIDER, "1")
    assert "signs you out at Example &lt;Lab&gt;" in browser.get("/sign-out").text
    page = browser.post("/sign-out", headers=OURS)
    assert page.status_code == 200
    assert screens.logout_cookies == ["_streamlit_user"]
    if not end.startswith("https:"):
        assert "javascript" not in page.text
        assert "You are still signed in at Example &lt;Lab&gt;" in page.text
    else:
        assert f'content="0; url={end}"' in page.text
    ended = [line.partition("=")[0] for line in page.headers.get_list("set-cookie") if "Max-Age=0" in line]
    assert ended == [COOKIE, CAME_BY_PROVIDER]
    assert screens.browser(session).get("/").status_code == 401
    back = browser.get("/oauth2callback", headers=HTML)  # where it leads back to
    assert (back.status_code, back.headers["location"]) == (303, "/sign-in")


def test_who_came_by_a_password_stays_signed_in_at_the_provider(company: Company, session: str) -> None:
    screens = Screens(company, provider=Provider(PROVIDER))
    browser = screens.browser(session)
    assert "Example" not in browser.get("/sign-out").text
    assert browser.post("/sign-out", headers=OURS).headers["location"] == "/sign-in"
    assert screens.logout_cookies == []
    earlier = screens.browser()
    earlier.cookies.set(CAME_BY_PROVIDER, "1")  # of a session that has ended by itself
    form = {"email": "member@example.org", "password": PASSWORD}
    cookies = earlier.post("/sign-in", data=form, headers=OURS).headers.get_list("set-cookie")
    assert [line.partition("=")[0] for line in cookies if "Max-Age=0" in line] == [CAME_BY_PROVIDER]


def test_a_session_that_an_admin_ended_is_out_within_two_seconds(screens: Screens, company: Company) -> None:
    member = company.join("member")
    browser, files = screens.browser(member["session"]), screens.browser(member["session"])
    assert browser.get("/").status_code == 200
    company("end_sessions", person=member["person"].person_id)
    assert files.get("/static/a.js").status_code == 200
    screens.now += CACHE_SECONDS + 0.1
    assert files.get("/static/a.js").status_code == 401
    assert browser.get("/", headers=HTML).status_code == 303  # a page at once
    assert browser.get("/").status_code == 401


def test_while_the_engine_is_away_who_was_in_stays_for_a_while(screens: Screens, session: str) -> None:
    browser = screens.browser(session)
    assert browser.get("/").status_code == 200
    screens.away = True
    screens.now += ENGINE_AWAY_SECONDS - 1
    assert browser.get("/").status_code == 200
    stranger = screens.browser("wrong").get("/")
    assert (stranger.status_code, "No engine runs." in stranger.text) == (503, True)
    body = {"email": "member@example.org", "password": PASSWORD}
    assert screens.browser().post("/sign-in", data=body, headers=OURS).status_code == 503
    screens.now += 2
    assert browser.get("/").status_code == 503


def test_before_the_engine_has_said_whether_people_sign_in_nobody_gets_in(
    screens: Screens, session: str
) -> None:
    screens.away = True
    for headers in ({"Cookie": f"{build_cookie_name(SECRET)}={SECRET}"}, {"Cookie": f"{COOKIE}={session}"}):
        answer = screens.browser().get(f"/?secret={SECRET}", headers=headers)
        assert answer.status_code == 503
        assert "set-cookie" not in answer.headers
        with pytest.raises(WebSocketDisconnect), screens.browser().websocket_connect(LIVE, headers=headers):
            pass


def test_turned_off_the_secret_opens_again_but_not_to_other_machines(company: Company, session: str) -> None:
    company("set_team", on=False)
    secret = {"Cookie": f"{build_cookie_name(SECRET)}={SECRET}"}
    assert Screens(company).browser().get("/", headers=secret).status_code == 200
    assert Screens(company).browser(session).get("/").status_code == 403
    to_others = Screens(company, open_to_others=True).browser()
    for headers in (secret, {"Cookie": f"{COOKIE}={session}"}):
        answer = to_others.get(f"/?secret={SECRET}", headers=headers)
        assert (answer.status_code, "tunebench team on" in answer.text) == (403, True)
    with pytest.raises(WebSocketDisconnect), to_others.websocket_connect(LIVE, headers=secret):
        pass


@pytest.mark.parametrize(
    ("asked", "place"),
    [
        ("/run?run=a", "/run?run=a"),
        ("//evil.test/x", "/x"),
        ("https://evil.test/x?y=1", "/x?y=1"),
        ("/\\evil.test", "/"),
        ("\\\\evil.test", "/"),
        ("javascript:alert(1)", "/alert%281%29"),
        ("/sign-out", "/"),
        ("/invitation?code=x", "/"),
        ("", "/"),
        ("http://[", "/"),
        ("/a\r\nSet-Cookie: x=1", "/aSet-Cookie%3A%20x%3D1"),
        ("/?secret=s&run=a", "/?run=a"),
    ],
)
def test_where_a_form_leads_is_a_place_of_this_server(asked: str, place: str) -> None:
    assert sanitize_local_address(asked) == place


def test_a_form_that_is_too_long_is_none(screens: Screens) -> None:
    body = {"email": "a@example.org", "password": "x" * MAX_FORM_BYTES}
    assert screens.browser().post("/sign-in", data=body, headers=OURS).status_code == 422


def test_pages_run_nothing_and_are_framed_and_kept_by_nobody(screens: Screens) -> None:
    answer = screens.browser().get("/sign-in")
    policy = answer.headers["content-security-policy"]
    assert re.search(r"default-src 'none'.*frame-ancestors 'none'.*form-action 'self'", policy)
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["referrer-policy"] == "same-origin"
