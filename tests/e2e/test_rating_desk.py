"""The desk in which people rate, in a real browser: nothing lost, nothing stored twice, no text that runs."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.e2e.rating_server import (
    EARLY,
    PRESSED,
    WATCH,
    RatingServer,
    build_choices,
    open_round,
    press,
    read,
)
from tests.e2e.started_app import wait_until

pytestmark = pytest.mark.timeout(120)


def laps(page: Page, presses: int, key: str = "a") -> list[float]:
    """Milliseconds from a key to the next task, one key after the other."""
    page.evaluate(WATCH)
    for count in range(presses):
        press(page, key)
        while page.evaluate("window.laps.length") <= count:  # `wait_for_function` evaluates texts: refused
            page.wait_for_timeout(5)
    measured: list[float] = page.evaluate("window.laps")
    return sorted(measured)


# In one go, so that no machine is too busy for it: nothing is painted between two of them.
BURST = """(keys) => {
    for (const key of keys) for (const kind of ["keydown", "keyup"]) {
        const code = `Key${key.toUpperCase()}`;
        document.body.dispatchEvent(new KeyboardEvent(kind, {key, code, bubbles: true, composed: true}));
    }
}"""


def test_a_press_rates_only_what_was_on_screen(server: RatingServer, page: Page, round_id: str) -> None:
    """Three presses in 0.36 s rated three pairs, two of them unseen."""
    desk = open_round(page, server, round_id)
    for _ in range(20):  # until the first pair has been on screen for long enough
        read(page)
        page.evaluate(BURST, list("abtnbtnus1"))
        expect(page.locator(".notice", has_text=EARLY)).to_be_visible()
        if "(case 1)" in desk.inner_text():  # the second pair; the rating may not be in the store yet
            break
    wait_until(lambda: bool(server.answers_of(round_id)), 10, "the press that counts")
    page.wait_for_timeout(600)  # by when another one would be stored too
    assert server.answers_of(round_id) == build_choices("A")
    press(page, "b")
    expect(page.locator(".notice", has_text=EARLY)).to_have_count(0)
    wait_until(lambda: server.answers_of(round_id) == build_choices("A", "B"), 10, "the press that counts")
    assert [rating["task"][-3:] for rating in server.ratings(round_id)] == ["000", "001"]


# As a remote desktop repeats a key that is held: up, and at once down again.
HELD_FAR_AWAY = """async () => {
    const a = (kind) => document.body.dispatchEvent(
        new KeyboardEvent(kind, {key: "a", code: "KeyA", bubbles: true, composed: true}));
    for (let count = 0; count < 20; count += 1) {
        a("keyup");
        a("keydown");
        await new Promise((done) => setTimeout(done, 30));
    }
    a("keyup");
}"""


def test_a_key_that_is_held_or_bounces_rates_once(server: RatingServer, page: Page, round_id: str) -> None:
    open_round(page, server, round_id)
    press(page, "a")
    page.keyboard.down("a")
    for _ in range(20):  # as a browser repeats it
        page.wait_for_timeout(60)
        page.keyboard.down("a")
    page.keyboard.up("a")
    page.wait_for_timeout(600)
    page.evaluate(HELD_FAR_AWAY)
    press(page, "b")
    wait_until(lambda: len(server.ratings(round_id)) == 2, 10, "two ratings")
    assert server.answers_of(round_id) == build_choices("A", "B")


def test_enter_held_on_a_button_rates_once(server: RatingServer, page: Page, round_id: str) -> None:
    desk = open_round(page, server, round_id)
    read(page)
    desk.get_by_role("button", name="B is better").focus()
    page.keyboard.down("Enter")
    page.wait_for_timeout(600)  # by when a keyboard begins to repeat
    for _ in range(10):
        page.keyboard.down("Enter")
        read(page)  # so that each would count
    page.keyboard.up("Enter")
    wait_until(lambda: bool(server.ratings(round_id)), 10, "a rating")
    assert server.answers_of(round_id) == build_choices("B")


# As a browser tells that another tab was in front, and that this one is back.
HIDE = """(hidden) => {
    Object.defineProperty(document, "hidden", {get: () => hidden, configurable: true});
    document.dispatchEvent(new Event("visibilitychange"));
}"""


def test_a_press_as_the_tab_comes_back_rates_nothing(server: RatingServer, page: Page, round_id: str) -> None:
    open_round(page, server, round_id)
    read(page)
    page.evaluate(HIDE, True)
    page.keyboard.press("a")
    page.wait_for_timeout(600)
    page.keyboard.press("a")
    page.evaluate(HIDE, False)
    page.keyboard.press("a")
    expect(page.locator(".notice", has_text=EARLY)).to_be_visible()
    press(page, "t")
    wait_until(lambda: bool(server.ratings(round_id)), 10, "a rating")
    assert server.answers_of(round_id) == build_choices("tie")


def test_the_next_pair_is_there_before_the_store_has_answered(
    server: RatingServer, page: Page, round_id: str
) -> None:
    desk = open_round(page, server, round_id)
    server.set(delay=3)
    press(page, "a")
    expect(desk.locator(".prompt")).to_contain_text("(case 1)", timeout=2_000)
    press(page, "b")
    expect(desk.locator(".prompt")).to_contain_text("(case 2)", timeout=2_000)
    expect(page.locator(".progress-text")).to_contain_text("2 of 20")
    expect(page.get_by_text("Storing 2 ratings…")).to_be_visible()
    press(page, "u")  # what is not stored yet can be changed, too
    expect(desk.get_by_role("button", name="B is better")).to_have_attribute("aria-pressed", "true")
    press(page, "t")
    server.set()
    wait_until(lambda: len(server.ratings(round_id)) == 3, 20, "three ratings")
    stored = [(each["task"][-3:], each["revision"], each["answer"]) for each in server.ratings(round_id)]
    a, b, tie = build_choices("A", "B", "tie")
    assert stored == [("000", 1, a), ("001", 1, b), ("001", 2, tie)]
    expect(page.get_by_text("Storing")).to_have_count(0)
    expect(page.get_by_text("another tab")).to_have_count(0)


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
    press(page, "a", "b")
    expect(page.locator(".progress-text")).to_contain_text("2 of 20")
    page.keyboard.press("m")
    page.keyboard.type("a comment begun")
    page.keyboard.press("Escape")
    press(page, "u")
    expect(page.locator(".progress-text")).to_have_text("Previous item (rated)")
    expect(desk.get_by_role("button", name="B is better")).to_have_attribute("aria-pressed", "true")
    press(page, "u", "n")
    expect(page.locator(".progress-text")).to_contain_text("2 of 20")
    wait_until(lambda: len(server.ratings(round_id)) == 3, 10, "the third")
    last = server.ratings(round_id)[-1]
    assert (last["task"][-3:], last["revision"], last["answer"]) == ("000", 2, {"choice": "both_bad"})
    expect(page.get_by_label("Comment", exact=True)).to_have_value("a comment begun")
    press(page, "t")
    wait_until(lambda: len(server.ratings(round_id)) == 4, 10, "the fourth")
    assert server.ratings(round_id)[-1]["comment"] == "a comment begun"

    page.reload()  # the way back outlives the page
    expect(page.locator(".progress-text")).to_contain_text("3 of 20")
    press(page, "u")
    expect(desk.get_by_role("button", name="Equally good")).to_have_attribute("aria-pressed", "true")


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
    page.wait_for_timeout(60)  # sooner it is the key that bounces
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
        press(page, *keys)
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
    press(page, "Control+Enter")
    expect(page.get_by_text("Nothing changed. Press")).to_be_visible()
    desk.get_by_label("Better answer").fill("Only this.")
    expect(desk.locator(".difference del").first).to_be_visible()
    page.keyboard.press("Escape")
    page.reload()  # what was begun is still there
    expect(desk.get_by_label("Better answer")).to_have_value("Only this.")
    press(page, "Control+Shift+Enter")
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
    press(page, "a")
    wait_until(lambda: bool(server.ratings(round_id)), 10, "one rating")
    page.wait_for_timeout(300)
    (rating,) = server.ratings(round_id)
    assert (rating["answer"], rating["comment"], rating["revision"]) == ({"choice": "A"}, "a bad tone", 1)


# A Russian layout, and a French one on which digits need Shift.
OTHER_LAYOUTS = """(keys) => keys.forEach(([key, code]) =>
    document.body.dispatchEvent(new KeyboardEvent("keydown", {key, code, bubbles: true, composed: true})))"""


def test_keys_of_other_layouts_count_by_their_place(server: RatingServer, page: Page, round_id: str) -> None:
    open_round(page, server, round_id)
    for keys in ([["ф", "KeyA"]], [["ы", "KeyS"], ["&", "Digit1"]]):
        read(page)
        page.evaluate(OTHER_LAYOUTS, keys)
    wait_until(lambda: len(server.ratings(round_id)) == 2, 10, "two ratings")
    assert server.answers_of(round_id) == [*build_choices("A"), {"skipped": True, "reason": "I can't tell"}]


def test_a_comment_typed_at_once_after_a_rating_is_no_rating(
    server: RatingServer, page: Page, round_id: str
) -> None:
    open_round(page, server, round_id)
    server.set(delay=0.4)
    read(page)
    page.keyboard.type("ambat")
    expect(page.get_by_label("Comment", exact=True)).to_have_value("bat")
    wait_until(lambda: bool(server.ratings(round_id)), 10, "a rating")
    assert server.answers_of(round_id) == build_choices("A")


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
    page.wait_for_timeout(1_000)
    assert server.ratings(round_id) == []
    for _ in range(2):  # the second one by mistake
        desk.get_by_role("button", name="Neither is good").tap()
    expect(page.locator(".progress-text")).to_contain_text("1 of 20")
    read(page)
    read(page)  # after the second tap too
    swipe(page, desk.locator(".bar"), 120)
    expect(page.get_by_text("Look at answer B first")).to_be_visible()
    second = desk.get_by_role("button", name="Answer B")
    second.tap()
    expect(second).to_have_attribute("aria-pressed", "true")  # in view, however long the scrolling takes
    swipe(page, desk.locator(".bar"), 120)
    expect(page.locator(".progress-text")).to_contain_text("2 of 20")
    wait_until(lambda: len(server.ratings(round_id)) == 2, 10, "two ratings")
    assert server.answers_of(round_id) == build_choices("both_bad", "B")
    context.close()


def test_a_phone_shows_all_of_a_long_prompt_and_of_an_answer_and_leads_back(
    server: RatingServer, browser: Browser
) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page = context.new_page()
    desk = open_round(page, server, "rubric-4-turns")
    answer, criteria = desk.locator(".answer .body"), desk.get_by_role("group", name="Criteria")
    desk.get_by_role("button", name="Show all 4 turns").tap()
    expect(desk.get_by_text("You help gardeners. Be brief.")).to_be_visible()
    expect(answer).to_be_hidden()
    assert desk.locator(".turns").evaluate("turns => turns.clientHeight") > 400
    desk.locator(".prompt").get_by_text("Back to rating").tap()
    expect(answer).to_be_visible()
    low = answer.evaluate("body => body.clientHeight")
    desk.get_by_role("button", name="Whole answer").tap()
    expect(criteria).to_be_hidden()
    assert answer.evaluate("body => body.clientHeight") > 2 * low
    desk.get_by_role("button", name="Back to rating").tap()
    expect(criteria).to_be_visible()
    for word in ("Undo", "Skip", "Comment", "Plain text"):
        box = desk.locator(".tools").get_by_text(word, exact=True).bounding_box()
        assert box
        assert box["width"] > 15
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    context.close()


def swipe(page: Page, over: Locator, across: int) -> None:
    box = over.bounding_box()
    assert box
    x, y = box["x"] + box["width"] / 2, box["y"] + 20
    session = page.context.new_cdp_session(page)
    for kind, at in (("touchStart", x), ("touchMove", x + across / 2), ("touchMove", x + across)):
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": at, "y": y}]})
    # The finger rests before it leaves: a fling would swallow the tap that stops it, as Chrome has it.
    page.wait_for_timeout(200)
    session.send(
        "Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": [{"x": x + across, "y": y}]}
    )
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
