"""The door of the real screens, met by a real browser and by raw requests: who gets in, what they see."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from playwright.sync_api import Browser, Page, expect

from pages.people.access_middleware import build_cookie_name
from store.core.home import Home
from tests.e2e.started_app import BROWSER_ARGS, App, pick_port
from tests.loopback import has_ipv6_loopback
from tunebench.terminal.processes import find_screens_address

pytestmark = pytest.mark.timeout(300)

PATHS = ["/", "/data", "/_stcore/health", "/_stcore/host-config", "/static/js/x.js", "/media/x.png"]
HANDSHAKE = {
    **{"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"},
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


@pytest.fixture(scope="module")
def app(empty_app: App) -> App:
    """Nothing behind the door needs the sample, which would take the processors meanwhile."""
    return empty_app


@pytest.fixture(scope="module")
def cookie(app: App) -> dict[str, str]:
    secret = (app.home / "screens.secret").read_text().strip()
    return {"Cookie": f"{build_cookie_name(secret)}={secret}"}


def ask(app: App, method: str, path: str, headers: dict[str, str]) -> int:
    """The status of an answer; of a connection that is taken over (101) too."""
    with httpx.Client(trust_env=False, timeout=20) as http:
        request = http.build_request(method, app.address + path, headers=headers)
        return http.send(request, stream=True).status_code


EVIL = [
    {"Host": "evil.test"},
    {"Host": "evil.test", "Origin": "http://evil.test"},
    {"Origin": "http://evil.test"},
    {"Origin": "http://127.0.0.1:1"},
]


@pytest.mark.parametrize("headers", EVIL)
def test_another_sites_page_reaches_nothing_not_even_with_the_cookie(
    app: App, cookie: dict[str, str], headers: dict[str, str]
) -> None:
    for brought in ({}, cookie):
        assert {ask(app, "GET", path, brought | headers) for path in PATHS} == {403}
        for method in ("PUT", "DELETE", "OPTIONS"):
            assert ask(app, method, "/_stcore/upload_file/session/file", brought | headers) == 403
        assert ask(app, "GET", "/_stcore/stream", brought | HANDSHAKE | headers) == 403
        assert ask(app, "POST", "/rating/rate", brought | headers) == 403


def test_another_account_of_the_machine_reaches_nothing(app: App) -> None:
    own = {"Origin": app.address}
    assert {ask(app, "GET", path, {}) for path in PATHS} == {403}
    assert ask(app, "PUT", "/_stcore/upload_file/session/file", own) == 403
    assert ask(app, "GET", "/_stcore/stream", HANDSHAKE | own) == 403
    assert ask(app, "POST", "/rating/rate", own) == 403


def test_the_user_reaches_everything(app: App, cookie: dict[str, str]) -> None:
    own = cookie | {"Origin": app.address}
    assert ask(app, "GET", "/", own) == 200
    assert ask(app, "GET", "/_stcore/health", own) == 200
    assert ask(app, "GET", "/_stcore/stream", HANDSHAKE | own) == 101
    assert ask(app, "PUT", "/_stcore/upload_file/session/file", own) in (400, 403)  # of Streamlit: no session
    assert ask(app, "POST", "/rating/rate", own) == 415  # of the route: no JSON


NO_HELP = "--disable-features=LocalNetworkAccessChecks,BlockInsecurePrivateNetworkRequests"


@pytest.fixture
def rebound(browser: Browser) -> Iterator[Page]:
    """A page of a browser for which evil.test is this machine, and which lets sites ask this machine."""
    launched = browser.browser_type.launch(
        executable_path=shutil.which("chromium"),
        args=[*BROWSER_ARGS, "--host-resolver-rules=MAP evil.test 127.0.0.1", NO_HELP],
    )
    yield launched.new_page()
    launched.close()


ATTACK = """async () => {
    const status = (path, method) => fetch(path, {method}).then(answer => answer.status, () => "no answer")
    const socket = await new Promise(done => {
        const live = new WebSocket(`ws://${location.host}/_stcore/stream`, ["streamlit"])
        live.onopen = () => done("open")
        live.onerror = () => done("refused")
    })
    const upload = await status("/_stcore/upload_file/session/file", "PUT")
    return [await status("/", "GET"), await status("/static/js/x.js", "GET"), upload, socket]
}"""


def test_dns_rebinding_is_refused_in_a_real_browser(app: App, rebound: Page) -> None:
    evil = app.address.replace("127.0.0.1", "evil.test")
    answer = rebound.goto(f"{evil}/?{app.entrance.partition('?')[2]}")  # even one who had the secret
    assert answer
    assert answer.status == 403
    expect(rebound.get_by_role("heading", name="This address is not served")).to_be_visible()

    # The attacker's page came from elsewhere; since then its name leads here.
    rebound.route(f"{evil}/attack", lambda route: route.fulfill(body="<p>", content_type="text/html"))
    rebound.goto(f"{evil}/attack")
    assert rebound.evaluate(ATTACK) == [403, 403, 403, "refused"]


def test_the_printed_address_opens_and_leaves_no_secret(app: App, browser: Browser) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.goto("about:blank")
    app.open(page, "/data?view=import")
    expect(page.get_by_role("heading", name="Import data set")).to_be_visible()
    assert page.url == f"{app.address}/data?view=import"
    assert page.evaluate("history.length") == 2  # about:blank and this page: none with the secret between
    assert page.evaluate("document.cookie").find("tunebench") == -1
    kept = next(item for item in context.cookies() if item["name"].startswith("tunebench-"))
    assert (kept["httpOnly"], kept["sameSite"]) == (True, "Strict")
    assert kept["expires"] > time.time() + 300 * 24 * 3600
    page.reload()
    expect(page.get_by_role("heading", name="Import data set")).to_be_visible()
    context.close()


def test_a_file_that_leads_to_the_address_opens_it(app: App, page: Page, tmp_path: Path) -> None:
    """As `tunebench up` opens a browser: what begins in a file brings no Strict cookie along a redirect."""
    leading = tmp_path / "open.html"
    leading.write_text(f'<meta http-equiv="refresh" content="0; url={app.entrance}">')
    page.goto(leading.as_uri())
    page.wait_for_url(f"{app.address}/")
    expect(page.get_by_role("button", name="Run the sample experiment")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_without_the_secret_a_page_says_where_it_is(app: App, browser: Browser, scheme: str) -> None:
    context = browser.new_context(color_scheme=scheme, viewport={"width": 390, "height": 844})
    page = context.new_page()
    answer = page.goto(f"{app.address}/run?run=x")
    assert answer
    assert answer.status == 403
    expect(page.get_by_role("heading", name="Open Tunebench with its full address")).to_be_visible()
    expect(page.get_by_text("tunebench url", exact=True)).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    back = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert back == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(15, 22, 25)")
    context.close()


def test_a_link_on_another_site_is_one_click_away(app: App, page: Page, tmp_path: Path) -> None:
    app.open(page)
    site = tmp_path / "site.html"
    site.write_text(f'<a href="{app.address}/launch">Look</a>')
    page.goto(site.as_uri())
    page.get_by_role("link", name="Look").click()
    page.get_by_role("link", name="Open this page of Tunebench").click()
    expect(page.get_by_role("link", name="Overview")).to_be_visible()
    assert page.url == f"{app.address}/launch"


def test_the_address_is_printed_again_and_outlives_a_restart(app: App, tmp_path: Path) -> None:
    home = tmp_path / "home"
    first = App(home, sample=False)
    first.stop()
    assert not Home(home).screens_file.exists()
    second = App(home, sample=False)
    try:
        assert second.entrance.partition("?")[2] == first.entrance.partition("?")[2]
        assert find_screens_address(Home(home)) == second.entrance
    finally:
        second.stop()


@pytest.mark.skipif(not has_ipv6_loopback(), reason="this machine has no ::1")
def test_screens_on_an_ipv6_address_are_reached_there_alone(tmp_path: Path, page: Page) -> None:
    port = pick_port()
    app = App(tmp_path / "home", port, sample=False, options=["--host", "::1"])
    try:
        assert app.address == f"http://[::1]:{port}"
        app.open(page)
        expect(page.get_by_role("heading", name="Overview")).to_be_visible()
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"http://127.0.0.1:{port}", trust_env=False)
    finally:
        app.stop()


def test_screens_end_with_the_command_that_started_them(tmp_path: Path) -> None:
    port = pick_port()
    started = App(tmp_path / "home", port, sample=False)
    engine = started.engine()
    screens = [
        child for child in psutil.Process(started.process.pid).children() if "pages" in child.cmdline()
    ]
    assert len(screens) == 1
    started.process.send_signal(signal.SIGKILL)
    started.process.wait()
    _, alive = psutil.wait_procs(screens, 5)
    try:
        assert not alive
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"http://127.0.0.1:{port}/", trust_env=False)
        again = App(tmp_path / "home", port, sample=False)  # the same port, the same engine
        assert again.address == started.address
        assert again.engine_pid() == engine.pid
        again.stop()
    finally:
        engine.terminate()
