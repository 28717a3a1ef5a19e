"""Tabs in a browser: old addresses lead to them, the address follows a click, and Back goes back."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.started_app import App
from tests.pages.seeds.seed_costs import seed_costs

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """Over a home folder of runs, without the sample experiment."""
    home = tmp_path_factory.mktemp("costs")
    seed_costs(home)
    started = App(home, sample=False)
    yield started
    started.stop()


def test_an_old_address_shows_the_tab_and_back_leaves_it(app: App, page: Page) -> None:
    app.open(page)
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    page.goto(f"{app.address}/mix?run=lora-0.003&alpha=0.4")
    page.wait_for_url(re.compile(r"/run\?tab=between&run=lora-0\.003&alpha=0\.4$"))
    expect(page.get_by_role("heading", name="Interpolation", exact=True)).to_be_visible()
    expect(page.locator(".st-key-mix-one")).to_contain_text("α 0.4")
    expect(page.get_by_role("tablist").first).to_be_in_viewport()  # though it is far down the page
    page.go_back()
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()

    page.goto(f"{app.address}/evidence?run=lora-0.003&colour=Method")
    expect(page.get_by_role("heading", name="Gain and forgetting", exact=True)).to_be_visible()
    expect(page.get_by_role("radio", name="Method")).to_be_checked()
    expect(page.locator(".st-key-cost-picked")).to_contain_text("lora at 0.003")
    page.goto(f"{app.address}/transfer")
    expect(page.get_by_role("heading", name="Transfer", exact=True)).to_be_visible()


def test_the_address_follows_a_click_and_back_a_button(app: App, page: Page) -> None:
    app.open(page, "/compare?runs=lora-0.001,lora-0.003")
    expect(page.get_by_role("heading", name="Compare", exact=True)).to_be_visible()
    page.get_by_role("tab", name="Gain and forgetting").click()
    page.wait_for_url(re.compile(r"tab=cost"))
    expect(page.get_by_role("heading", name="Gain and forgetting", exact=True)).to_be_visible()
    page.go_back()
    expect(page.get_by_role("heading", name="Compare", exact=True)).to_be_visible()

    page.goto(f"{app.address}/compare?tab=cost&run=lora-0.003")
    page.get_by_role("button", name="Interpolate").first.click()
    page.wait_for_url(re.compile(r"/run\?.*tab=between"))
    expect(page.get_by_role("heading", name="Interpolation", exact=True)).to_be_visible()
    page.go_back()
    expect(page.get_by_role("heading", name="Gain and forgetting", exact=True)).to_be_visible()


def test_the_address_follows_a_link_to_the_page_that_is_open(app: App, page: Page) -> None:
    app.open(page, "/run")
    page.get_by_role("link", name="lora at 0.003").click()
    page.wait_for_url(re.compile(r"/run\?run=lora-0\.003$"))
    page.get_by_role("button", name="More").first.click()  # whatever is clicked next, it is still that run
    expect(page.get_by_role("heading", name="lora at 0.003")).to_be_visible()
    page.go_back()
    page.wait_for_url(re.compile(r"/run$"))


def test_a_choice_that_the_address_has_leaves_the_page_whole(app: App, page: Page) -> None:
    app.open(page, "/compare?tab=cost&run=lora-0.003")
    page.get_by_role("radio", name="Questions").click()
    page.wait_for_url(re.compile(r"forgetting=Questions"))
    expect(page.locator(".st-key-cost-picked")).to_contain_text("lora at 0.003")
    expect(page.get_by_role("radio", name="Questions")).to_be_checked()
    expect(page.get_by_text("Something went wrong")).to_have_count(0)
    page.get_by_role("radio", name="Prose").click()
    page.wait_for_url(re.compile(r"run=lora-0\.003(?!.*forgetting=)"))
    expect(page.locator(".st-key-cost-picked")).to_contain_text("lora at 0.003")
