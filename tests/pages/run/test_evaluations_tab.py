"""The evaluations on a run's page: start one, see it work, its figures and rows, and how it differs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from streamlit.testing.v1 import AppTest

from store.evaluation.config import EvaluateConfig
from tests.pages.conftest import Open, everything_said
from tests.pages.run.run_tabs import on_tab
from tests.pages.seeds.seed_evaluations import seed_evaluations
from tests.pages.still_engine import StillEngine, still_engine

PAGE = "pages/runs/run.py"


@pytest.fixture(scope="module")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StillEngine]:
    with still_engine(seed_evaluations(tmp_path_factory.mktemp("evaluations"))) as engine:
        yield engine


def tab_of(engine: StillEngine, open_page: Open, run: str) -> AppTest:
    return on_tab(open_page(engine.home, PAGE, run=run), "evaluations")


def press(at: AppTest, key: str) -> AppTest:
    at.get_by_key(key).click()
    at.run()
    assert not at.exception, [error.value for error in at.exception]
    return at


def test_without_evaluations_it_says_what_to_do_and_starts_one(engine: StillEngine, open_page: Open) -> None:
    at = tab_of(engine, open_page, "alone")
    assert "No evaluations of this run yet" in everything_said(at)
    at.get_by_key("evaluate.checkpoint").set_value("base")
    at.get_by_key("evaluate.part").set_value("all")
    at.get_by_key("evaluate.metrics").set_value(["exact_match", "regex"])
    at.run()
    at.get_by_key("evaluate.regex.pattern").set_value("[")
    at.get_by_key("evaluate.exact_match.normalise").set_value(True)
    press(at, "evaluate.go")
    assert engine.sent == []
    assert "the pattern is rejected by RE2" in everything_said(at)
    at.get_by_key("evaluate.regex.pattern").set_value("[0-9]+")
    press(at, "evaluate.go")
    (name, body), *more = engine.sent
    assert (name, more) == ("evaluate", [])
    config = EvaluateConfig.parse(body)
    assert (config.run, config.checkpoint, config.part) == ("alone", "base", "all")
    assert config.dataset == "d00000"
    assert [choice.model_dump(exclude_defaults=True) for choice in config.metrics] == [
        {"metric": "exact_match", "normalise": True},
        {"metric": "regex", "pattern": "[0-9]+"},
    ]


def test_an_option_that_is_no_yaml_is_named(engine: StillEngine, open_page: Open) -> None:
    at = tab_of(engine, open_page, "alone")
    at.get_by_key("evaluate.metrics").set_value(["constraints"])
    at.run()
    at.get_by_key("evaluate.constraints.constraints").set_value("[{kind: words")
    press(at, "evaluate.go")
    assert "This is not valid YAML" in everything_said(at)
    assert engine.sent == []


def test_what_a_metric_needs_is_asked_for_by_name(engine: StillEngine, open_page: Open) -> None:
    at = tab_of(engine, open_page, "alone")
    at.get_by_key("evaluate.metrics").set_value(["own"])
    at.run()
    assert f"No Python file in {engine.home.metrics}" in everything_said(at).replace("\\", "")
    press(at, "evaluate.go")
    assert "File: this field is required." in everything_said(at)
    for name in ("polite", "short"):
        (engine.home.metrics / f"{name}.py").write_text("def score(prediction):\n    return 1.0\n")
    try:
        at.run()
        at.get_by_key("evaluate.own.file").set_value("short")
        press(at, "evaluate.go")
    finally:
        for path in engine.home.metrics.glob("*.py"):
            path.unlink()
    assert EvaluateConfig.parse(engine.sent[-1][1]).metrics[0].model_dump()["file"] == "short"
    sent = len(engine.sent)
    at.get_by_key("evaluate.metrics").set_value(["constraints"])
    at.run()
    press(at, "evaluate.go")
    assert "constraints: this field is required." in everything_said(at)
    assert len(engine.sent) == sent


def test_figures_come_with_interval_n_and_what_was_not_scored(engine: StillEngine, open_page: Open) -> None:
    at = tab_of(engine, open_page, "judged")
    values = {metric.label.replace("\\", ""): (metric.value, metric.delta) for metric in at.metric}
    value, delta = values["Exact match ↑"]
    assert value == "74.4%"  # 29 of 39: one row has no reference
    assert delta.startswith("95%: ")
    assert "Perplexity ↓" in values
    assert values["Own metric: missing ↑"][0] == "–"
    page_text = everything_said(at)
    assert "n 39" in page_text
    assert "1 row not scored: the row has no reference (1)" in page_text
    assert "missing.py can't be read" in page_text
    assert "10 rows with an empty answer" in page_text
    assert "A random 40 of 60 rows." in page_text


def test_rows_are_paged_the_worst_first(engine: StillEngine, open_page: Open) -> None:
    at = tab_of(engine, open_page, "judged")
    page_text = everything_said(at)
    assert "What is 0 plus 3, <b>please</b>?" in page_text  # not scored
    assert "What is 0 plus 30, <b>please</b>?" in page_text  # wrong
    assert "(an empty answer)" in page_text
    assert "Row by row" in page_text
    at.get_by_key("evaluation-order-e-tuned").set_value("eval/perplexity")
    at.run()
    assert "What is 0 plus 39, <b>please</b>?" in everything_said(at)  # the largest loss


def test_two_evaluations_are_compared_row_by_row(engine: StillEngine, open_page: Open) -> None:
    at = tab_of(engine, open_page, "judged")
    tables = [frame.value for frame in at.dataframe]
    table = next(frame for frame in tables if "Result" in frame.columns)
    lines = {row["Metric"]: row for row in table.to_dict("records")}
    assert lines["Exact match"]["Result"] == "better"
    assert lines["Exact match"]["Difference"].startswith("+56")  # 22 of 39 rows
    assert lines["Exact match"]["n"] == 39
    assert lines["Perplexity"]["Result"] == "better"  # lower is
    assert "Bonferroni" in everything_said(at)
    at.get_by_key("evaluation-shown").set_value("e-base")
    at.run()
    table = next(frame.value for frame in at.dataframe if "Result" in frame.value.columns)
    assert set(table["Result"]) == {"worse"}


def test_the_list_has_a_column_for_each_of_the_first_metrics(engine: StillEngine, open_page: Open) -> None:
    table = tab_of(engine, open_page, "judged").dataframe[0].value
    assert list(table["Model"]) == ["Tuned model", "Base model"]
    assert list(table.columns[5:8]) == ["Exact match ↑", "chrF ↑", "Perplexity ↓"]
    assert table["First figure"][0].startswith("74.4% (")
    assert table["First figure"][0].endswith("Exact match")
    assert table["Exact match ↑"][0].startswith("74.4% (")


def test_those_at_work_and_those_that_failed_are_shown(engine: StillEngine, open_page: Open) -> None:
    at = tab_of(engine, open_page, "judged")
    page_text = everything_said(at)
    assert "Answering the prompts, 10 of 40 tokens" in page_text
    assert "The folder holds no model. Train again." in page_text
    (closed,) = [box for box in at.expander if "without a result" in box.label]
    assert closed.label.replace("\\", "") == "1 evaluation without a result; the newest: Broken one"
    assert not closed.proto.expanded
    assert not at.error
    press(at, "evaluation-cancel-e-live")
    press(at, "evaluation-resume-e-broken")
    press(at, "evaluation-delete-e-tuned")
    assert engine.sent == [
        ("cancel", {"job": "e-live"}),
        ("resume", {"job": "e-broken"}),
        ("delete", {"job": "e-tuned"}),
    ]
