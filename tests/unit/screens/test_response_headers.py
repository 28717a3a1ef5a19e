"""Every answer of the screens says what a browser may do with it: pages, files, routes, refusals, faults."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Mount, Route
from starlette.testclient import TestClient
from streamlit.runtime import Runtime
from streamlit.runtime.media_file_storage import MediaFileKind

from pages.__main__ import build_app
from pages.people.access_middleware import AccessMiddleware, build_cookie_name
from pages.shared.middleware import (
    FILE_POLICY,
    HEADERS,
    LOGIN_POLICY,
    REDIRECT_TARGETS,
    ScreensApp,
    build_page_policy,
)
from store.http.access import HostNames
from tests.unit.people_samples import alone

SECRET = "the-secret-of-the-test"
ADDRESS = "http://127.0.0.1:8501"
COOKIE = {"Cookie": f"{build_cookie_name(SECRET)}={SECRET}"}
HTML = {"Accept": "text/html"}
REFUSED: tuple[dict[str, str], ...] = (
    {},
    HTML,
    COOKIE | {"Host": "elsewhere.example"},
    COOKIE | {"Origin": "http://127.0.0.1:1"},
)
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS")
PAGE_POLICY = build_page_policy()


@pytest.fixture(scope="module")
def app() -> Iterator[ScreensApp]:
    """The real screens, behind a door that the test's secret opens."""
    door = Middleware(AccessMiddleware, secret=SECRET, names=HostNames(), visitors=alone())
    yield build_app(door, limit=2)
    Runtime._instance = None  # another test may want one


@pytest.fixture(scope="module")
def browser(app: ScreensApp) -> Iterator[TestClient]:
    with TestClient(app, base_url=ADDRESS, follow_redirects=False, raise_server_exceptions=False) as client:
        yield client


def directives(policy: str) -> dict[str, list[str]]:
    return {name: sources for name, *sources in (part.split() for part in policy.split(";"))}


def check(answer: object, policy: str | None = None) -> None:
    """It bears every header; its policy lets nobody frame it, and nothing come from another host."""
    headers = answer.headers  # type: ignore[attr-defined]
    for name, value in HEADERS.items():
        if name != "Referrer-Policy":
            assert headers.get_list(name) == [value]
    assert headers.get_list("referrer-policy") in (["same-origin"], ["no-referrer"])
    (csp,) = headers.get_list("content-security-policy")
    assert policy is None or csp == policy
    sources = directives(csp)
    for name in ("default-src", "base-uri", "frame-ancestors"):
        assert sources[name] == ["'none'"]
    assert sources["form-action"] in (["'none'"], ["'self'"])
    assert [word for word in ("'unsafe-eval'", "*", "http") if word in csp] == []
    assert "'unsafe-inline'" not in sources.get("script-src", [])


def paths(app: ScreensApp) -> list[str]:
    """Every route of the app, with something in the place of each parameter."""
    assert app._starlette_app
    served = []
    for route in app._starlette_app.routes:
        path = route.path + "/index.html" if isinstance(route, Mount) else getattr(route, "path", "")
        served.append(re.sub(r"{[^}]+}", "x", path))
    return served


@pytest.mark.feature("playground", "rating")
def test_every_route_by_every_method_bears_them(app: ScreensApp, browser: TestClient) -> None:
    every = paths(app)
    assert {"/talk", "/rating/rate", "/_stcore/health", "/media/x", "/_stcore/stream"} <= {*every}
    for path in [
        *every,
        *REDIRECT_TARGETS,
        "/",
        "/run",
        "/nowhere",
        "/run/",
        "//elsewhere",
        "/static/js/none.js",
    ]:
        for method in METHODS:
            check(browser.request(method, path, headers=COOKIE | HTML))
            check(browser.request(method, path, headers=HTML), LOGIN_POLICY)
            check(browser.request(method, path), LOGIN_POLICY)
            check(browser.request(method, path, headers=COOKIE | {"Host": "elsewhere.example"}), LOGIN_POLICY)
            check(
                browser.request(method, path, headers=COOKIE | {"Origin": "http://127.0.0.1:1"}), LOGIN_POLICY
            )


def test_a_page_has_the_policy_of_pages_and_a_file_that_of_files(browser: TestClient) -> None:
    for path in ("/", "/run", "/nowhere"):
        page = browser.get(path, headers=COOKIE | HTML)
        assert page.status_code == 200
        check(page, PAGE_POLICY)
    script = re.search(r'src="\.(/static/js/[^"]+)"', page.text)
    assert script
    for path in (script.group(1), "/favicon.png", "/_stcore/health", "/_stcore/host-config"):
        file = browser.get(path, headers=COOKIE)
        assert file.status_code == 200
        check(file, FILE_POLICY)


def test_what_lies_in_media_cannot_act_as_a_page(browser: TestClient) -> None:
    storage = Runtime.instance().media_file_mgr._storage
    svg = b"<svg xmlns='http://www.w3.org/2000/svg'/>"
    for content, kind in ((svg, "image/svg+xml"), (b"a,b", "text/csv"), (b"<p>", "text/html")):
        file_id = storage.load_and_get_id(content, kind, MediaFileKind.DOWNLOADABLE, "made.by.a.person")
        answer = browser.get(storage.get_url(file_id), headers=COOKIE)
        assert answer.content == content
        check(answer, FILE_POLICY)


def test_the_answer_that_a_page_is_as_it_was_leaves_it_the_policy_of_pages(browser: TestClient) -> None:
    page = browser.get("/", headers=COOKIE | HTML)
    again = browser.get("/", headers=COOKIE | HTML | {"If-None-Match": page.headers["etag"]})
    assert again.status_code == 304
    check(again, PAGE_POLICY)


@pytest.mark.feature("playground", "rating")
def test_a_redirect_a_refused_method_and_a_path_that_is_no_page_bear_them(browser: TestClient) -> None:
    for method, path, status in (
        ("GET", "/mix", 307),
        ("GET", "/run/", 301),
        ("GET", "/?secret=" + SECRET, 200),
        ("GET", "/talk", 200),
        ("POST", "/run", 405),
        ("POST", "/talk", 415),
        ("POST", "/rating/rate", 415),
        ("GET", "/media/none.png", 404),
        ("PUT", "/_stcore/upload_file/s/f", 403),
    ):
        answer = browser.request(method, path, headers=COOKIE)
        assert (method, path, answer.status_code) == (method, path, status)
        check(answer)


def test_a_fault_bears_them_too(app: ScreensApp, browser: TestClient) -> None:
    async def fail(request: Request) -> HTMLResponse:
        raise RuntimeError("a fault")

    assert app._starlette_app
    app._starlette_app.router.routes.insert(0, Route("/fails", fail))
    try:
        answer = browser.get("/fails", headers=COOKIE)
    finally:
        del app._starlette_app.router.routes[0]
    assert answer.status_code == 500
    check(answer)


def test_the_scripts_in_the_page_are_those_that_the_policy_knows(browser: TestClient) -> None:
    page = browser.get("/", headers=COOKIE | HTML).text
    attributes = [tag for tag in re.findall(r"<script([^>]*)>", page) if "src=" not in tag]
    assert attributes == [""]  # one inline script, in the form that is looked for
    assert len([s for s in directives(PAGE_POLICY)["script-src"] if s.startswith("'sha256-")]) == 2


def test_the_door_tells_no_page_the_address_with_the_secret(browser: TestClient) -> None:
    assert browser.get("/?secret=" + SECRET).headers["referrer-policy"] == "no-referrer"


def test_no_source_of_the_screens_sets_a_policy_of_its_own() -> None:
    root = Path(__file__).parents[3] / "pages"
    texts = {path.name: path.read_text(encoding="utf-8") for path in root.rglob("*.py")}
    owners = {name for name, text in texts.items() if "default-src" in text or "nosniff" in text}
    assert owners == {"middleware.py"}
