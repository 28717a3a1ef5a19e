"""The tab "Clean" over a store in which nothing moves: findings, recipe, preview, and what is sent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from store.core.errors import ConfigError
from store.core.home import Home
from tests.pages.conftest import SECONDS, everything_said
from tests.pages.seeds.seed import seed
from tests.pages.seeds.seed_quality import example, record, seed_quality
from tests.pages.still_engine import StillEngine, still_engine

Document = dict[str, Any]
ASKED: list[Document] = []
DRAFT = "recipe-d00000"


async def answer(name: str, body: Document) -> Document:
    """A preview: the first step drops 20 rows, every other changes one."""
    await asyncio.sleep(0)
    assert name == "clean_preview"
    ASKED.append(body)
    steps = body["recipe"]["steps"]
    if steps[0].get("reason") == "refuse":
        raise ConfigError("This step would drop every row.", fix="Take it out.")
    step_counts = [
        {"title": s["step"], "rows_in": 200, "changed": 1, "dropped": 0, "added": 0, "rows_out": 180}
        for s in steps
    ]
    step_counts[0] |= {"dropped": 20, "changed": 0}
    everything = steps[0].get("reason") == "everything"
    counts = {"kept": 0 if everything else 179, "changed": 0 if everything else 1, "added": 0}
    part = {}
    if steps[0].get("reason") == "part" and not body["whole"]:
        part = {"of": {"rows": 200, "total": 9000}, "unknown": [{"step": 1, "title": "Drop near duplicates"}]}
    return part | {
        "fates": counts | {"dropped": 200 if everything else 20, "steps": step_counts},
        "examples": [
            example(7, "changed", "Ask a.person@example.org, <b>please</b>", "Ask [EMAIL], <b>please</b>"),
            example(100, "dropped", "What is 0 plus 0?", None, "the same text as row 0"),
        ],
        "problems": [{"level": "warning", "field": "", "message": "2 rows look odd.", "fix": ""}],
    }


def draw() -> None:
    from pages.data.cleaning.tab import show_clean
    from pages.shared import cached_queries

    show_clean(cached_queries.read_dataset("d00000"))


Open = Callable[..., AppTest]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StillEngine]:
    with still_engine(seed_quality(tmp_path_factory.mktemp("measured")), answer) as engine:
        yield engine


@pytest.fixture
def open_tab(monkeypatch: pytest.MonkeyPatch) -> Open:
    def open_it(home: Home, draft: list[Document] | None = None) -> AppTest:
        monkeypatch.setenv("TUNEBENCH_HOME", str(home.path))
        st.cache_data.clear()
        st.cache_resource.clear()
        at = AppTest.from_function(draw, default_timeout=SECONDS)
        if draft is not None:
            at.session_state[DRAFT] = draft
        at.run()
        assert not at.exception, [error.value for error in at.exception]
        return at

    return open_it


def html_of(at: AppTest) -> str:
    return "\n".join(element.proto.body for element in at.get("html"))


def test_findings_stand_in_order_with_share_and_n(engine: StillEngine, open_tab: Open) -> None:
    at = open_tab(engine.home)
    page_text = everything_said(at)
    assert "2 findings" in page_text
    assert page_text.index("3 rows with e-mail addresses") < page_text.index(
        "20 exact duplicates in 20 groups"
    )
    assert "1.5% of 200 rows" in page_text
    assert "10% of 200 rows" in page_text
    assert "Not measured yet: Texts, Tokens" in page_text
    assert "Label quality" not in page_text  # these rows have no labels
    assert "No steps yet" in page_text


def test_one_button_puts_the_fix_into_the_recipe_and_shows_what_it_would_do(
    engine: StillEngine, open_tab: Open
) -> None:
    ASKED.clear()
    at = open_tab(engine.home)
    at.button(key="fix-exact_group-0").click().run()
    assert not at.exception
    assert at.session_state[DRAFT] == [{"step": "drop_duplicates", "kind": "exact"}]
    assert at.button(key="fix-exact_group-0").label == "In the recipe"
    assert at.button(key="fix-exact_group-0").disabled
    page_text = everything_said(at)
    assert "1. Drop exact duplicates, keep the first" in page_text
    assert "200 rows become 180: 20 dropped, 1 changed." in page_text
    assert "2 rows look odd." in page_text
    assert "10% of 200" in page_text
    (body,) = ASKED
    assert body["dataset"]["dataset_id"] == "d00000"
    assert body["dataset"]["signals"].keys() == {"duplicates", "privacy"}
    assert body["recipe"]["steps"][0]["kind"] == "exact"


def test_the_words_that_change_are_marked_and_nothing_of_a_row_is_markup(
    engine: StillEngine, open_tab: Open
) -> None:
    page_html = html_of(open_tab(engine.home, [{"step": "fix_encoding"}]))
    assert "<del>a.person@example.org</del>" in page_html.replace("</del><del>", "")
    assert "&lt;b&gt;please&lt;/b&gt;" in page_html
    assert "<b>please" not in page_html


def test_make_sends_the_recipe_whole_and_follows_the_job(engine: StillEngine, open_tab: Open) -> None:
    at = open_tab(engine.home, [{"step": "drop_duplicates", "kind": "exact"}])
    button = at.button(key="clean-make")
    assert button.label == "Make version 3"  # "Sums 0 v2" is there already
    keys = [str(button.key) for button in at.button]
    assert keys.index("clean-make") < keys.index("fix-email-0")  # in reach above the findings
    assert "1 step in the [recipe](#recipe). **200 rows become 180" in everything_said(at)
    button.click().run()
    name, body = engine.sent[-1]
    assert (name, body["dataset"], body["name"]) == ("clean", "d00000", "")
    step = {
        "step": "drop_duplicates",
        "kind": "exact",
        "threshold": 0.7,
        "keep": "first",
        "conflicts": "keep",
    }
    assert body["recipe"] == {"steps": [step]}


def test_steps_are_moved_changed_and_taken_out(engine: StillEngine, open_tab: Open) -> None:
    at = open_tab(engine.home, [{"step": "fix_encoding"}, {"step": "drop_duplicates", "kind": "near"}])
    at.button(key="step-up-1").click().run()
    assert [step["step"] for step in at.session_state[DRAFT]] == ["drop_duplicates", "fix_encoding"]
    at.button(key="step-options-0").click().run()
    at.selectbox(key="step-d00000-0-drop_duplicates-keep").set_value("longest_answer")
    at.number_input(key="step-d00000-0-drop_duplicates-threshold").set_value(0.8)
    _press(at, "Apply")
    first = at.session_state[DRAFT][0]
    assert (first["kind"], first["keep"], first["threshold"]) == ("near", "longest_answer", 0.8)
    assert "Drop near duplicates (0.8), keep the longest answer" in everything_said(at)
    at.button(key="step-remove-0").click().run()
    assert [step["step"] for step in at.session_state[DRAFT]] == ["fix_encoding"]


def test_a_step_is_added_from_the_list_and_a_wrong_option_is_said(
    engine: StillEngine, open_tab: Open
) -> None:
    at = open_tab(engine.home)
    at.selectbox(key="clean-add-d00000").set_value("fix_encoding").run()
    assert at.session_state[DRAFT] == [{"step": "fix_encoding"}]
    at.selectbox(key="clean-add-d00000").set_value("filter").run()
    _press(at, "Add")
    assert "choose the rows" in everything_said(at)
    key = "step-d00000--1-filter-where"
    at.selectbox(key=f"{key}-0-column").set_value("email")
    at.selectbox(key=f"{key}-0-op").set_value(">")
    at.text_input(key=f"{key}-0-value").set_value("0")
    _press(at, "Add")
    assert not at.exception
    assert at.session_state[DRAFT][1]["where"]["conditions"] == [{"column": "email", "op": ">", "value": 0}]


@pytest.mark.parametrize(
    "name",
    ["normalise", "strip", "map_columns", "filter", "drop_duplicates", "redact", "cap_length", "balance",
     "sample", "label_errors", "mix"],
)  # fmt: skip
def test_every_step_has_a_form(engine: StillEngine, open_tab: Open, name: str) -> None:
    at = open_tab(engine.home)
    at.selectbox(key="clean-add-d00000").set_value(name).run()
    assert not at.exception
    assert "Add" in [button.label for button in at.button]


def test_redactions_of_two_findings_are_one_step(engine: StillEngine, open_tab: Open) -> None:
    at = open_tab(engine.home, [{"step": "redact", "kinds": ["secret"]}])
    at.button(key="fix-email-0").click().run()
    assert at.session_state[DRAFT] == [{"step": "redact", "kinds": ["secret", "email"]}]


def test_a_preview_that_refuses_says_why_and_offers_no_button(engine: StillEngine, open_tab: Open) -> None:
    where = {"conditions": [{"column": "email", "op": ">", "value": 0}]}
    at = open_tab(engine.home, [{"step": "filter", "where": where, "reason": "refuse"}])
    assert "This step would drop every row." in everything_said(at)
    assert "clean-make" not in [button.key for button in at.button]
    at = open_tab(engine.home, [{"step": "filter", "where": where, "reason": "everything"}])
    assert at.button(key="clean-make").disabled
    assert "No row would be left" in everything_said(at)


def test_a_draft_that_is_not_valid_says_so(engine: StillEngine, open_tab: Open) -> None:
    at = open_tab(engine.home, [{"step": "redact", "kinds": []}])
    assert "name at least one" in everything_said(at)
    assert "clean-make" not in [button.key for button in at.button]


def test_yaml_is_shown_and_taken_back(engine: StillEngine, open_tab: Open) -> None:
    at = open_tab(engine.home, [{"step": "fix_encoding"}])
    at.session_state["clean-saved"] = True
    at.run()
    assert "- step: fix_encoding" in "".join(code.value for code in at.code)
    at.text_area[0].set_value("steps:\n- step: [")
    _press(at, "Use pasted text")
    assert "not valid YAML" in everything_said(at)
    at.text_area[0].set_value("steps:\n- step: strip\n  html: true")
    _press(at, "Use pasted text")
    assert at.session_state[DRAFT][0]["html"] is True


def test_a_recipe_is_saved_under_a_name(engine: StillEngine, open_tab: Open) -> None:
    at = open_tab(engine.home, [{"step": "fix_encoding"}])
    at.session_state["clean-saved"] = True
    at.run()
    field = next(field for field in at.text_input if field.label == "Save this recipe as")
    field.set_value("Mend")
    _press(at, "Save")
    body = {"name": "Mend", "steps": [{"step": "fix_encoding"}], "shared": True, "seen": 0}
    assert engine.sent[-1] == ("save_recipe", body)


def test_a_row_is_edited_by_hand(engine: StillEngine, open_tab: Open) -> None:
    at = open_tab(engine.home)
    at.session_state["clean-edit"] = True
    at.run()
    at.number_input(key="edit-row-d00000").set_value(9).run()
    answer_area = at.text_area[1]
    assert answer_area.value == "It is **9**."
    answer_area.set_value("Nine.")
    _press(at, "Add this edit to the recipe")
    (step,) = at.session_state[DRAFT]
    assert step["edits"][0]["row_id"] == 9
    assert step["edits"][0]["messages"][1] == {"role": "assistant", "content": "Nine."}
    assert "Edit 1 row by hand" in everything_said(at)


def test_nothing_measured_offers_to_measure(tmp_path: Path, open_tab: Open) -> None:
    with still_engine(seed(tmp_path / "new", runs=0, sets=1), answer) as engine:
        at = open_tab(engine.home)
        assert "Not measured yet. Measure to find problems" in everything_said(at)
        at.button(key="clean-measure").click().run()
        groups = [body["group"] for name, body in engine.sent if name == "profile"]
        assert groups == ["text", "privacy", "duplicates"]


def test_healthy_rows_say_what_was_checked(tmp_path: Path, open_tab: Open) -> None:
    with still_engine(seed(tmp_path / "clean", runs=0, sets=1), answer) as engine:
        with engine.database.transaction() as tx:
            figures = {"conflict": {"n": 200, "flagged": 0}}
            record(tx, f"{0:064x}", "duplicates", figures)
        at = open_tab(engine.home)
        page_text = everything_said(at)
        assert "All signals are within their healthy range. 1 signal checked on 60 rows." in page_text
        assert "Not measured yet: Texts, Privacy and safety" in page_text


def test_without_an_engine_the_tab_says_so(offline_home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEBENCH_HOME", str(offline_home.path))
    st.cache_data.clear()
    st.cache_resource.clear()
    at = AppTest.from_function(draw_offline, default_timeout=SECONDS).run()
    assert not at.exception
    assert "This part needs the engine" in everything_said(at)


def draw_offline() -> None:
    from pages.data.cleaning.tab import show_clean
    from store.data.schemas import Dataset
    from tests.unit.store_samples import row_of

    show_clean(row_of(Dataset, dataset_id="d00000", fingerprint="0" * 64, row_count=60, name="x", columns={}))


def _press(at: AppTest, label: str) -> None:
    """The button with that label, which may be one of a form."""
    next(button for button in at.button if button.label == label).click().run()


def test_a_preview_of_some_rows_promises_nothing_and_counts_on_all_when_asked(
    open_tab: Open, engine: Any
) -> None:
    where = {"conditions": [{"column": "row_id", "op": "is", "value": 1}]}
    at = open_tab(engine.home, [{"step": "filter", "where": where, "reason": "part"}])
    page_text = everything_said(at)
    assert (
        "How many of 9,000 rows stay isn't known yet. Of the first 200: 20 dropped, 1 changed." in page_text
    )
    assert "change more with more rows: step 2 (Drop near duplicates)" in page_text
    assert "rows become" not in page_text
    at.button(key="clean-whole").click().run()
    assert ASKED[-1]["whole"]
    assert "200 rows become 180: 20 dropped, 1 changed." in everything_said(at)
