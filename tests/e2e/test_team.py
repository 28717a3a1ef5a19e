"""A team in real browsers: the printed link, invitations, roles that the engine keeps, sessions that end."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from engine.commands import Commands
from engine.server.login import TRIES_OF_ACCOUNT
from engine.server.people_commands import People
from store.core.home import Home
from store.db.database import Database
from store.http.access import SESSION_HEADER, read_secret
from store.http.client import Client
from tests.e2e.started_app import App
from tests.e2e.team_app import PASSWORD, TeamApp, accept, invite, sign_in

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def team_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TeamApp]:
    started = TeamApp(tmp_path_factory.mktemp("home"))
    yield started
    started.stop()


@pytest.fixture(scope="module")
def admin(team_app: TeamApp, browser: Browser) -> Iterator[Page]:
    """The first admin's browser, in which the account was made."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()
    accept(page, team_app.link, "Ada", "ada@example.org")
    yield page
    context.close()


@pytest.fixture
def another(browser: Browser) -> Iterator[Page]:
    """A second person's browser."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    yield context.new_page()
    context.close()


def session_of(context: BrowserContext) -> str:
    """The secret in the cookie of whoever is signed in."""
    return next(
        cookie["value"] for cookie in context.cookies() if cookie["name"].startswith("tunebench-session")
    )


def asks_engine(app: App, session: str) -> httpx.Client:
    """The engine, as the screens reach it for this session."""
    home = Home(app.home)
    address = Client(home)._connect().base_url
    headers = {"Authorization": f"Bearer {read_secret(home.screens_token)}", SESSION_HEADER: session}
    return httpx.Client(base_url=address, headers=headers, trust_env=False, timeout=30)


def test_a_team_from_the_printed_link_to_the_end_of_a_session(
    team_app: TeamApp, admin: Page, another: Page, tmp_path: Path
) -> None:
    cookie = next(item for item in admin.context.cookies() if item["name"].startswith("tunebench-session"))
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["secure"]) == (True, "Strict", False)
    assert admin.evaluate("document.cookie").find("tunebench") == -1

    accept(another, invite(admin, "viewer", "vera@example.org"), "Vera")
    expect(another.get_by_role("link", name="Overview")).to_be_visible()
    expect(another.get_by_role("link", name="Team")).to_be_hidden()
    with asks_engine(team_app, session_of(another.context)) as engine:
        names = commands(tmp_path / "names")
        assert len(names) > 30
        refused = {name: engine.post(f"/commands/{name}", json={"x": 1}).status_code for name in names}
    own = {"set_own_name", "set_own_password", "end_session", "make_token", "revoke_token"}
    looking = {"record_comparison"}  # whoever reads a comparison is counted
    assert {name for name, status in refused.items() if status != 403} == own | looking

    another.get_by_role("link", name="Sign out").click()
    another.get_by_role("button", name="Sign out").click()
    expect(another.get_by_role("heading", name="Sign in to Tunebench")).to_be_visible()
    another.goto(f"{team_app.address}/evaluations")
    sign_in(another, "vera@example.org")
    expect(another.get_by_role("heading", name="Evaluations")).to_be_visible()

    admin.get_by_role("link", name="Overview").click()
    admin.get_by_role("link", name="Team").click()
    row = admin.locator("[class*='st-key-member-']").filter(has_text="vera@example.org")
    row.get_by_role("button", name="Account").click()
    admin.get_by_role("button", name="End session").click()
    expect(admin.get_by_text("Session ended.")).to_be_visible()
    another.get_by_role("link", name="Compare").click()  # the next click is out
    expect(another.get_by_role("heading", name="You are signed out")).to_be_visible()
    another.get_by_role("link", name="Sign in").click()
    expect(another.get_by_role("heading", name="Sign in to Tunebench")).to_be_visible()


def commands(folder: Path) -> list[str]:
    """The names of all commands; `folder`: for a store of their own."""
    home = Home(folder).create()
    database = Database(home.database, [])
    people = People(database, "", "").commands
    names = list(Commands(database, home, lambda name, body: None, people=people).commands())
    database.close()
    return names


def test_a_rater_sees_rounds_and_the_own_account_alone(team_app: TeamApp, admin: Page, another: Page) -> None:
    accept(another, invite(admin, "rater", "rita@example.org"), "Rita")
    rounds = another.get_by_role("heading", name="Rating", exact=True)
    expect(rounds).to_be_visible()
    another.goto(f"{team_app.address}/run")
    expect(another.get_by_text("and you are a rater")).to_be_visible()
    links = another.get_by_test_id("stSidebar").get_by_role("link")
    expect(links).to_contain_text(["Rating", "You", "Sign out"])
    with asks_engine(team_app, session_of(another.context)) as engine:
        for path in ("/queries/runs.runs.list_runs", "/sql", "/asks/preview"):
            assert engine.post(path, json={"sql": "SELECT 1"}).status_code == 403
        for path in ("/machine", "/models", "/jobs/x/log", "/exports/x", "/team"):
            assert engine.get(path).status_code == 403


def test_an_invitation_opens_once(team_app: TeamApp, admin: Page, another: Page) -> None:
    another.goto(team_app.link)
    expect(another.get_by_role("heading", name="This link is not valid")).to_be_visible()
    expect(another.get_by_text("already used")).to_be_visible()


def test_wrong_passwords_are_throttled_and_the_wait_is_said(team_app: TeamApp, another: Page) -> None:
    form = {"email": "eve@example.org", "password": "a wrong sentence"}
    with httpx.Client(base_url=team_app.address, headers={"Origin": team_app.address}, timeout=30) as http:
        statuses = []
        while 429 not in statuses:  # waits double, so that the slowest machine comes too early at last
            answer = http.post("/sign-in", data=form)
            statuses.append(answer.status_code)
            assert len(statuses) < 20
    assert set(statuses[:TRIES_OF_ACCOUNT]) == {401}
    assert 1 <= int(answer.headers["retry-after"]) <= 600
    another.goto(team_app.address)
    alert = ""
    for _ in range(8):  # the same in the form: the waits have outgrown the time that a page takes
        with another.expect_navigation():
            sign_in(another, "eve@example.org", "a wrong sentence")
        alert = another.get_by_role("alert").inner_text()
        if "too many" in alert:
            break
    assert re.search(r"too many wrong attempts\. Try again in [0-9]+ s", alert)


def test_the_secret_of_the_address_and_another_sites_form_open_nothing(
    team_app: TeamApp, admin: Page, another: Page, tmp_path: Path
) -> None:
    secret = read_secret(Home(team_app.home).screens_secret)
    another.goto(f"{team_app.address}/?secret={secret}")
    expect(another.get_by_role("heading", name="Sign in to Tunebench")).to_be_visible()
    assert secret not in another.url
    site = tmp_path / "site.html"
    site.write_text(
        f'<form method="post" action="{team_app.address}/sign-in">'
        '<input name="email" value="ada@example.org">'
        f'<input name="password" value="{PASSWORD}"><button>Win</button></form>'
    )
    another.goto(site.as_uri())
    another.get_by_role("button", name="Win").click()
    refusal = "Tunebench rejects requests from pages of other sites."
    expect(another.get_by_text(refusal)).to_be_visible()
    assert not [c for c in another.context.cookies() if c["name"].startswith("tunebench-session")]


def test_a_link_on_another_site_opens_for_who_is_signed_in(
    team_app: TeamApp, admin: Page, tmp_path: Path
) -> None:
    page = admin.context.new_page()
    site = tmp_path / "site.html"
    site.write_text(f'<a href="{team_app.address}/evaluations">Look</a>')
    page.goto(site.as_uri())
    page.get_by_role("link", name="Look").click()
    expect(page.get_by_role("heading", name="Evaluations")).to_be_visible()
    page.close()


def test_a_token_lets_the_command_line_act_in_somebodys_name(team_app: TeamApp, admin: Page) -> None:
    admin.get_by_role("link", name="You").click()
    admin.get_by_label("Token name").fill("scripts")
    admin.get_by_role("button", name="Create token").click()
    token = admin.get_by_test_id("stCode").first.inner_text().strip()
    assert team_app.cli("me", "--json", environment={"TUNEBENCH_TOKEN": token})["name"] == "Ada"


def test_forwarded_headers_count_for_nobody_where_no_proxy_is_trusted(team_app: TeamApp, admin: Page) -> None:
    claims = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https", "Origin": team_app.address}
    form = {"email": "ada@example.org", "password": PASSWORD}
    answer = httpx.post(f"{team_app.address}/sign-in", data=form, headers=claims, trust_env=False, timeout=30)
    assert answer.status_code == 303
    assert "Secure" not in answer.headers["set-cookie"]
    addresses = {session.address for session in Client(Home(team_app.home)).team().sessions}
    assert addresses == {"127.0.0.1"}
