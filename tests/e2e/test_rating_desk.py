"""The desk in which people rate, in a real browser: nothing lost, nothing stored twice, no text that runs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.e2e.rating_server import RatingServer, open_round
from tests.e2e.started_app import wait_until

pytestmark = pytest.mark.timeout(120)

NAMES = itertools.count()


@pytest.fixture(scope="module")
def server() -> Iterator[RatingServer]:
    started = RatingServer()
    yield started
    started.stop()


@pytest.fixture
def round_id(server: RatingServer, request: pytest.FixtureRequest) -> Iterator[str]:
    """A pairwise round of the test's own; the store behaves."""
    server.set()
    yield f"pairwise-20-t{next(NAMES)}"
    server.set()


def waiting(page: Page) -> list[str]:
    """What the browser keeps of ratings."""
    names: list[str] = page.evaluate(
        "Object.keys(localStorage).filter((name) => name.startsWith('tunebench-rating'))"
    )
    return names


def choices(*letters: str) -> list[dict[str, str]]:
    return [{"choice": letter} for letter in letters]


# Before the page's own listeners, which may keep a key to themselves.
PRESSED = "window.addEventListener('keydown', () => { window.pressed = performance.now() }, true)"
# From a key until the frame that shows another task is painted.
WATCH = """() => {
    window.laps = [];
    const roots = [...document.querySelectorAll("*")].map((host) => host.shadowRoot);
    const root = roots.find((shadow) => shadow?.querySelector(".desk"));
    new MutationObserver(() => requestAnimationFrame(() => setTimeout(() => {
        if (window.pressed) window.laps.push(performance.now() - window.pressed);
        window.pressed = 0;
    }))).observe(root.querySelector(".work"), {childList: true});
}"""


def laps(page: Page, presses: int, key: str = "a") -> list[float]:
    """Milliseconds from a key to the next task, one key after the other."""
    page.evaluate(WATCH)
    for press in range(presses):
        page.keyboard.press(key)
        while page.evaluate("window.laps.length") <= press:  # `wait_for_function` evaluates texts: refused
            page.wait_for_timeout(5)
    measured: list[float] = page.evaluate("window.laps")
    return sorted(measured)


def test_thirteen_presses_thirty_milliseconds_apart_are_thirteen_ratings(
    server: RatingServer, page: Page, round_id: str
) -> None:
    open_round(page, server, round_id)
    for key in "abtnabtnabtna":
        page.keyboard.press(key)
        page.wait_for_timeout(30)
    wait_until(lambda: len(server.ratings(round_id)) == 13, 10, "13 ratings")
    stored = server.ratings(round_id)
    assert [rating["answer"]["choice"] for rating in stored] == ["A", "B", "tie", "both_bad"] * 3 + ["A"]
    assert [rating["task"][-3:] for rating in stored] == [f"{place:03d}" for place in range(13)]
    expect(page.locator(".progress-text")).to_contain_text("13 of 20 · about 1 min left")

    server.set(delay=0.3)  # a slow store: what is pressed meanwhile waits its turn
    for _ in range(4):
        page.keyboard.press("b")
        page.wait_for_timeout(30)
    wait_until(lambda: len(server.ratings(round_id)) == 17, 10, "17 ratings")
    assert server.answers_of(round_id)[13:] == choices("B", "B", "B", "B")


def test_the_next_pair_comes_fast(
    server: RatingServer, page: Page, round_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    page.add_init_script(PRESSED)
    open_round(page, server, round_id)
    short = laps(page, 15)
    open_round(page, server, "pairwise-12-long")
    long = laps(page, 8)
    with capsys.disabled():
        for name, measured in (("short answers", short), ("2 x 10,000 words", long)):
            middle = measured[len(measured) // 2]
            print(f"\nkey to next pair, {name}: median {middle:.0f} ms, most {measured[-1]:.0f} ms")
    assert short[len(short) // 2] < 300


def test_undo_changes_the_last_rating_and_comes_back(server: RatingServer, page: Page, round_id: str) -> None:
    desk = open_round(page, server, round_id)
    page.keyboard.press("a")
    page.keyboard.press("b")
    expect(page.locator(".progress-text")).to_contain_text("2 of 20")
    page.keyboard.press("m")
    page.keyboard.type("a comment begun")
    page.keyboard.press("Escape")
    page.keyboard.press("u")
    expect(page.locator(".progress-text")).to_have_text("Back at one that you rated")
    expect(desk.get_by_role("button", name="B is better")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("u")
    page.keyboard.press("n")
    expect(page.locator(".progress-text")).to_contain_text("2 of 20")
    last = server.ratings(round_id)[-1]
    assert (last["task"][-3:], last["revision"], last["answer"]) == ("000", 2, {"choice": "both_bad"})
    expect(page.get_by_label("Comment", exact=True)).to_have_value("a comment begun")
    page.keyboard.press("t")
    wait_until(lambda: len(server.ratings(round_id)) == 4, 10, "the fourth")
    assert server.ratings(round_id)[-1]["comment"] == "a comment begun"

    page.reload()  # the way back outlives the page
    expect(page.locator(".progress-text")).to_contain_text("3 of 20")
    page.keyboard.press("u")
    expect(desk.get_by_role("button", name="Equally good")).to_have_attribute("aria-pressed", "true")


def test_with_the_engine_away_a_rating_waits_through_a_reload_and_is_stored_once(
    server: RatingServer, page: Page, round_id: str
) -> None:
    open_round(page, server, round_id)
    server.set(status=503)
    page.keyboard.press("a")
    expect(page.get_by_text("Not stored yet: the engine does not answer. Trying again…")).to_be_visible()
    page.keyboard.press("b")  # nobody means to rate what they can't see
    page.reload()
    expect(page.get_by_text("1 rating kept in this browser will be sent.")).to_be_visible()
    assert server.ratings(round_id) == []
    server.set()
    page.get_by_role("button", name="Try now").click()
    expect(page.get_by_text("What your last visit could not send is stored now.")).to_be_visible()
    expect(page.locator(".progress-text")).to_contain_text("1 of 20")
    assert server.answers_of(round_id) == choices("A")
    assert waiting(page) == []


def test_a_lost_answer_and_a_dropped_network_store_a_rating_once(
    server: RatingServer, page: Page, round_id: str
) -> None:
    open_round(page, server, round_id)
    server.set(lose=1)  # stored, and the answer lost on its way
    page.keyboard.press("a")
    expect(page.locator(".progress-text")).to_contain_text("1 of 20")
    expect(page.get_by_text("another tab")).to_have_count(0)
    page.context.set_offline(True)
    page.keyboard.press("b")
    expect(page.get_by_text("Not stored yet")).to_be_visible()
    page.context.set_offline(False)
    expect(page.locator(".progress-text")).to_contain_text("2 of 20")
    assert server.answers_of(round_id) == choices("A", "B")


def test_a_killed_server_loses_nothing(server: RatingServer, page: Page) -> None:
    round_id = "pairwise-20-killed"
    open_round(page, server, round_id)
    server.stop()
    page.keyboard.press("t")
    expect(page.get_by_text("Not stored yet: the engine does not answer. Trying again…")).to_be_visible()
    server.start()
    wait_until(lambda: server.answers_of(round_id) == choices("tie"), 20, "stored once it is back")


def test_another_tab_was_first(server: RatingServer, page: Page, round_id: str) -> None:
    open_round(page, server, round_id)
    other = page.context.new_page()
    open_round(other, server, round_id)
    other.keyboard.press("a")
    expect(other.locator(".progress-text")).to_contain_text("1 of 20")
    page.keyboard.press("b")
    expect(page.get_by_text("Rated in another tab already; that rating stands.")).to_be_visible()
    page.keyboard.press("b")
    expect(page.locator(".progress-text")).to_contain_text("2 of 20")
    assert server.answers_of(round_id) == choices("A", "B")


def test_signed_out_and_closed_are_told_apart(server: RatingServer, page: Page, round_id: str) -> None:
    open_round(page, server, round_id)
    server.set(status=403)
    page.keyboard.press("a")
    expect(page.get_by_text("you are signed out, or may not rate here. Sign in again")).to_be_visible()
    assert len(waiting(page)) == 1
    server.set()
    page.get_by_role("button", name="Try now").click()
    expect(page.locator(".progress-text")).to_contain_text("1 of 20")
    server.set(closed=True)
    page.keyboard.press("a")
    expect(page.get_by_text("This round is closed. Thank you: what you rated counts.")).to_be_visible()
    assert waiting(page) == []
    assert server.answers_of(round_id) == choices("A")


def test_others_hold_the_rest_and_then_all_is_rated(server: RatingServer, page: Page) -> None:
    round_id = "pairwise-2-rest"
    server.set(held=["pairwise-rest-task001"])
    open_round(page, server, round_id)
    page.keyboard.press("a")
    expect(page.get_by_text("others are rating what is left. You have rated 1 of 2.")).to_be_visible()
    server.set()
    page.get_by_role("button", name="Look now").click()
    expect(page.get_by_role("button", name="A is better")).to_be_visible()
    page.keyboard.press("a")
    expect(page.get_by_text("All rated. Thank you.")).to_be_visible()
    page.keyboard.press("u")
    expect(page.locator(".progress-text")).to_have_text("Back at one that you rated")


def test_hostile_answers_show_as_text_run_nothing_and_load_nothing(
    server: RatingServer, page: Page, round_id: str
) -> None:
    asked: list[str] = []
    page.context.on("request", lambda request: asked.append(request.url))
    desk = open_round(page, server, "pairwise-3-hostile")
    expect(desk.get_by_text("(empty answer)")).to_be_visible()
    body = desk.get_by_role("region", name="Answer A")
    expect(body).to_contain_text("<script>window.ran = true</script>")
    expect(body).to_contain_text("<iframe src=")
    expect(body.locator("strong").first).to_have_text("bold")
    expect(body.locator("th").nth(1)).to_have_text("<b>cell</b>")
    expect(body.locator("blockquote")).to_have_css("direction", "rtl")
    expect(body.get_by_text("مرحبا بالعالم").last).to_have_css("direction", "rtl")
    assert body.locator("img, script, iframe, style, svg, a").count() == 0
    page.keyboard.press("x")
    expect(body.locator(".plain")).to_contain_text("![a picture](http://127.0.0.1:9/leak.png)")
    page.keyboard.press("d")
    page.wait_for_timeout(300)
    assert page.evaluate("window.ran") is None
    assert [url for url in asked if "leak" in url] == []


def test_words_that_differ_are_marked_on_demand(server: RatingServer, page: Page, round_id: str) -> None:
    desk = open_round(page, server, round_id)
    assert desk.locator("mark").count() == 0
    page.keyboard.press("d")
    expect(desk.locator("mark").first).to_be_visible()
    page.keyboard.press("d")
    expect(desk.locator("mark")).to_have_count(0)


def test_answers_scroll_together(server: RatingServer, page: Page, round_id: str) -> None:
    desk = open_round(page, server, "pairwise-12-long")

    def tops() -> list[float]:
        return list(desk.locator(".body").evaluate_all("bodies => bodies.map((body) => body.scrollTop)"))

    page.keyboard.press("j")
    page.keyboard.press(" ")
    assert min(tops()) > 100
    page.keyboard.press("l")
    desk.locator(".body").first.hover()
    page.mouse.wheel(0, 4000)
    page.wait_for_timeout(200)
    first, second = tops()
    assert abs(first - second) < 0.1 * first


def test_each_protocol_by_keyboard(server: RatingServer, page: Page, round_id: str) -> None:
    def sent(protocol: str, *keys: str) -> object:
        name = f"{protocol}-4-keys"
        open_round(page, server, name)
        for key in keys:
            page.keyboard.press(key)
        wait_until(lambda: len(server.ratings(name)) == 1, 10, f"a rating of {protocol}")
        return server.answers_of(name)[0]

    assert sent("rank", "c", "a", "Backspace", "=", "b", "a", "Enter") == {"ranks": [2, 1, 1]}
    scores = {"Helpfulness": 5, "Faithfulness": 2, "Tone": 3}
    assert sent("rubric", "4", "2", "3", "ArrowLeft", "ArrowLeft", "5", "Enter") == {"scores": scores}
    passed = {"passed": False, "reasons": ["Wrong fact", "Too long"]}
    assert sent("pass_fail", "Enter", "f", "1", "2", "2", "3", "Enter") == passed
    assert sent("correction", "e", "Control+End", "Space", "N", "o", "w", "Control+Enter")["text"].endswith(
        " Now"
    )  # type: ignore[index]
    assert sent("label", "9", "2") == {"label": "<b>loan</b>", "note": ""}
    assert sent("pairwise", "s", "2") == {"skipped": True, "reason": "I don't know the subject"}


def test_an_unchanged_correction_is_sent_on_purpose_alone(
    server: RatingServer, page: Page, round_id: str
) -> None:
    name = "correction-4-same"
    desk = open_round(page, server, name)
    page.keyboard.press("Control+Enter")
    expect(page.get_by_text("Nothing changed: press")).to_be_visible()
    desk.get_by_label("Better answer").fill("Only this.")
    expect(desk.locator(".difference del").first).to_be_visible()
    page.keyboard.press("Escape")
    page.reload()  # what was begun is still there
    expect(desk.get_by_label("Better answer")).to_have_value("Only this.")
    page.keyboard.press("Control+Shift+Enter")
    wait_until(lambda: len(server.ratings(name)) == 1, 10, "a rating")
    assert server.answers_of(name)[0]["text"].startswith("## Pruning")  # type: ignore[index]


def test_keys_in_fields_and_with_modifiers_rate_nothing(
    server: RatingServer, page: Page, round_id: str
) -> None:
    open_round(page, server, round_id, "&rerun=1")
    page.get_by_label("A field of the page").fill("")
    page.keyboard.type("abtn")
    page.get_by_role("button", name="Rerun").click()  # the component's script runs again
    page.get_by_role("button", name="Rerun").click()
    page.wait_for_timeout(500)
    page.keyboard.press("Alt+b")
    page.keyboard.press("m")
    page.keyboard.type("a bad tone")
    page.keyboard.press("Escape")
    page.keyboard.press("a")
    wait_until(lambda: bool(server.ratings(round_id)), 10, "one rating")
    page.wait_for_timeout(300)
    (rating,) = server.ratings(round_id)
    assert (rating["answer"], rating["comment"], rating["revision"]) == ({"choice": "A"}, "a bad tone", 1)


# A Russian layout, and a French one on which digits need Shift.
OTHER_LAYOUTS = """(keys) => keys.forEach(([key, code]) =>
    document.body.dispatchEvent(new KeyboardEvent("keydown", {key, code, bubbles: true, composed: true})))"""


def test_keys_of_other_layouts_count_by_their_place(server: RatingServer, page: Page, round_id: str) -> None:
    open_round(page, server, round_id)
    page.evaluate(OTHER_LAYOUTS, [["ф", "KeyA"], ["ы", "KeyS"], ["&", "Digit1"]])
    wait_until(lambda: len(server.ratings(round_id)) == 2, 10, "two ratings")
    assert server.answers_of(round_id) == [*choices("A"), {"skipped": True, "reason": "I can't tell"}]


def test_a_comment_typed_while_storing_is_no_rating(server: RatingServer, page: Page, round_id: str) -> None:
    open_round(page, server, round_id)
    server.set(delay=0.4)
    page.keyboard.type("ambat")
    expect(page.get_by_label("Comment", exact=True)).to_have_value("bat")
    assert server.answers_of(round_id) == choices("A")


def test_a_phone_rates_by_tap_and_by_a_swipe_on_the_bar_alone(
    server: RatingServer, browser: Browser, round_id: str
) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page = context.new_page()
    desk = open_round(page, server, round_id)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    heights = desk.get_by_role("button").evaluate_all(
        "all => all.filter((b) => b.checkVisibility()).map((b) => b.offsetHeight)"
    )
    assert min(heights) >= 44
    swipe(page, desk.locator(".answers"), -200)
    page.wait_for_timeout(300)
    assert server.ratings(round_id) == []
    desk.get_by_role("button", name="Neither is good").tap()
    expect(page.locator(".progress-text")).to_contain_text("1 of 20")
    swipe(page, desk.locator(".bar"), 120)
    expect(page.locator(".progress-text")).to_contain_text("2 of 20")
    assert server.answers_of(round_id) == choices("both_bad", "B")
    context.close()


def swipe(page: Page, over: Locator, across: int) -> None:
    box = over.bounding_box()
    assert box
    x, y = box["x"] + box["width"] / 2, box["y"] + 20
    session = page.context.new_cdp_session(page)
    for kind, at in (("touchStart", x), ("touchMove", x + across / 2), ("touchMove", x + across)):
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": at, "y": y}]})
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
