"""The playground in a browser: an answer streams in, is there after a reload, branches, stops, is kept."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from store.contract.home import Home
from store.queries import conversations
from tests.e2e.started_app import App, wait_until
from tests.tiny import write_model

pytestmark = pytest.mark.timeout(300)
HOSTILE = "<img src=x onerror=\"document.title='broken in'\"> **bold**"


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    home = Home(tmp_path_factory.mktemp("talk")).create()
    for seed, name in enumerate(("first", "second")):
        free = {"max_position_embeddings": 8192, "tie_word_embeddings": False}  # tied, both repeat one token
        write_model(home.models / name, seed=seed, **free)
    started = App(home.path, sample=False)
    yield started
    started.stop()


def test_people_talk_to_two_models_and_keep_what_they_say(app: App, page: Page) -> None:
    app.open(page, "/playground")
    expect(page.get_by_role("heading", name="What do they say?")).to_be_visible()
    page.get_by_role("combobox", name="Models").click()
    page.get_by_role("option", name="second").click()
    page.keyboard.press("Escape")
    box = page.get_by_label("What do you say?")
    box.fill(HOSTILE)
    box.press("Enter")
    figures = page.locator(".figures", has_text="tokens/s")
    expect(figures).to_have_count(2)
    page.wait_for_url(re.compile(r"turn="))
    assert page.title() != "broken in"
    expect(page.locator(".said")).to_have_text(HOSTILE)
    expect(page.locator(".parts").first).to_be_visible()
    tokens = page.locator("article").first.locator(".token")
    tokens.filter(has_text=re.compile(r"\S")).first.hover()
    expect(page.locator(".tip .row")).not_to_have_count(0)
    expect(page.locator(".tip")).to_contain_text("%")

    page.reload()
    expect(figures).to_have_count(2)
    page.get_by_role("button", name="Say it differently").click()
    box.fill("Something else")
    box.press("Enter")
    expect(page.get_by_text("2 of 2")).to_be_visible()
    page.get_by_role("button", name="The version before").click()
    expect(page.locator(".said")).to_have_text(HOSTILE)

    page.get_by_role("button", name="Keep this as a test case").first.click()
    page.get_by_role("textbox", name="The answer as it should be").fill("A better answer")
    page.get_by_role("button", name="Keep", exact=True).click()
    expect(page.get_by_text("Kept: 1 row")).to_be_visible()
    wait_until(lambda: conversations.kept_rows(app.client), 10, "the row is in the store")
    assert conversations.kept_rows(app.client)[0]["messages"][-1]["content"] == "A better answer"


def test_stop_keeps_what_had_come(app: App, page: Page) -> None:
    app.open(page, "/playground")
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("max_new_tokens").fill("4000")
    page.get_by_label("max_new_tokens").press("Enter")
    page.keyboard.press("Escape")
    box = page.get_by_label("What do you say?")
    box.fill("Go on for long")
    box.press("Enter")
    expect(page.locator(".token").first).to_be_attached()
    page.get_by_role("button", name="Stop").click()
    expect(page.locator(".figures", has_text="stopped")).to_be_visible()
    page.wait_for_url(re.compile(r"turn="))
    page.reload()
    expect(page.locator(".figures", has_text="stopped")).to_be_visible()
    expect(page.locator(".token").first).to_be_attached()
