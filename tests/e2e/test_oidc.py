"""The organization's own sign-in, in a real browser against a real OpenID Connect provider."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from oidc_provider_mock import User, run_server_in_thread
from playwright.sync_api import Browser, Page, expect

from store.core.home import Home
from store.http.client import Client
from tests.e2e.started_app import App, pick_port

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

pytestmark = [pytest.mark.timeout(300), pytest.mark.filterwarnings("ignore::DeprecationWarning")]

KEPT = "kim"  # whom the provider lets in again unasked
USERS = [
    User(sub=KEPT, claims={"email": "kim@example.org", "email_verified": True, "name": "Kim"}),
    User(sub="mia", claims={"email": "Mia@example.org", "email_verified": True, "name": "Mia <i>"}),
    User(sub="eve", claims={"email": "mia@example.org", "email_verified": False, "name": "Eve"}),
    User(sub="nobody", claims={"email": "nobody@example.org", "email_verified": True, "name": "Nobody"}),
]


class KeepsSessions:
    """The provider with what it lacks: a session of its own in the browser of KEPT, who is not asked again
    until that has ended."""

    COOKIE = "at-the-provider=yes"

    def __init__(self, app: WSGIApplication) -> None:
        self._app = app

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path, method = environ["PATH_INFO"], environ["REQUEST_METHOD"]
        form = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        has_session = self.COOKIE in environ.get("HTTP_COOKIE", "")
        changed = []
        if path == "/oauth2/authorize" and method == "GET" and has_session:
            form = f"sub={KEPT}".encode()
            environ |= {"REQUEST_METHOD": "POST", "CONTENT_TYPE": "application/x-www-form-urlencoded"}
        elif path == "/oauth2/authorize" and form == f"sub={KEPT}".encode():
            changed = [("Set-Cookie", f"{self.COOKIE}; Path=/")]
        elif path == "/oauth2/end_session/confirm":
            changed = [("Set-Cookie", f"{self.COOKIE}; Path=/; Max-Age=0")]
        environ |= {"CONTENT_LENGTH": str(len(form)), "wsgi.input": io.BytesIO(form)}

        def start(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
            return start_response(status, headers + changed, *error)

        return self._app(environ, start)


@pytest.fixture(scope="module")
def provided(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """Screens with a provider, in whose home folder Mia is invited."""
    home = tmp_path_factory.mktemp("home")
    port = pick_port()
    with run_server_in_thread(user_claims=USERS) as provider:
        provider.app = KeepsSessions(provider.app)
        environment = {
            "TUNEBENCH_OIDC_CLIENT_ID": "tunebench",
            "TUNEBENCH_OIDC_CLIENT_SECRET": "s3cret",
            "TUNEBENCH_OIDC_DISCOVERY_URL": (
                f"http://localhost:{provider.server_port}/.well-known/openid-configuration"
            ),
            "TUNEBENCH_OIDC_ADDRESS": f"http://127.0.0.1:{port}",
            "TUNEBENCH_OIDC_NAME": "Example Lab",
        }
        started = App(
            home,
            port,
            sample=False,
            options=["--team", "--trusted-proxy", "127.0.0.1"],
            environment=environment,
        )
        for name in ("mia", KEPT):
            Client(Home(home)).command("invite", {"role": "viewer", "email": f"{name}@example.org"})
        yield started
        started.stop()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 390, "height": 844})
    yield context.new_page()
    context.close()


def come_as(page: Page, app: App, user: str, path: str = "/") -> None:
    """Through the provider's form, from the address of a page."""
    page.goto(app.address + path)
    page.get_by_role("link", name="Sign in with Example Lab").click()
    page.get_by_placeholder("sub").fill(user)
    page.get_by_role("button", name="Authorize").click()


def cookie_names(page: Page) -> list[str]:
    return sorted(re.sub(r"-[0-9a-f]{12}$", "", cookie["name"]) for cookie in page.context.cookies())


def test_a_verified_address_comes_in_by_its_invitation_and_back_to_the_page(
    provided: App, page: Page
) -> None:
    come_as(page, provided, "mia", "/evaluations")
    expect(page.get_by_role("heading", name="Evaluations")).to_be_visible()
    assert page.url == f"{provided.address}/evaluations"
    assert not [name for name in cookie_names(page) if name.startswith("_streamlit_user")]
    assert "tunebench-session" in cookie_names(page)
    members = Client(Home(provided.home)).team().members
    [person] = [member for member in members if member.email == "mia@example.org"]
    assert (person.name, person.email, person.role) == ("Mia <i>", "mia@example.org", "viewer")
    assert not person.has_password

    client = Client(Home(provided.home))
    client.command("set_active", {"person": person.person_id, "active": False})
    page.reload()
    expect(page.get_by_role("heading", name="Sign in to Tunebench")).to_be_visible()
    come_as(page, provided, "mia")
    expect(page.get_by_text("The account of mia@example.org is switched off.")).to_be_visible()


def test_an_address_that_nobody_verified_is_nobodys(provided: App, page: Page) -> None:
    come_as(page, provided, "eve")
    expect(page.get_by_text("Example Lab has not verified your e-mail address.")).to_be_visible()
    assert "tunebench-session" not in cookie_names(page)
    page.goto(provided.address)
    expect(page.get_by_role("heading", name="Sign in to Tunebench")).to_be_visible()


def sign_out(page: Page, app: App) -> dict[str, list[str]]:
    """Leave, and be led to the provider; what it was told."""
    page.goto(f"{app.address}/sign-out")
    expect(page.get_by_text("This also signs you out at Example Lab")).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/oauth2/end_session?*")
    return parse_qs(urlsplit(page.url).query)


def test_who_signs_out_is_signed_out_at_the_provider_too(provided: App, page: Page) -> None:
    come_as(page, provided, KEPT)
    overview = page.get_by_role("heading", name="Overview")
    expect(overview).to_be_visible()
    other_window = page.context.new_page()
    page.context.clear_cookies(name=re.compile("^tunebench-session"))
    other_window.goto(provided.address)
    other_window.get_by_role("link", name="Sign in with Example Lab").click()  # its own session is enough
    expect(other_window.get_by_role("link", name="Sign out")).to_be_visible()

    asked = sign_out(page, provided)
    assert asked["client_id"] == ["tunebench"]
    assert asked["post_logout_redirect_uri"] == [f"{provided.address}/oauth2callback"]
    [_, claims, _] = asked["id_token_hint"][0].split(".")
    assert json.loads(base64.urlsafe_b64decode(claims + "==="))["sub"] == KEPT
    # one that knows the browser stays: it lets nobody in, and others' wrong passwords don't keep it out
    assert [name for name in cookie_names(page) if name.startswith("tunebench")] == ["tunebench-known"]
    page.get_by_role("button", name="End session").click()
    signed_out = page.get_by_role("heading", name="Sign in to Tunebench")
    expect(signed_out).to_be_visible()
    page.goto(f"{provided.address}/evaluations")
    expect(signed_out).to_be_visible()
    page.get_by_role("link", name="Sign in with Example Lab").click()
    expect(page.get_by_placeholder("sub")).to_be_visible()  # it asks who it is


def test_who_has_no_account_is_told_whom_to_ask(provided: App, page: Page) -> None:
    come_as(page, provided, "nobody")
    expect(page.get_by_text("No account has the address nobody@example.org.")).to_be_visible()
    assert not [name for name in cookie_names(page) if name.startswith("_streamlit_user")]


def test_who_says_no_at_the_provider_is_not_in(provided: App, page: Page) -> None:
    page.goto(provided.address)
    page.get_by_role("link", name="Sign in with Example Lab").click()
    page.get_by_role("button", name="Deny").click()
    expect(page.get_by_text("Example Lab did not return your identity.")).to_be_visible()


def test_an_answer_that_was_never_asked_for_opens_nothing(provided: App, page: Page) -> None:
    page.goto(f"{provided.address}/oauth2callback?code=x&state=y")
    expect(page.get_by_text("Example Lab did not return your identity.")).to_be_visible()
    page.goto(f"{provided.address}/auth/login?provider=x")
    expect(page.get_by_role("heading", name="Sign in to Tunebench")).to_be_visible()


def test_what_a_trusted_proxy_says_of_address_and_https_counts(provided: App) -> None:
    client = Client(Home(provided.home))
    code = client.command("invite", {"role": "rater"})["secret"]
    claims = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https"}
    claims["Origin"] = provided.address.replace("http:", "https:")
    form = {"code": code, "name": "Rita", "email": "rita@example.org", "password": "a long sentence"}
    url = f"{provided.address}/invitation"
    answer = httpx.post(url, data=form, headers=claims, trust_env=False, timeout=30)
    assert answer.status_code == 303
    assert "Secure" in answer.headers["set-cookie"]
    assert "203.0.113.9" in {session.address for session in client.team().sessions}
