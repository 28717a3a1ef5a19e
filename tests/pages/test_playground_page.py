"""The playground's page: empty, with a conversation, with one that is gone, and without an engine."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from pages.playground.conversation import SAY
from pages.shared.menu import list_screens
from store.core.home import Home
from store.db.database import utc_now
from store.playground import conversations
from store.playground.schemas import TurnAnswer
from tests.pages.conftest import Open, everything_said
from tests.pages.still_engine import StillEngine

PAGE = "pages/playground/playground.py"
SAMPLING = {
    "temperature": 0.0, "top_p": 1.0, "top_k": 0, "repetition_penalty": 1.0, "max_new_tokens": 256, "seed": 0,
    "stop": [],
}  # fmt: skip
HOSTILE = "<script>alert(1)</script> **bold** $x$"


def answer(turn: str, place: int, text: str, **fields: Any) -> TurnAnswer:
    token: Any = {"text": text, "logprob": -0.5, "top": [{"text": text, "logprob": -0.5}]}
    given = TurnAnswer(
        turn_id=turn,
        place=place,
        label="tiny",
        model={"model": "tiny"},
        text=text,
        tokens=[token] if text else [],
        reason="end",
        figures=None,
        error=None,
    )
    return replace(given, **fields)


@pytest.fixture
def talked(engine: StillEngine) -> StillEngine:
    """A conversation of two turns, the second said in two ways."""
    settings: Any = {"system": "", "models": [{"model": "tiny", "checkpoint": "tuned", "sampling": SAMPLING}]}
    with engine.database.transaction() as tx:
        if not tx.query("SELECT 1 FROM conversation").num_rows:
            conversations.create_conversation(tx, "c", "", settings, "Ada", utc_now())
            for turn, parent, prompt in (("t1", "", HOSTILE), ("t2", "t1", "And?"), ("t3", "t1", "So?")):
                held = conversations.get_conversation(tx, "c")
                conversations.add_turn(tx, turn, held, (parent, prompt), "Ada", utc_now())
                conversations.save_answer(tx, answer(turn, 0, f"Answer to {turn}"), utc_now())
    return engine


def test_the_page_is_for_those_who_may_have_models_answer() -> None:
    (entry,) = [screen for screen in list_screens() if screen.path == PAGE]
    assert entry.roles == ["member", "admin"]


def component(at: AppTest) -> dict[str, Any]:
    """What the component was given."""
    (element,) = at.get("bidi_component")
    return dict(json.loads(element.proto.json))


def test_without_a_model_it_says_how_to_get_one(open_page: Open, empty_home: Home) -> None:
    at = open_page(empty_home, PAGE)
    assert "No models yet" in everything_said(at)
    assert not at.get("bidi_component")


def test_a_run_is_offered_beside_what_it_began_with(open_page: Open, little_home: Home) -> None:
    at = open_page(little_home, PAGE)
    assert at.multiselect[0].value
    assert "No models loaded" in everything_said(at)
    drawn = component(at)
    assert drawn["conversation"] == ""
    assert drawn["path"] == []
    assert len(drawn["labels"]) == len(at.multiselect[0].value)
    at.multiselect[0].set_value([]).run()
    assert component(at)["labels"] == []
    assert component(at)["placeholder"] == "Choose a model first"


def test_a_link_shows_the_newest_branch_and_the_one_that_it_names(
    open_page: Open, talked: StillEngine
) -> None:
    drawn = component(open_page(talked.home, PAGE, conversation="c"))
    assert [turn["turn"] for turn in drawn["path"]] == ["t1", "t3"]
    assert drawn["path"][1]["siblings"] == ["t2", "t3"]
    assert drawn["path"][0]["answers"][0]["tokens"] == [["Answer to t1", -0.5, [["Answer to t1", -0.5]]]]
    other = component(open_page(talked.home, PAGE, conversation="c", turn="t2"))
    assert [turn["turn"] for turn in other["path"]] == ["t1", "t2"]


def test_what_was_said_is_a_title_and_never_markup(open_page: Open, talked: StillEngine) -> None:
    at = open_page(talked.home, PAGE, conversation="c")
    (title,) = [m.value for m in at.markdown if "alert" in m.value and "Nothing" not in m.value][:1]
    assert r"\<script\>" in title
    assert r"\*\*bold\*\*" in title


def test_a_conversation_that_is_gone_is_said_to_be(open_page: Open, talked: StillEngine) -> None:
    at = open_page(talked.home, PAGE, conversation="nowhere")
    assert "no conversation nowhere" in at.warning[0].value
    assert component(at)["conversation"] == ""


def test_settings_of_a_conversation_are_kept_as_soon_as_they_change(
    open_page: Open, talked: StillEngine
) -> None:
    at = open_page(talked.home, PAGE, conversation="c")
    assert not talked.sent
    at.number_input(key="playground-c-max_new_tokens").set_value(32).run()
    name, body = talked.sent[-1]
    assert name == "edit_conversation"
    assert body["settings"]["models"][0]["sampling"]["max_new_tokens"] == 32


def test_the_same_model_talks_twice_at_two_temperatures(open_page: Open, talked: StillEngine) -> None:
    at = open_page(talked.home, PAGE, conversation="c")
    models = at.multiselect(key="playground-models-c")
    assert [option for option in models.options if "once more" in option] == ["tiny, once more"]
    (first,) = models.value
    models.select("tiny, once more").run()
    again = at.multiselect(key="playground-models-c").value[1]
    at.button_group(key=f"playground-c-{again}-own").set_value(["temperature"]).run()
    at.slider(key=f"playground-c-{again}-own-temperature").set_value(0.8).run()
    assert component(at)["labels"] == ["tiny", "tiny · temperature 0.8"]
    settings = talked.sent[-1][1]["settings"]
    assert [model["sampling"]["temperature"] for model in settings["models"]] == [0.0, 0.8]
    assert settings["sampling"]["temperature"] == 0.0
    at.number_input(key="playground-c-max_new_tokens").set_value(64).run()  # for all, with that one's own
    sampling = [model["sampling"] for model in talked.sent[-1][1]["settings"]["models"]]
    assert [(own["temperature"], own["max_new_tokens"]) for own in sampling] == [(0.0, 64), (0.8, 64)]
    assert first != again


def test_without_an_engine_it_says_so(open_page: Open, offline_home: Home) -> None:
    at = open_page(offline_home, PAGE)
    assert "The engine is not running" in everything_said(at)
    assert not at.exception


def test_what_is_said_first_is_said_once(open_page: Open, talked: StillEngine) -> None:
    at = open_page(talked.home, PAGE, conversation="c")
    at.session_state[SAY] = {"id": "c", "prompt": "Hello", "parent": ""}
    at.run()
    assert component(at)["say"] == {"id": "c", "prompt": "Hello", "parent": ""}
    at.query_params["conversation"] = "nowhere"
    at.run()
    assert component(at)["say"] is None


def test_a_new_conversation_begins_as_the_models_folder_says(open_page: Open, little_home: Home) -> None:
    """And says so; a conversation that is there keeps its own."""
    folder = little_home.models / "tiny-llama"
    named = {"do_sample": True, "temperature": 0.6, "top_p": 0.9, "max_new_tokens": "many"}
    (folder / "generation_config.json").write_text(json.dumps(named))
    at = open_page(little_home, PAGE)
    at.multiselect[0].set_value([json.dumps({"model": "tiny-llama"})]).run()
    (field,) = [slider for slider in at.slider if slider.label == "Temperature"][:1]
    assert field.value == 0.6
    fields = {number.label: number.value for number in at.number_input}
    assert (fields["Top p"], fields["Top k"], fields["Longest answer"]) == (0.9, 50, 256)
    text = everything_said(at)
    assert "From the generation_config.json of tiny-llama: temperature, top p, top k." in text
    assert "Temperature 0.6 · longest answer 256 tokens · top p 0.9 · top k 50" in text
    (folder / "generation_config.json").unlink()
    bare = open_page(little_home, PAGE)
    bare.multiselect[0].set_value([json.dumps({"model": "tiny-llama"})]).run()
    assert "of tiny-llama names none of these" in everything_said(bare)


def test_a_conversation_is_exported_as_it_is_shown(open_page: Open, talked: StillEngine) -> None:
    at = open_page(talked.home, PAGE, conversation="c", turn="t2")
    assert [button.proto.label for button in at.get("download_button")] == ["Rows (JSONL)", "Text (Markdown)"]


def test_what_has_the_machine_is_said_with_its_time_or_its_price(
    open_page: Open, engine: StillEngine
) -> None:
    before = engine.playground.standing
    standing = engine.playground.standing = replace(before, machine_has="A run", seconds_left=600.0)
    try:
        assert "“A run” is running, for about 10 min more" in everything_said(open_page(engine.home, PAGE))
        standing.beside = True
        assert "Models respond more slowly until it ends" in everything_said(open_page(engine.home, PAGE))
        standing.slowdown = 1.256
        assert "each training step takes 1.26 times as long" in everything_said(open_page(engine.home, PAGE))
    finally:
        engine.playground.standing = before


def test_a_turn_that_is_being_answered_is_read_along(open_page: Open, talked: StillEngine) -> None:
    talked.playground.standing.answering = ["t3", "elsewhere"]
    try:
        drawn = component(open_page(talked.home, PAGE, conversation="c"))
        assert drawn["answering"] == "t3"
        drawn = component(open_page(talked.home, PAGE, conversation="c", turn="t2"))
        assert drawn["answering"] == ""
    finally:
        talked.playground.standing.answering = []
