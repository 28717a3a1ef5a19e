"""Text classification on the screens: the choice of the task, the classes of a run, and runs side by side."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
import yaml
from streamlit.testing.v1 import AppTest

from store.core.errors import StateError
from store.core.home import Home
from store.http.client import Client
from store.runs.runs import get_run
from tests.pages.conftest import Open, everything_said, running_engine
from tests.pages.run.run_tabs import on_tab, tab_titles, view_titles
from tests.pages.seeds.seed_classes import seed_classes
from tests.pages.still_engine import StillEngine, still_engine
from tests.tiny import write_model


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StillEngine]:
    with still_engine(seed_classes(tmp_path_factory.mktemp("classes"))) as engine:
        yield engine


@pytest.fixture(scope="module")
def live_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    home = seed_classes(tmp_path_factory.mktemp("live"))
    write_model(home.models / "tiny-llama")
    with running_engine(home):
        yield home


def charts(at: AppTest) -> list[dict[str, Any]]:
    return [json.loads(chart.proto.spec) for chart in at.get("plotly_chart")]


@pytest.mark.usefixtures("untimed")
def test_the_form_offers_the_task_for_a_labelled_data_set(live_home: Home, open_page: Open) -> None:
    at = open_page(
        live_home, "pages/training/launch.py", dataset="labelled", change='{"model": "tiny-llama"}'
    )
    choice = at.get_by_key("launch.task")
    assert choice.options == ["Instruction tuning (SFT)", "Text classification"]
    assert choice.value == "sft"
    fields = [field.key for field in at.text_input]
    assert "launch.sample_prompts" in fields
    choice.set_value("classification").run()
    assert not at.exception
    page_text = everything_said(at)
    assert "Label: **card_" in page_text
    assert "The text alone is read, at its last token." in page_text
    assert "Rows of each class" in page_text
    assert "trained on" not in page_text.split("Tokens per epoch")[1].split("Rows cut short")[0]
    counts = at.dataframe[0].value
    assert sorted(counts["Class"]) == ["card_arrival", "card_lost", "top_up_failed"]
    assert counts["Train"].sum() + counts["Valid."].sum() + counts["Test"].sum() == 240
    assert at.text_input(key="launch.learning_rate").placeholder == "0.0002 (automatic)"
    fields = [field.key for field in at.text_input]
    assert "launch.sample_prompts" not in fields
    assert "launch.chat_template" not in fields
    assert yaml.safe_load(at.text_area(key="launch-yaml").value)["task"] == "classification"
    at.text_input(key="launch.max_steps").set_value("1").run()
    at.button(key="launch-button").click().run()
    assert not at.exception
    run = get_run(Client(live_home), str(at.query_params["run"]))
    assert run.config["task"] == "classification"
    with suppress(StateError):  # one step may be over by now
        Client(live_home).command("cancel", {"job": run.run_id})


def test_without_labels_there_is_no_choice_and_classification_is_refused(
    little_home: Home, open_page: Open
) -> None:
    at = open_page(
        little_home, "pages/training/launch.py", dataset="d00000", change='{"model": "tiny-llama"}'
    )
    assert at.get_by_key("launch.method") is not None
    assert "launch.task" not in [choice.key for choice in at.get("button_group")]
    document = yaml.safe_load(at.text_area(key="launch-yaml").value) | {"task": "classification"}
    at.text_area(key="launch-yaml").set_value(yaml.safe_dump(document)).run()
    assert at.button(key="launch-button").disabled
    said_at = [m.value.replace("\\", "") for m in at.markdown if m.value.startswith(":red[")]
    assert any("The data set has no labels" in text for text in said_at), said_at


def test_a_run_with_a_head_begins_with_its_verdict_in_plain_words(
    engine: StillEngine, open_page: Open
) -> None:
    at = open_page(engine.home, "pages/runs/run.py", run="head")
    headline = at.subheader[0].value.replace("\\", "")
    assert headline.startswith(":green[:material/trending_up:] Learned: ")
    assert "% of held-out rows right (" in headline
    assert "for always the most frequent class and" in headline
    values = {metric.label: metric for metric in at.metric}
    assert values["Accuracy (%)"].value.startswith("33.3 → ")
    assert values["Accuracy (%)"].delta.endswith("points)")
    assert values["Macro F1"].value.startswith("0.17 → 0.")
    page_text = everything_said(at)
    assert "loss in nats a row" in page_text
    assert "Text classification · LoRA" in page_text
    assert tab_titles(at)[:2] == ["Training", "Overfitting"]
    assert view_titles(at) == ["Curves", "Classes"]
    axis = charts(at)[0]["layout"]["xaxis"]["title"]["text"]
    assert axis == "Gain in points of accuracy; 0 is the most frequent class"


def test_the_classes_of_a_run(engine: StillEngine, open_page: Open) -> None:
    at = on_tab(open_page(engine.home, "pages/runs/run.py", run="head"), "classes")
    models, classes = (frame.value for frame in at.dataframe[:2])
    assert list(models["Model"]) == [
        "Tuned",
        "Untuned, asked for the label",
        "Always the most frequent class",
    ]
    assert set(models["n"]) == {120}
    assert list(classes["F1"]) == sorted(classes["F1"])  # the worst told first
    assert set(classes["n"]) == {40}
    for share in ("Recall", "Precision"):
        assert classes[f"{share} ↑"].dtype == float  # in per cent: sorted as numbers, not as words
        assert classes[f"{share} ↑"].between(1, 100).all()
        assert all(re.fullmatch(r"\d+(\.\d+)? to \d+(\.\d+)?%", ends) for ends in classes[f"{share}, 95%"])
    matrix, reliability = charts(at)[-2:]
    assert matrix["layout"]["yaxis"]["title"]["text"] == "True label"
    cell_counts = [int(text) for text in matrix["data"][1]["text"]]
    assert sum(cell_counts) == 120
    assert len(reliability["data"][1]["x"]) == 15
    page_text = everything_said(at)
    assert "a perfectly calibrated model would show up to" in page_text
    assert "Fitted temperature" in page_text
    assert "predicted as" in page_text  # rows of the most confused pair
    assert "Where is my <b>card</b> number" in page_text
    assert " predicted as " in page_text


def test_the_samples_of_a_head_are_rows_with_label_and_prediction(
    engine: StillEngine, open_page: Open
) -> None:
    at = on_tab(open_page(engine.home, "pages/runs/run.py", run="head"), "samples")
    page_text = everything_said(at)
    assert ", the surest mistakes first." in page_text
    assert ":red-badge[:material/close:" in page_text
    assert ":green-badge[:material/check:" not in page_text
    assert "untuned: " in page_text
    at.get_by_key("class-only").set_value("Right").run()
    page_text = everything_said(at)
    assert ":green-badge[:material/check:" in page_text
    assert ":red-badge[:material/close:" not in page_text
    at.selectbox(key="class-label").set_value("card_lost").run()
    assert not at.exception
    badges = [m.value for m in at.markdown if m.value.startswith(":green-badge[:material/check: ")]
    assert badges
    assert all("card" in badge.split("]")[0] and "lost" in badge.split("]")[0] for badge in badges)


def test_too_many_classes_for_a_matrix_are_shown_as_pairs(
    tmp_path_factory: pytest.TempPathFactory, open_page: Open
) -> None:
    with still_engine(seed_classes(tmp_path_factory.mktemp("many"), classes=40)) as many:
        at = on_tab(open_page(many.home, "pages/runs/run.py", run="head"), "classes")
        assert "40 classes are too many for a matrix" in everything_said(at)
        pairs = at.dataframe[2].value
        assert list(pairs.columns) == ["True class", "predicted as", "Rows", "the other way"]
        assert pairs["Rows"].iloc[0] >= pairs["Rows"].iloc[-1] > 0


def test_a_run_that_answers_in_words_has_classes_too(engine: StillEngine, open_page: Open) -> None:
    at = open_page(engine.home, "pages/runs/run.py", run="words")
    assert "As a classifier, by the likeliest label: " in everything_said(at)
    at = on_tab(at, "classes")
    assert list(at.dataframe[0].value["n"]) == [120, 120, 120]


def test_a_head_and_words_stand_in_the_same_columns(engine: StillEngine, open_page: Open) -> None:
    at = open_page(engine.home, "pages/comparison/compare.py", runs="head,words")
    numbers = at.dataframe[0].value.set_index("Run")
    for column in ("Accuracy ↑ (95% interval)", "Macro F1 ↑ (95% interval)"):
        assert all("(" in value for value in numbers[column])
    page_text = everything_said(at)
    assert "Accuracy comparison" in page_text
    assert "A head is right more often than In words by" in page_text
    assert "points on 120 held-out rows" in page_text


def test_runs_without_classes_have_no_columns_of_them(little_home: Home, open_page: Open) -> None:
    at = open_page(little_home, "pages/comparison/compare.py", runs="r000000,r000001")
    assert "Accuracy ↑ (95% interval)" not in at.dataframe[0].value.columns
    assert "Accuracy comparison" not in everything_said(at)


def test_a_missing_file_of_predictions_is_no_error(engine: StillEngine, open_page: Open) -> None:
    path = engine.home.jobs / "words" / "class_predictions.parquet"
    aside = path.rename(path.with_suffix(".gone"))
    try:
        at = open_page(engine.home, "pages/comparison/compare.py", runs="head,words")
        assert "share no row that both classified" in everything_said(at)
    finally:
        aside.rename(path)


def test_the_overview_says_how_many_rows_are_right(engine: StillEngine, open_page: Open) -> None:
    page_text = everything_said(open_page(engine.home, "pages/overview/overview.py"))
    assert "% right</b>" in page_text
    assert "LoRA, classes" in page_text
