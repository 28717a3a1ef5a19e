"""The playground in a browser: an answer streams in, is there after a reload, branches, stops, is kept."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, Request, Route, expect

from store.core.home import Home
from store.playground import conversations
from store.rating import rounds
from tests.e2e.started_app import App, wait_until
from tests.tiny import write_model
from tests.unit.judge_server import Judge, chunk, judging, streamed

pytestmark = pytest.mark.timeout(300)
HOSTILE = "<img src=x onerror=\"document.title='broken in'\"> **bold**"
ELSEWHERE = "elsewhere.example"
ANSWER = f"""# A head

Some **bold** and `code`, {HOSTILE}
<script src="https://{ELSEWHERE}/s.js"></script><iframe src="https://{ELSEWHERE}"></iframe>

![a cat](https://{ELSEWHERE}/cat.png) and [a link](javascript:document.title='broken'), <https://{ELSEWHERE}>

- one
- two

שלום, עולם

| a | b |
|---|---|
| 1 | 2 |

```python
print("<b>not bold</b>")
```
"""


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    home = Home(tmp_path_factory.mktemp("talk")).create()
    # 4,000 tokens of "slow" take minutes, so that its answer outlasts six page loads on a busy machine.
    for seed, (name, layers) in enumerate((("first", 2), ("second", 2), ("slow", 120))):
        free = {"max_position_embeddings": 8192, "tie_word_embeddings": False}  # tied, both repeat one token
        write_model(home.models / name, seed=seed, num_hidden_layers=layers, **free)
    started = App(home.path, sample=False)
    yield started
    started.stop()


def test_people_talk_to_two_models_and_keep_what_they_say(app: App, page: Page) -> None:
    app.open(page, "/playground")
    expect(page.get_by_role("heading", name="Playground", exact=True)).to_be_visible()
    page.get_by_role("combobox", name="Models").click()
    page.get_by_role("option", name="second").click()
    page.keyboard.press("Escape")
    box = page.get_by_role("textbox", name="Message", exact=True)
    box.fill(HOSTILE)
    box.press("Enter")
    figures = page.locator(".figures", has_text="tokens/s")
    expect(figures).to_have_count(2)
    page.wait_for_url(re.compile(r"turn="))
    assert page.title() != "broken in"
    expect(page.locator(".message strong")).to_have_text("bold")
    page.get_by_role("button", name="Tokens").click()
    expect(page.locator(".message")).to_have_text(HOSTILE)
    expect(page.locator(".diverges").first).to_be_visible()
    tokens = page.locator("article").first.locator(".token")
    tokens.filter(has_text=re.compile(r"\S")).first.hover()
    expect(page.locator(".tip .row")).not_to_have_count(0)
    expect(page.locator(".tip")).to_contain_text("%")

    page.reload()
    expect(figures).to_have_count(2)
    page.get_by_role("button", name="Edit the message in a new branch").click()
    box.fill("Something else")
    box.press("Enter")
    expect(page.get_by_text("2 of 2")).to_be_visible()
    page.get_by_role("button", name="Previous version").click()
    expect(page.locator(".message")).to_have_text(HOSTILE)

    page.get_by_role("button", name="Save it as a test case").first.click()
    page.get_by_role("textbox", name="Corrected response").fill("A better answer")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("Saved rows: 1")).to_be_visible()
    wait_until(lambda: conversations.kept_rows(app.client), 10, "the row is in the store")
    assert conversations.kept_rows(app.client)[0].messages[-1]["content"] == "A better answer"


def test_stop_keeps_what_had_come(app: App, page: Page) -> None:
    # "first" would end its 4,000 tokens in 15 s, on a busy machine before Stop is clicked
    begun = app.client.command("begin_conversation", {"models": [{"model": "slow"}]})
    app.open(page, f"/playground?conversation={begun['conversation_id']}")
    page.get_by_role("button", name="Settings").click()
    page.get_by_role("spinbutton", name="Longest answer").fill("4000")
    page.get_by_role("spinbutton", name="Longest answer").press("Enter")
    page.keyboard.press("Escape")
    box = page.get_by_role("textbox", name="Message", exact=True)
    box.fill("Go on for long")
    box.press("Enter")
    expect(page.locator(".answer .text > *").first).to_be_attached()
    page.get_by_role("button", name="Stop").click()
    expect(page.locator(".figures", has_text="stopped")).to_be_visible()
    page.wait_for_url(re.compile(r"turn="))
    page.reload()
    expect(page.locator(".figures", has_text="stopped")).to_be_visible()
    expect(page.locator(".answer .text > *").first).to_be_attached()


def test_an_answer_goes_on_without_the_page_and_stops_for_every_tab(app: App, page: Page) -> None:
    begun = app.client.command("begin_conversation", {"models": [{"model": "slow"}]})
    app.open(page, f"/playground?conversation={begun['conversation_id']}")
    page.get_by_role("button", name="Settings").click()
    page.get_by_role("spinbutton", name="Longest answer").fill("4000")
    page.get_by_role("spinbutton", name="Longest answer").press("Enter")
    page.keyboard.press("Escape")
    box = page.get_by_role("textbox", name="Message", exact=True)
    box.fill("Go on while I am away " + "and away " * 200)
    box.press("Enter")
    text = page.locator(".answer .text > *").first
    expect(text).to_be_attached()
    link = page.url
    for _ in range(3):
        page.goto(f"{app.address}/data")
        expect(page.get_by_role("heading", name="Data sets")).to_be_visible()
        assert len(app.client.playground().answering) == 1
        page.goto(link)
        expect(text).to_be_attached()
    other = page.context.new_page()
    other.goto(link)
    expect(other.locator(".answer .text > *").first).to_be_attached()
    other.get_by_role("button", name="Stop").click()
    for tab in (page, other):
        expect(tab.locator(".figures", has_text="stopped")).to_be_visible()
    wait_until(lambda: app.client.playground().answering == [], 10, "no answer is under way")

    page.get_by_role("button", name="Show all: ").click()
    expect(page.get_by_role("button", name="Show less")).to_be_visible()
    page.get_by_role("button", name="More", exact=True).click()
    with page.expect_download() as taken:
        page.get_by_role("button", name="Rows (JSONL)").click()
    (row,) = [json.loads(line) for line in taken.value.path().read_text().splitlines()]
    assert [message["role"] for message in row["messages"]] == ["user", "assistant"]


def test_an_answer_that_ends_before_it_is_followed_is_shown(app: App, page: Page) -> None:
    begun = app.client.command("begin_conversation", {"models": [{"model": "slow"}]})
    conversation = begun["conversation_id"]
    lines = app.client.generate({"conversation": conversation, "prompt": "Tell a long story", "parent": ""})
    next(line for line in lines if b'"token"' in line)
    lines.close()
    (turn,) = app.client.playground().answering
    held: list[Route] = []
    page.route("**/talk", lambda route: held.append(route))
    with page.expect_request("**/talk"):
        app.open(page, f"/playground?conversation={conversation}")

    app.client.stop_turn(turn)
    wait_until(lambda: app.client.playground().answering == [], 10, "the answer has ended")
    page.wait_for_timeout(1_500)  # what the page has read of the engine is used for a second
    page.keyboard.press("r")
    expect(page.get_by_test_id("stApp")).to_have_attribute("data-test-script-state", "notRunning")
    page.wait_for_timeout(500)
    (following,) = held
    following.continue_()

    expect(page.locator(".figures", has_text="stopped")).to_be_visible()
    expect(page.get_by_text("before any part of an answer was saved")).to_have_count(0)
    expect(page.get_by_role("button", name="Regenerate the answers")).to_be_visible()


@pytest.fixture
def server() -> Iterator[Judge]:
    """An endpoint that answers in Markdown, each model with an end of its own."""
    pieces = re.findall(r"\s*\S+", ANSWER)

    def reply(text: str, number: int) -> Any:
        return streamed(
            *(chunk(piece, -0.5) for piece in pieces), chunk(f"\n\nThe end, {number}.", -1.0, "stop")
        )

    with judging(reply) as listening:
        yield listening


def test_answers_are_read_as_markdown_and_nothing_in_them_runs(app: App, server: Judge, page: Page) -> None:
    models = [{"endpoint": {"base_url": server.base_url, "model": name}} for name in ("one", "two")]
    begun = app.client.command("begin_conversation", {"models": models})
    asked: list[str] = []

    def note(request: Request) -> None:
        asked.append(request.url)

    page.on("request", note)
    app.open(page, f"/playground?conversation={begun['conversation_id']}")
    box = page.get_by_role("textbox", name="Message", exact=True)
    box.fill(f"Answer **well**\n\n{ANSWER}")
    box.press("Enter")
    expect(page.locator(".figures")).to_have_text([re.compile("tokens")] * 2)
    for article in (page.locator("article").first, page.locator(".message")):
        expect(article.locator("h3")).to_have_text("A head")
        expect(article.locator("li")).to_have_text(["one", "two"])
        expect(article.locator("figcaption")).to_have_text("python")
        expect(article.locator("pre")).to_have_text('print("<b>not bold</b>")')
        expect(article.locator("td")).to_have_text(["1", "2"])
        expect(article.get_by_text("שלום")).to_have_css("direction", "rtl")
        expect(article.locator("img, iframe, script, a")).to_have_count(0)
        expect(article.get_by_text("a cat")).to_be_visible()
    page.wait_for_url(re.compile(r"turn="))
    assert "broken" not in page.title()
    assert not [url for url in asked if ELSEWHERE in url]

    page.get_by_role("button", name="Tokens").click()
    expect(page.locator(".tokens").first).to_have_text(re.compile(r"^# A head"))
    expect(page.locator(".diverges")).to_have_count(2)
    page.locator(".token", has_text="head").first.hover()
    expect(page.locator(".tip")).to_contain_text("61%")
    page.reload()
    expect(page.locator(".tokens")).to_have_count(2)
    page.get_by_role("button", name="Text").click()
    expect(page.locator("article h3")).to_have_count(2)


def test_answers_go_to_a_rating_round_in_which_nobody_learns_who_wrote_them(
    app: App, server: Judge, page: Page
) -> None:
    models = [
        {"endpoint": {"base_url": server.base_url, "model": name}} for name in ("left-one", "right-one")
    ]
    begun = app.client.command("begin_conversation", {"models": models})
    app.open(page, f"/playground?conversation={begun['conversation_id']}")
    box = page.get_by_role("textbox", name="Message", exact=True)
    box.fill("Tell me of cats")
    box.press("Enter")
    page.wait_for_url(re.compile(r"turn="))
    page.get_by_role("button", name="Send to a rating round").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_text("1 prompt, 2 models")).to_be_visible()
    dialog.get_by_role("button", name="Create round").click()
    page.get_by_role("link", name="Open the rating round of these answers").click()
    expect(page.get_by_role("heading", name="Tell me of cats (playground)")).to_be_visible()
    page.get_by_role("button", name="Rate", exact=True).click()
    expect(page.locator(".desk .answer h3")).to_have_text(["A head"] * 2)
    assert "left-one" not in page.inner_text("body")
    (round,) = rounds.list_rounds(app.client)
    assert [system.name for system in round.systems] == ["left-one", "right-one"]
    assert server.base_url not in json.dumps(round, default=str)
