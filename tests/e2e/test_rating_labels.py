"""Giving one of many labels by keys, in a real browser: each in its turn, however fast it is typed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.rating_server import RatingServer, open_round, press
from tests.e2e.started_app import wait_until

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def server() -> Iterator[RatingServer]:
    started = RatingServer()
    yield started
    started.stop()


def test_of_many_labels_one_is_found_by_its_words(server: RatingServer, page: Page) -> None:
    name = "label-4-many"
    desk = open_round(page, server, name)
    expect(desk.get_by_label("Find a label")).to_be_focused()
    page.keyboard.type("fee")
    expect(desk.get_by_role("option")).to_have_count(6)
    for key in ("ArrowDown", "ArrowDown", "ArrowUp"):
        page.keyboard.press(key)
    press(page, "Enter")
    wait_until(lambda: len(server.ratings(name)) == 1, 10, "a label")
    expect(desk.get_by_label("Find a label")).to_be_focused()
    page.keyboard.type("top lim")
    press(page, "Enter")
    wait_until(lambda: len(server.ratings(name)) == 2, 10, "another")
    expect(desk.get_by_label("Find a label")).to_have_value("")
    page.keyboard.press("Enter")  # with nothing looked for, nothing is given
    page.keyboard.press("Escape")
    page.keyboard.press("0")
    page.keyboard.type("a lost card")
    expect(page.get_by_label("What would fit")).to_have_value("a lost card")
    page.reload()  # what was begun is still there
    page.get_by_label("What would fit").focus()
    press(page, "Enter")
    wait_until(lambda: len(server.ratings(name)) == 3, 10, "none of them")
    assert server.answers_of(name) == [
        {"label": "cash_fee", "note": ""},
        {"label": "top_up_limit", "note": ""},
        {"label": None, "note": "a lost card"},
    ]


def test_labels_typed_at_a_fast_hand_s_pace_are_given_in_turn(server: RatingServer, page: Page) -> None:
    name = "label-4-manytyped"
    desk = open_round(page, server, name)
    expect(desk.get_by_label("Find a label")).to_be_focused()
    server.set(delay=0.3)
    for words in ("cash fee", "top lim", "refund decl"):
        page.keyboard.type(words, delay=90)
        page.keyboard.press("Enter")
    page.keyboard.insert_text("debit")  # at once, as each typed key may take a busy browser long
    page.keyboard.press("Enter")  # no hand is as fast: what is typed stays, and is not given
    expect(desk.get_by_label("Find a label")).to_have_value("debit")
    expect(desk.get_by_role("option")).to_have_count(5)
    wait_until(lambda: len(server.ratings(name)) == 3, 10, "three labels")
    assert [answer["label"] for answer in server.answers_of(name)] == [
        "cash_fee",
        "top_up_limit",
        "refund_declined",
    ]
    press(page, "Enter")
    wait_until(lambda: len(server.ratings(name)) == 4, 10, "the last label")


def test_a_field_that_was_left_takes_no_keys_until_it_is_found_again(
    server: RatingServer, page: Page
) -> None:
    name = "label-4-manyleft"
    desk = open_round(page, server, name)
    expect(desk.get_by_label("Find a label")).to_be_focused()
    page.keyboard.type("cash fee", delay=90)
    for key in ("Enter", "Escape"):
        page.keyboard.press(key)
    wait_until(lambda: len(server.ratings(name)) == 1, 10, "a label")
    expect(desk.get_by_label("Find a label")).not_to_be_focused()
    page.keyboard.press("/")
    page.keyboard.type("debit")
    expect(desk.get_by_role("option")).to_have_count(5)


def test_a_text_gets_several_labels_by_keys_and_by_search(server: RatingServer, page: Page) -> None:
    name = "label-3-several"
    desk = open_round(page, server, name)
    press(page, "1", "3", "2", "2")  # the second is taken and left again
    expect(desk.locator(".one-label[aria-pressed=true]")).to_have_count(2)
    press(page, "Enter")
    wait_until(lambda: len(server.ratings(name)) == 1, 10, "two labels")
    press(page, "Enter")  # with none chosen, nothing is sent
    expect(desk.get_by_role("status").filter(has_text="Choose a label first")).to_be_visible()
    press(page, "0")
    page.keyboard.type("a lost card")
    press(page, "Enter")
    wait_until(lambda: len(server.ratings(name)) == 2, 10, "none of them")
    assert server.answers_of(name) == [
        {"labels": ["card_arrival", "lost or stolen card"], "note": ""},
        {"labels": [], "note": "a lost card"},
    ]
    name = "label-1-manyseveral"
    desk = open_round(page, server, name)
    for words in ("cash fee", "top lim"):
        page.keyboard.type(words)
        press(page, "Enter")
        expect(desk.get_by_label("Find a label")).to_have_value("")
    expect(desk.get_by_role("option", name="cash_fee")).to_have_attribute("aria-pressed", "true")
    press(page, "Enter")
    wait_until(lambda: len(server.ratings(name)) == 1, 10, "two of many")
    assert server.answers_of(name) == [{"labels": ["cash_fee", "top_up_limit"], "note": ""}]
