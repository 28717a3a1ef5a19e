"""`tunebench up --team`, and what people do at its door: for tests in a browser."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from playwright.sync_api import Page, expect

from tests.e2e.started_app import App

PASSWORD = "a long sentence"


class TeamApp(App):
    """`tunebench up --team` over a new home folder; `link` makes the first admin's account."""

    def __init__(self, home: Path, options: Sequence[str] = ()) -> None:
        super().__init__(home, sample=False, options=["--team", *options])
        assert self.process.stdout
        match = re.search(r"http://\S+/invitation\?code=\S+", self.process.stdout.readline())
        assert match
        self.link = match.group()


def accept(page: Page, link: str, name: str, email: str = "") -> None:
    page.goto(link)
    page.get_by_label("Your name").fill(name)
    if email:
        page.get_by_label("E-mail").fill(email)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Create account").click()
    page.wait_for_url(re.compile(r"/$"))
    expect(page.get_by_role("link", name="Sign out")).to_be_visible()


def sign_in(page: Page, email: str, password: str = PASSWORD) -> None:
    page.get_by_label("E-mail").fill(email)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()


def invite(page: Page, role: str, email: str) -> str:
    """The link that the page Team makes."""
    page.get_by_role("link", name="Team").click()
    expect(page.get_by_role("heading", name="Team")).to_be_visible()
    page.get_by_role("combobox", name=re.compile("Role")).last.click()
    page.get_by_role("option", name=re.compile(f"^{role}:")).click()
    page.get_by_role("textbox", name="E-mail (optional)").fill(email)
    page.get_by_role("button", name="Create invitation link").click()
    link = page.get_by_test_id("stCode").first.inner_text()
    page.get_by_role("button", name="I copied it").click()
    expect(page.get_by_role("button", name="I copied it")).to_be_hidden()
    return link.strip()
