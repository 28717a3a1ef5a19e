"""The way from the playground to a rating round: what is sent, what is left out, and what nobody may see."""

from __future__ import annotations

import json
from typing import Any

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from pages.playground.saving import STARTED, build_writer, remove_repeated_prompts, shorten_names
from store.db.database import utc_now
from store.playground import conversations
from store.rating.config import RoundConfig
from tests.pages.conftest import Open, everything_said
from tests.pages.still_engine import StillEngine
from tests.pages.test_playground_page import PAGE, SAMPLING, answer

SECRET = "http://127.0.0.1:9/v1?secret=of-the-endpoint"
ENDPOINT = {"endpoint": {"base_url": SECRET, "model": "theirs", "key_env": "THEIR_KEY"}}
RUN = {"run": "run-1", "checkpoint": "best"}
SEND = "Send to a rating round"


def talk(engine: StillEngine, own: str, prompts: dict[str, tuple[str, str]]) -> None:
    """Of a run and an endpoint; prompts: id of a turn -> (text, reason of the second answer)."""
    settings: Any = {"system": "", "models": [{**model, "sampling": SAMPLING} for model in (RUN, ENDPOINT)]}
    with engine.database.transaction() as tx:
        if tx.query("SELECT 1 FROM conversation WHERE conversation_id = ?", [own]).num_rows:
            return
        conversations.create_conversation(tx, own, f"About {own}", settings, "you", utc_now())
        held = conversations.get_conversation(tx, own)
        for turn, (prompt, reason) in prompts.items():
            conversations.add_turn(tx, turn, held, ("", prompt), "you", utc_now())
            first = answer(turn, 0, f"run: {prompt}", label="My run", model=RUN)
            second = answer(turn, 1, f"theirs: {prompt}", label="theirs", model=ENDPOINT, reason=reason)
            for given in (first, second):
                conversations.save_answer(tx, given, utc_now())


@pytest.fixture
def talked(engine: StillEngine) -> StillEngine:
    talk(engine, "r1", {"r1-1": ("One?", "end"), "r1-2": ("Two?", "end"), "r1-3": ("Broken?", "failed")})
    talk(engine, "r2", {"r2-1": ("One?", "end"), "r2-2": ("Three?", "length")})
    return engine


def opened(monkeypatch: pytest.MonkeyPatch, engine: StillEngine, own: str) -> AppTest:
    """The dialog as a page of its own: it stays open while things are chosen in it."""
    monkeypatch.setenv("TUNEBENCH_HOME", str(engine.home.path))
    st.cache_data.clear()
    st.cache_resource.clear()
    page = (
        "from pages.playground import saving\n"
        "from pages.playground.saving import draw_rate_dialog\n"
        f"draw_rate_dialog(saving.read_conversation({own!r}))"
    )
    at = AppTest.from_string(page, default_timeout=60).run()
    assert not at.exception
    return at


def test_the_page_offers_it_once_something_was_said(open_page: Open, talked: StillEngine) -> None:
    at = open_page(talked.home, PAGE, conversation="r1")
    next(button for button in at.button if button.label == SEND).click().run()
    assert "**2 prompts, 2 models**" in everything_said(at)
    at.session_state[STARTED] = {"r1": "round-still"}
    at.run()
    (link,) = at.main.get("page_link")
    assert (link.proto.query_string, link.proto.label) == (
        "round=round-still",
        "Open the rating round of these answers",
    )
    assert not [button for button in open_page(talked.home, PAGE).button if button.label == SEND]


def test_a_title_that_names_a_model_is_not_shown_to_raters(
    monkeypatch: pytest.MonkeyPatch, engine: StillEngine
) -> None:
    talk(engine, "my_run", {"m-1": ("One?", "end")})
    at = opened(monkeypatch, engine, "my_run")
    assert at.text_input(key="playground-rate-name").value == "Answers (playground)"


def test_the_answers_go_as_a_file_and_the_names_of_their_writers_in_the_round_alone(
    monkeypatch: pytest.MonkeyPatch, talked: StillEngine
) -> None:
    at = opened(monkeypatch, talked, "r1")
    assert "**2 prompts, 2 models**" in everything_said(at)
    assert "1 prompt to which an answer failed or was stopped" in everything_said(at)
    at.multiselect(key="playground-rate-others-r1").select("About r2").run()
    assert "**3 prompts, 2 models**" in everything_said(at)
    assert "1 prompt that had the same answers before" in everything_said(at)
    at.selectbox(key="playground-rate-protocol").set_value("rank").run()
    at.number_input(key="playground-rate-overlap").set_value(3).run()
    next(button for button in at.button if button.label == "Create round").click().run()
    name, body = talked.sent[-1]
    assert name == "start_round"
    config = RoundConfig.parse(body)
    assert (config.name, config.protocol, config.overlap) == ("About r1 (playground)", "rank", 3)
    assert config.items is None
    assert "Which answer would you prefer" in config.instruction
    assert [(model.answers, model.run, model.checkpoint, model.model) for model in config.models] == [
        ("My run", "run-1", "best", ""),
        ("theirs", "", "tuned", ""),
    ]
    text = (talked.home.uploads / body["prompts_file"]["upload"]).read_text("utf-8")
    assert [json.loads(line) for line in text.splitlines()] == [
        {
            "messages": [{"role": "user", "content": prompt}],
            "answers": {"My run": f"run: {prompt}", "theirs": f"theirs: {prompt}"},
        }
        for prompt in ("One?", "Two?", "Three?")
    ]
    for secret in (SECRET, "THEIR_KEY"):
        assert secret not in text
        assert secret not in json.dumps(body)
    assert at.session_state[STARTED] == {"r1": "round-still"}


def test_where_nothing_can_be_rated_it_says_why(monkeypatch: pytest.MonkeyPatch, engine: StillEngine) -> None:
    talk(engine, "r3", {"r3-1": ("Broken?", "failed")})
    at = opened(monkeypatch, engine, "r3")
    assert "No prompt has complete answers from two" in everything_said(at)
    assert "1 prompt to which an answer failed" in everything_said(at)
    assert not [button for button in at.button if button.label == "Create round"]


def test_names_are_as_short_as_a_round_takes_them_and_told_apart() -> None:
    long = "x" * 200
    names = shorten_names(["a", f"{long} one", f"{long} two"])
    assert names["a"] == "a"
    assert len(set(names.values())) == 3
    assert max(map(len, names.values())) <= 120


def test_who_wrote_answers_is_a_run_or_a_model_and_never_an_endpoint() -> None:
    assert build_writer(RUN) == RUN
    assert build_writer({"model": "tiny"}) == {"model": "tiny"}
    assert build_writer({"run": "r", "alpha": 0.5}) == {}
    assert build_writer(ENDPOINT) == {}


def test_the_same_prompt_with_the_same_answers_counts_once() -> None:
    line: Any = {"messages": [{"role": "user", "content": "a"}], "answers": {"x": "1", "y": "2"}}
    other = {**line, "answers": {"x": "1", "y": "3"}}
    assert remove_repeated_prompts([line, other, {**line}]) == [line, other]
