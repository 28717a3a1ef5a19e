"""Marking pieces of a text in a real browser: by keys, mouse and finger, in characters as Python counts."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.e2e.rating_server import RatingServer, open_round, press, read
from tests.e2e.rating_texts import ASTRONAUTS
from tests.e2e.started_app import wait_until

pytestmark = pytest.mark.timeout(180)


def span(words: str, label: str) -> dict[str, object]:
    start = ASTRONAUTS.index(words)
    return {"start": start, "end": start + len(words), "label": label}


def drag(page: Page, text: Locator, words: str) -> None:
    """Select these words with the mouse."""
    box = text.evaluate(
        """(body, words) => {
          const walker = document.createTreeWalker(body, NodeFilter.SHOW_TEXT);
          while (walker.nextNode()) {
            const at = walker.currentNode.data.indexOf(words);
            if (at < 0) continue;
            const range = document.createRange();
            range.setStart(walker.currentNode, at);
            range.setEnd(walker.currentNode, at + words.length);
            const { left, right, top, bottom } = range.getBoundingClientRect();
            return { left, right, middle: (top + bottom) / 2 };
          }
        }""",
        words,
    )
    page.mouse.move(box["left"] + 1, box["middle"])
    page.mouse.down()
    page.mouse.move(box["right"] - 1, box["middle"], steps=6)
    page.mouse.up()


def stored(server: RatingServer, name: str) -> object:
    wait_until(lambda: len(server.ratings(name)) == 1, 20, "the spans")
    return server.answers_of(name)[0]


def test_words_are_marked_by_keys_alone(server: RatingServer, page: Page) -> None:
    name = "spans-2-astronauts"
    desk = open_round(page, server, name)
    text = desk.get_by_role("region", name="Text to mark")
    expect(text).to_contain_text("Ada flew")
    press(page, "1")  # nothing is selected yet
    expect(desk.get_by_role("status").filter(has_text="Select a piece")).to_be_visible()
    for key in ("ArrowRight", "1", "ArrowRight", "ArrowRight", "2"):
        press(page, key)  # Ada, flew, to; Paris follows
    expect(desk.locator(".mark-chip")).to_have_count(2)
    press(page, "Backspace")
    for key in ("ArrowRight", "e", "r", "2"):
        press(page, key)
    expect(desk.locator(".mark-chip")).to_have_text(["personAda", "placeParis"])
    press(page, "2")  # the same again changes nothing
    press(page, "c")
    press(page, "r")  # a character less: it overlaps, and is refused
    press(page, "1")
    expect(desk.get_by_role("status").filter(has_text="It overlaps")).to_be_visible()
    press(page, "Enter")
    assert stored(server, name) == {"spans": [span("Ada", "person"), span("Paris", "place")]}
    press(page, "0")
    wait_until(lambda: len(server.ratings(name)) == 2, 20, "a text with nothing to mark")
    assert server.answers_of(name)[1] == {"spans": []}
    press(page, "u", "u")
    expect(desk.locator(".mark-chip")).to_have_text(["personAda", "placeParis"])  # as they were stored


def test_a_selection_of_the_mouse_is_marked_beyond_emoji(server: RatingServer, page: Page) -> None:
    name = "spans-1-astronauts"
    desk = open_round(page, server, name)
    text = desk.get_by_role("region", name="Text to mark")
    read(page)
    drag(page, text, "noon")
    desk.get_by_role("button", name="time").click()
    expect(desk.locator(".mark-chip")).to_have_text("<b>time</b>noon")
    drag(page, text, "Paris")
    press(page, "2")
    text.locator("mark", has_text="noon").click()
    expect(desk.locator(".mark-chip[aria-pressed=true]")).to_have_text("<b>time</b>noon")
    page.reload()  # what was begun is still there
    expect(desk.locator(".mark-chip")).to_have_text(["placeParis", "<b>time</b>noon"])
    read(page)
    desk.get_by_role("button", name="Send").click()
    assert stored(server, name) == {"spans": [span("Paris", "place"), span("noon", "<b>time</b>")]}


def test_pieces_overlap_where_they_may(server: RatingServer, page: Page) -> None:
    name = "spans-1-overlapping"
    desk = open_round(page, server, name)
    for key in ("ArrowRight", "1", "e", "2", "Enter"):
        press(page, key)
    expect(desk).to_have_count(0)
    assert stored(server, name) == {"spans": [span("Ada", "person"), span("Ada flew", "place")]}


def test_a_finger_marks_what_its_long_press_selected(server: RatingServer, browser: Browser) -> None:
    name = "spans-1-prompts"
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page = context.new_page()
    desk = open_round(page, server, name)
    text = desk.get_by_role("region", name="Text to mark")
    expect(text).to_be_visible()
    read(page)
    text.evaluate(
        """(body) => {
          const selection = body.getRootNode().getSelection?.() ?? document.getSelection();
          const node = body.querySelector("[data-from]").firstChild;
          selection.setBaseAndExtent(node, 4, node, 7);
        }"""
    )
    desk.get_by_role("button", name="place").tap()
    expect(desk.locator(".mark-chip")).to_have_text("placeand")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    desk.get_by_role("button", name="Send").tap()
    assert stored(server, name) == {"spans": [{"start": 4, "end": 7, "label": "place"}]}
    context.close()
