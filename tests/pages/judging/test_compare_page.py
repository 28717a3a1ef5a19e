"""Comparing runs: paired evidence on shared rows, curves over each other, and the settings that differ."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from pages.comparison import differences
from store.core.home import Home
from store.db.database import Database
from store.runs import runs
from tests.pages.conftest import Open, everything_said
from tests.pages.seeds.seed import seed
from tests.pages.seeds.seed_runs import finished, seed_runs
from tests.pages.still_engine import StillEngine, still_engine

PAGE = "pages/comparison/compare.py"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StillEngine]:
    home = seed_runs(tmp_path_factory.mktemp("compared"))
    database = Database(home.database, [home.datasets, home.jobs])
    with database.transaction() as tx:
        finished(tx, home, "near", "LoRA r16, rate 0.00019", gain=0.827, learning_rate=1.9e-4)
        for n in (2, 3):
            finished(tx, home, f"seed-{n}", f"LoRA r16, seed {n}", gain=0.826, learning_rate=2e-4, seed=n)
        finished(tx, home, "true", "True labels", gain=0.84, own=0.6, learning_rate=2.1e-4)
        finished(tx, home, "shuffled", "Shuffled labels", gain=0.85, own=0.0, learning_rate=2.2e-4)
        finished(tx, home, "untold", "Question not told", gain=0.88, own=math.nan, learning_rate=2.3e-4)
    database.close()
    with still_engine(home) as engine:
        yield engine


def names_beside_charts(at: AppTest) -> list[list[str]]:
    """The names at the axis of each chart of intervals, from the top."""
    axes = (json.loads(chart.proto.spec)["layout"]["yaxis"] for chart in at.get("plotly_chart"))
    return [axis["ticktext"] for axis in axes if "ticktext" in axis]


def test_two_equal_runs_cannot_be_told_apart(engine: StillEngine, open_page: Open) -> None:
    at = open_page(engine.home, PAGE, runs="learned,near")
    page_text = everything_said(at)
    assert "can't be distinguished on 200 held-out rows" in page_text
    assert "smallest detectable difference: 0.0" in page_text
    assert "No run is marked as the best" in page_text
    numbers = at.dataframe[0].value
    assert not numbers["Run"].str.contains("best").any()
    assert list(numbers["n"]) == ["200", "200"]


def test_the_page_says_how_often_runs_were_compared_on_these_rows(
    engine: StillEngine, open_page: Open
) -> None:
    open_page(engine.home, PAGE, runs="learned,near,true")
    page_text = everything_said(open_page(engine.home, PAGE, runs="learned,true"))
    counted = re.search(r"(\d+) different sets of runs, of (\d+) runs", page_text)
    assert counted
    assert int(counted[1]) >= 2
    assert "without some runs of an earlier set" in page_text
    assert "different sets of runs" not in everything_said(open_page(engine.home, PAGE, runs="learned"))


def test_shuffled_labels_read_as_shape_alone_beside_true_ones(engine: StillEngine, open_page: Open) -> None:
    at = open_page(engine.home, PAGE, runs="true,shuffled")
    numbers = at.dataframe[0].value.set_index("Run")
    question = numbers["From the question ↑ (95% interval)"]
    assert question["True labels"].startswith("+0.6")
    assert question["Shuffled labels"].startswith(("0.0", "+0.0", "−0.0"))
    assert all(cell.endswith(", n 200") for cell in question)
    shape = numbers["Shape of the answers (95% interval)"]
    assert shape["True labels"].startswith("+0.18")
    assert shape["Shuffled labels"].startswith("+0.8")
    assert "Shuffled labels leads by the shape of its answers alone" in everything_said(at)
    assert names_beside_charts(at) == [["Shuffled labels", "True labels"], ["True labels", "Shuffled labels"]]


def test_a_run_on_shuffled_labels_is_amber_on_its_page(engine: StillEngine, open_page: Open) -> None:
    at = open_page(engine.home, "pages/runs/run.py", run="shuffled")
    assert (
        at.subheader[0]
        .value.replace("\\", "")
        .startswith(
            ":orange[:material/shapes:] Learned the shape of the answers, not what the question asks: on 200"
        )
    )
    (own,) = [metric for metric in at.metric if metric.label.endswith("the question's")]
    assert own.label.startswith("Of 0.8")
    assert own.delta.endswith(", n 200")
    assert "check that every answer belongs to its prompt" in everything_said(at)


def test_a_gain_whose_question_is_not_known_is_amber_and_not_the_best(
    engine: StillEngine, open_page: Open
) -> None:
    at = open_page(engine.home, "pages/runs/run.py", run="untold")
    lead = (
        ":orange[:material/trending_up:] Better; whether it learned what the question asks was not measured"
    )
    assert at.subheader[0].value.replace("\\", "").startswith(lead)
    assert "was not measured: a loss is not a number." in everything_said(at).replace("\\", "")
    at = open_page(engine.home, PAGE, runs="true,untold")
    assert "Question not told leads, but not significantly by what the prompt asks" in everything_said(at)
    assert not at.dataframe[0].value["Run"].str.contains("best").any()


def test_a_run_without_parts_beside_one_with_them_says_so(engine: StillEngine, open_page: Open) -> None:
    at = open_page(engine.home, PAGE, runs="true,learned")
    assert list(at.dataframe[0].value["From the question ↑ (95% interval)"])[1] == "not measured"
    assert names_beside_charts(at)[1] == ["True labels"]
    assert "Not measured for LoRA r16" in everything_said(at)
    at = open_page(engine.home, PAGE, runs="near,learned")
    assert len(names_beside_charts(at)) == 1
    without = at.dataframe[0].value
    assert "From the question ↑ (95% interval)" not in without


def test_what_a_seed_does_is_luck_and_counts_for_settings(engine: StillEngine, open_page: Open) -> None:
    at = open_page(engine.home, PAGE, runs="learned,twin")
    page_text = everything_said(at)
    assert "differ only in their seed, by 0.0" in page_text
    assert "that is chance, not a better setting" in page_text
    assert "is better than" not in page_text
    assert not at.dataframe[0].value["Run"].str.contains("best").any()

    at = open_page(engine.home, PAGE, runs="learned,twin,seed-2,seed-3,overfit")
    page_text = everything_said(at)
    assert "(4 seeds) is better than Full, 8 epochs by 0.4" in page_text
    marked = at.dataframe[0].value["Run"].str.contains("best")
    assert list(marked) == [True] * 4 + [False]  # all models of the better setting


def test_another_seed_of_each_is_one_click(engine: StillEngine, open_page: Open) -> None:
    at = open_page(engine.home, PAGE, runs="learned,overfit")
    assert "One run of each: this compares these two models" in everything_said(at)
    assert "another seed" in at.button(key="compare-repeat").label
    run = runs.get_run(engine.database, "learned")
    again = differences.build_reseeded_config(run)
    assert again["seed"] == run.config["seed"] + 1
    assert again["name"].endswith("seed 1")
    assert runs.make_settings_key(replace(run, config=again)) == runs.make_settings_key(run)


def test_a_run_that_is_surely_better_is_marked(engine: StillEngine, open_page: Open) -> None:
    at = open_page(engine.home, PAGE, runs="worse,overfit")
    assert "Full, 8 epochs is better than LoRA, rate too high by 0." in everything_said(at)
    numbers = at.dataframe[0].value.set_index("Run")
    assert "Full, 8 epochs ★ best" in numbers.index
    assert numbers.loc["Full, 8 epochs ★ best", "Gain ↑ (95% interval)"].startswith("+0.3")


def test_curves_have_a_tab_and_each_metric_a_chart(engine: StillEngine, open_page: Open) -> None:
    at = open_page(engine.home, PAGE, runs="twin,overfit,worse", tab="curves")
    assert at.title[0].value == "Curves"
    assert not at.error
    (component,) = at.get("bidi_component")
    drawn = json.loads(component.proto.json)
    assert [run["label"] for run in drawn["runs"]] == [
        "LoRA r16, another seed",
        "Full, 8 epochs",
        "LoRA, rate too high",
    ]
    assert len({run["color"] for run in drawn["runs"]}) == 3
    assert [metric["name"] for metric in drawn["metrics"][:2]] == ["eval/loss", "train/loss"]
    assert drawn["metrics"][0]["level"] == pytest.approx(2.457, abs=1e-3)
    assert not drawn["alive"]
    assert "Select one or more runs" in everything_said(open_page(engine.home, PAGE, tab="curves"))


def test_a_live_run_keeps_its_charts_asking(engine: StillEngine, open_page: Open) -> None:
    at = open_page(engine.home, PAGE, runs="learned,live,never-was", tab="curves")
    assert "There is no run never-was." in at.error[0].value.replace("\\", "")
    (component,) = at.get("bidi_component")
    drawn = json.loads(component.proto.json)
    assert drawn["alive"]
    probed = next(metric for metric in drawn["metrics"] if metric["name"] == "probe/prose/loss")
    assert "live" in probed["runs"]


def test_only_the_settings_that_differ_unless_all_are_asked_for(engine: StillEngine, open_page: Open) -> None:
    at = open_page(engine.home, PAGE, runs="learned,twin")
    assert list(at.dataframe[-1].value["Setting"]) == ["seed"]
    at.toggle(key="compare-all-settings").set_value(True).run()
    settings = at.dataframe[-1].value
    assert {"learning_rate", "model", "r", "data fingerprint"} <= set(settings["Setting"])


def test_the_choice_is_in_the_link(engine: StillEngine, open_page: Open) -> None:
    at = open_page(engine.home, PAGE, runs="learned,twin")
    at.multiselect(key="compare-runs").set_value(["twin", "worse"]).run()
    assert at.query_params["runs"] == "twin,worse"
    at.multiselect(key="compare-runs").set_value([]).run()
    assert "runs" not in at.query_params
    assert "Select two or more runs" in everything_said(at)


def test_runs_that_are_gone_and_runs_without_a_verdict(engine: StillEngine, open_page: Open) -> None:
    at = open_page(engine.home, PAGE, runs="learned,never-was,live")
    assert "There is no run never-was." in at.error[0].value.replace("\\", "")
    assert at.multiselect(key="compare-runs").value == ["learned", "live"]
    page_text = everything_said(at)
    assert "1 of 2 runs have a verdict." in page_text


def test_a_missing_file_of_row_losses_is_said(engine: StillEngine, open_page: Open) -> None:
    path = engine.home.jobs / "near" / "row_losses.parquet"
    aside = path.rename(path.with_suffix(".gone"))
    try:
        at = open_page(engine.home, PAGE, runs="learned,near")
        assert "can't be compared: the losses of single rows" in everything_said(at).replace("\\", "")
    finally:
        aside.rename(path)


@pytest.fixture(scope="module")
def thousand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StillEngine]:
    with still_engine(seed(tmp_path_factory.mktemp("thousand"), runs=1000, sets=3)) as engine:
        yield engine


def test_a_thousand_runs_are_searched_not_listed(thousand: StillEngine, open_page: Open) -> None:
    at = open_page(thousand.home, PAGE)
    choice = at.multiselect(key="compare-runs")
    assert len(choice.options) == 50
    assert "the newest 50 of 1,000 runs" in everything_said(at)
    at.text_input(key="compare-search").set_value("#123").run()
    assert any("#123" in option for option in at.multiselect(key="compare-runs").options)
    at.multiselect(key="compare-runs").set_value(["r000123", "r000999"]).run()
    assert not at.exception
    at.text_input(key="compare-search").set_value("no such run").run()
    assert at.multiselect(key="compare-runs").value == ["r000123", "r000999"]


def test_nothing_to_compare(tmp_path: Path, open_page: Open) -> None:
    with still_engine(Home(tmp_path / "empty").create()) as empty:
        assert (
            "No runs to compare yet. Launch two runs on the same data set to compare them."
            in everything_said(open_page(empty.home, PAGE))
        )


def test_without_an_engine_the_page_says_so(offline_home: Home, open_page: Open) -> None:
    at = open_page(offline_home, PAGE, runs="r000000")
    assert "This part needs the engine" in everything_said(at)
