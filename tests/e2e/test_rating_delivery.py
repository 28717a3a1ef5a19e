"""What is rated in a real browser reaches the store once: without an engine, a network, a page, a session."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.rating_server import RatingServer, build_choices, open_round, press
from tests.e2e.started_app import wait_until

pytestmark = pytest.mark.timeout(120)


def waiting(page: Page) -> list[str]:
    """What the browser keeps of ratings."""
    names: list[str] = page.evaluate(
        "Object.keys(localStorage).filter((name) => name.startsWith('tunebench-rating'))"
    )
    return names


def test_with_the_engine_away_ratings_wait_through_a_reload_and_are_stored_once(
    server: RatingServer, page: Page, round_id: str
) -> None:
    desk = open_round(page, server, round_id)
    server.set(status=503)
    press(page, "a", "b", "t", "n")  # all that is prepared
    expect(page.get_by_text("the engine does not answer. Trying again… 4 ratings kept")).to_be_visible()
    press(page, "u")
    expect(page.get_by_text("4 ratings not stored yet: the engine does not answer.")).to_be_visible()
    expect(desk.get_by_role("button", name="Neither is good")).to_have_attribute("aria-pressed", "true")
    page.reload()
    expect(page.get_by_text("4 ratings kept in this browser will be sent.")).to_be_visible()
    assert server.ratings(round_id) == []
    server.set()
    page.get_by_role("button", name="Try now").click()
    expect(page.get_by_text("All ratings from your last visit are saved.")).to_be_visible()
    expect(page.locator(".progress-text")).to_contain_text("4 of 20")
    assert server.answers_of(round_id) == build_choices("A", "B", "tie", "both_bad")
    assert waiting(page) == []
    press(page, "u")
    expect(desk.get_by_role("button", name="Neither is good")).to_have_attribute("aria-pressed", "true")


def test_a_refused_rating_is_kept_and_leads_back(server: RatingServer, page: Page, round_id: str) -> None:
    desk = open_round(page, server, round_id)
    server.set(refuse=2)
    press(page, "a")
    expect(page.get_by_text("A rating was not saved. The comment names a model.")).to_be_visible()
    expect(desk.locator(".prompt")).to_contain_text("(case 1)")
    page.reload()  # it is tried again, and refused again
    expect(page.get_by_text("A rating was not saved. The comment names a model.")).to_be_visible()
    press(page, "b")
    wait_until(lambda: len(server.ratings(round_id)) == 1, 10, "the one after it")
    page.get_by_role("button", name="Go back to it").click()
    expect(page.locator(".progress-text")).to_have_text("Previous item (not saved)")
    expect(desk.get_by_role("button", name="A is better")).to_have_attribute("aria-pressed", "true")
    press(page, "t")
    wait_until(lambda: len(server.ratings(round_id)) == 2, 10, "what was put right")
    expect(page.get_by_text("A rating was not saved.")).to_have_count(0)
    stored = [(each["task"][-3:], each["revision"], each["answer"]) for each in server.ratings(round_id)]
    assert stored == [("001", 1, build_choices("B")[0]), ("000", 1, build_choices("tie")[0])]
    assert waiting(page) == []


def test_a_page_that_is_closed_sends_what_waits_and_lets_go_of_the_rest(
    server: RatingServer, page: Page, round_id: str
) -> None:
    open_round(page, server, round_id)
    server.set(delay=2)
    press(page, "a", "b")
    page.keyboard.press("m")
    page.keyboard.type("begun")
    page.goto("about:blank")
    wait_until(lambda: len(server.ratings(round_id)) == 2, 20, "both are stored")
    wait_until(lambda: bool(server.released(round_id)), 20, "the rest is released")
    stored = {each["task"][-3:]: each["answer"]["choice"] for each in server.ratings(round_id)}
    assert stored == {"000": "A", "001": "B"}
    (released,) = server.released(round_id)
    assert {task[-3:] for task in released["keep"]} == {"000", "001", "002"}
    server.set()
    open_round(page, server, round_id)  # what was sent so is not sent as another tab's
    expect(page.locator(".progress-text")).to_contain_text("2 of 20")
    wait_until(lambda: len(waiting(page)) == 1, 10, "the draft alone is left in the browser")
    expect(page.get_by_text("another tab")).to_have_count(0)
    assert len(server.ratings(round_id)) == 2


def test_a_lost_answer_and_a_dropped_network_store_a_rating_once(
    server: RatingServer, page: Page, round_id: str
) -> None:
    open_round(page, server, round_id)
    server.set(lose=1)  # stored, and the answer lost on its way
    press(page, "a")
    wait_until(lambda: waiting(page) == [], 10, "it is known to be stored")
    expect(page.get_by_text("another tab")).to_have_count(0)
    page.context.set_offline(True)
    press(page, "b", "t")
    expect(page.get_by_text("2 ratings not stored yet")).to_be_visible()
    page.context.set_offline(False)
    wait_until(lambda: waiting(page) == [], 20, "all is stored")
    assert server.answers_of(round_id) == build_choices("A", "B", "tie")


def test_a_killed_server_loses_nothing(server: RatingServer, page: Page) -> None:
    round_id = "pairwise-20-killed"
    open_round(page, server, round_id)
    server.stop()
    press(page, "t", "a")
    expect(page.get_by_text("2 ratings not stored yet: the engine does not answer.")).to_be_visible()
    server.start()
    wait_until(lambda: server.answers_of(round_id) == build_choices("tie", "A"), 30, "stored once it is back")


def test_another_tab_was_first(server: RatingServer, page: Page, round_id: str) -> None:
    desk = open_round(page, server, round_id)
    other = page.context.new_page()
    open_round(other, server, round_id)
    press(other, "a")
    wait_until(lambda: bool(server.ratings(round_id)), 10, "the other's")
    page.bring_to_front()
    press(page, "b")
    expect(page.get_by_text("Already rated in another tab; that rating is kept.")).to_be_visible()
    page.get_by_role("button", name="View item").click()
    expect(desk.locator(".prompt")).not_to_contain_text("(case")
    press(page, "Escape", "b")
    wait_until(lambda: server.answers_of(round_id) == build_choices("A", "B"), 10, "one rating a task")


def test_two_tabs_send_what_one_could_not_and_store_it_once(
    server: RatingServer, page: Page, round_id: str
) -> None:
    open_round(page, server, round_id)
    server.set(status=503)
    press(page, "a", "b")
    expect(page.get_by_text("2 ratings not stored yet")).to_be_visible()
    other = page.context.new_page()
    other.goto(page.url)
    expect(other.get_by_text("2 ratings kept in this browser will be sent.")).to_be_visible()
    server.set()
    for tab in (other, page):
        wait_until(lambda tab=tab: waiting(tab) == [], 30, "all is stored")
    page.wait_for_timeout(1_000)
    assert server.answers_of(round_id) == build_choices("A", "B")
    for tab in (other, page):
        expect(tab.get_by_text("another tab")).to_have_count(0)


def test_signed_out_and_closed_are_told_apart(server: RatingServer, page: Page, round_id: str) -> None:
    open_round(page, server, round_id)
    server.set(status=403)
    press(page, "a")
    expect(page.get_by_text("you are signed out, or may not rate here. Sign in again")).to_be_visible()
    assert len(waiting(page)) == 1
    server.set()
    page.get_by_role("button", name="Try now").click()
    wait_until(lambda: server.answers_of(round_id) == build_choices("A"), 10, "stored")
    server.set(closed=True)
    press(page, "a")
    expect(page.get_by_text("This round is closed. Thank you: your ratings are counted.")).to_be_visible()
    expect(page.get_by_text("A rating was not saved. The round was closed at noon.")).to_be_visible()
    page.get_by_role("button", name="Discard").click()
    assert waiting(page) == []
    assert server.answers_of(round_id) == build_choices("A")


def test_others_hold_the_rest_and_then_all_is_rated(server: RatingServer, page: Page) -> None:
    round_id = "pairwise-2-rest"
    server.set(held=["pairwise-rest-task001"])
    open_round(page, server, round_id)
    press(page, "a")
    expect(page.get_by_text("other raters have the remaining ones. You have rated 1 of 2.")).to_be_visible()
    server.set()
    page.get_by_role("button", name="Check now").click()
    expect(page.get_by_role("button", name="A is better")).to_be_visible()
    press(page, "a")
    expect(page.get_by_text("You rated all items. Thank you.")).to_be_visible()
    page.keyboard.press("u")
    expect(page.locator(".progress-text")).to_have_text("Previous item (rated)")
