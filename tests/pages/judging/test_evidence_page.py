"""What learning cost: the plot of all runs when there is none, some, a thousand, and no engine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from streamlit.testing.v1 import AppTest

from engine.evaluation.statistics.intervals import ratio_interval
from store.core.home import Home
from store.core.job_folder import JobDir
from store.db.database import Database
from store.http.client import Client
from store.runs import run_outcomes, runs
from store.runs.schemas import Run
from tests.pages.conftest import Open, everything_said
from tests.pages.seeds.seed_costs import SWEEPS, seed_costs
from tests.pages.seeds.seed_runs import BASE_LOSS, ROWS, TOKENS, finished
from tests.pages.still_engine import StillEngine, still_engine

PAGE = "pages/comparison/compare.py"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StillEngine]:
    with still_engine(seed_costs(tmp_path_factory.mktemp("costs"))) as engine:
        yield engine


def plot(at: AppTest) -> dict[str, Any]:
    figure = json.loads(at.get("plotly_chart")[0].proto.spec)
    return {trace["name"]: trace for trace in figure["data"]}


def test_the_runs_and_those_left_out(engine: StillEngine, open_page: Open) -> None:
    at = open_page(engine.home, PAGE, tab="cost")
    assert at.title[0].value == "Gain and forgetting"
    page_text = everything_said(at)
    assert "8 of 12 finished runs. Left out:" in page_text
    for words in ("1 run without a figure", "1 run of preference", "1 run with a classification head"):
        assert words in page_text
    assert "1 run continuing an earlier run" in page_text
    assert len(plot(at)["Runs"]["customdata"]) == len(SWEEPS) + 1
    assert "Highest gain without relevant forgetting" in at.subheader[0].value
    assert "lora at 0.0003" in at.subheader[0].value
    table = at.dataframe[0].value
    assert len(table) == len(SWEEPS) + 1
    assert set(table["n (rows)"]) == {200}
    assert set(table["n (passages)"]) == {120}
    assert "LoRA and Full fine-tuning can't be distinguished by forgetting" in page_text


def test_another_measure_has_its_own_axis_and_limits(engine: StillEngine, open_page: Open) -> None:
    at = open_page(engine.home, PAGE, tab="cost")
    at.segmented_control(key="forgetting").set_value("answers").run()
    layout = json.loads(at.get("plotly_chart")[0].proto.spec)["layout"]
    assert layout["xaxis"]["title"]["text"] == "Fall of accuracy on questions (points)"
    assert {a["text"] for a in layout["annotations"]} >= {"forgot some, from 5", "forgot much, from 15"}
    at.segmented_control(key="forgetting").set_value("kl").run()
    layout = json.loads(at.get("plotly_chart")[0].proto.spec)["layout"]
    assert not any("forgot" in a["text"] for a in layout["annotations"])
    assert "on the front" in at.subheader[0].value
    at.segmented_control(key="colour").set_value("method").run()
    assert {"LoRA", "Full fine-tuning"} <= set(plot(at))
    assert not at.exception


def test_a_picked_run_offers_its_page_and_what_to_try(engine: StillEngine, open_page: Open) -> None:
    at = open_page(engine.home, PAGE, tab="cost", run="lora-0.003")
    assert plot(at)["Selected"]["x"] == plot(at)["Runs"]["x"][3:4]
    page_text = everything_said(at)
    assert "Forgot much" in page_text
    assert "120 passages. Behind #3 lora at 0.001." in page_text
    at.button(key="cost-advice-0").click().run()
    assert at.query_params["from"] == "lora-0.003"
    assert json.loads(at.query_params["change"]) == {"learning_rate": 0.001}


def test_an_advice_is_launched_by_one_click(engine: StillEngine, open_page: Open) -> None:
    at = open_page(engine.home, PAGE, tab="cost", run="lora-0.003")
    engine.made = "lora-0.0003"  # any run that is there to be shown
    at.button(key="cost-advice-0-launch").click().run()
    name, body = engine.sent[-1]
    assert name == "launch"
    assert (body["learning_rate"], body["parent"]) == (0.001, "lora-0.003")
    assert body["name"] == "lora at 0.003, learning_rate 0.001"
    assert at.query_params["run"] == "lora-0.0003"
    assert not at.exception


def test_mixing_is_one_click_away(engine: StillEngine, open_page: Open) -> None:
    at = open_page(engine.home, PAGE, tab="cost", run="lora-0.003")
    labels = {str(button.key): button.label for button in at.button}
    key = next(key for key, label in labels.items() if label == "Interpolate")
    at.button(key=key).click().run()
    assert not at.exception
    assert at.header[0].value == "Interpolation"
    assert at.query_params["run"] == "lora-0.003"


def test_children_and_mixes_hang_on_their_run(engine: StillEngine, open_page: Open) -> None:
    at = open_page(engine.home, PAGE, tab="cost")
    drawn = plot(at)
    runs, child = drawn["Runs"], drawn["From its parent"]
    places = {mark[0]: (x, y) for mark, x, y in zip(runs["customdata"], runs["x"], runs["y"], strict=True)}
    assert (child["x"][0], child["y"][0]) == places["lora-0.001"]
    assert (child["x"][2], child["y"][2]) == places["replayed"]
    assert drawn["Interpolations"]["x"] == [0.3, 0.09, 0.03]
    assert {mark[0] for mark in drawn["Interpolations"]["customdata"]} == {"lora-0.003"}
    way = drawn["To the base"]
    assert (way["x"][0], way["y"][0]) == places["lora-0.003"]
    assert (way["x"][-2], way["y"][-2]) == (0, 0)
    assert "3 diamonds between tuned and base model" in everything_said(at)
    at.get_by_key("lines").set_value([]).run()
    assert not {"Interpolations", "To the base", "From its parent"} & set(plot(at))
    at.segmented_control(key="forgetting").set_value("answers").run()  # which no share has
    assert not at.exception


def test_opening_the_picked_run(engine: StillEngine, open_page: Open) -> None:
    at = open_page(engine.home, PAGE, tab="cost", run="full-1e-05")
    at.button(key="cost-open").click().run()
    assert not at.exception
    assert "full at 1e-05" in at.title[0].value


def test_a_run_that_is_not_drawn_is_no_error(engine: StillEngine, open_page: Open) -> None:
    assert "Click a run" in everything_said(open_page(engine.home, PAGE, tab="cost", run="old"))


def test_a_thousand_runs(full_home: Home, open_page: Open) -> None:
    at = open_page(full_home, PAGE, tab="cost")
    at.selectbox(key="dataset").set_value("").run()
    assert not at.exception
    page_text = everything_said(at)
    assert "728 of 728 finished runs." in page_text
    assert "the front is one per data set" in page_text
    assert "Front" not in plot(at)
    assert len(at.dataframe[0].value) == 728


def test_the_run_in_the_link_brings_its_data_set(full_home: Home, open_page: Open) -> None:
    newest = open_page(full_home, PAGE, tab="cost").selectbox(key="dataset").value
    linked = next(row for row in run_outcomes.costs(Client(full_home)) if row.dataset_id != newest)
    at = open_page(full_home, PAGE, tab="cost", run=linked.run_id)
    assert at.selectbox(key="dataset").value == linked.dataset_id


def test_runs_from_before_there_were_probes(offline_home: Home, open_page: Open) -> None:
    with still_engine(offline_home) as before:
        page_text = everything_said(open_page(before.home, PAGE, tab="cost"))
    assert "0 of 1 finished run. Left out: 1 run without a figure" in page_text
    assert "clone and launch them" in page_text


def test_an_empty_store_and_no_engine(tmp_path: Path, offline_home: Home, open_page: Open) -> None:
    with still_engine(Home(tmp_path / "empty").create()) as empty:
        at = open_page(empty.home, PAGE, tab="cost")
        assert "No run has finished yet." in everything_said(at)
        at.button(key="cost-launch").click().run()
        assert not at.exception
    at = open_page(offline_home, PAGE, tab="cost")
    assert "This part needs the engine" in everything_said(at)


def paired_runs(path: Path) -> Home:
    """Two runs whose gains differ by 0.21 nats on the same rows, and lie 0.2 apart from row to row."""
    home = Home(path).create()
    database = Database(home.database, [home.datasets, home.jobs])
    noise = np.random.default_rng(0)
    shared = noise.normal(0, 1, ROWS)
    try:
        with database.transaction() as tx:
            for run_id, name, gain in (("better", "The better one", 0.8), ("other", "The other one", 0.59)):
                finished(tx, home, run_id, name, gain=gain, rise=0.1, learning_rate=1e-4 * gain)
                saved = TOKENS * (gain + shared + noise.normal(0, 0.2, ROWS))
                losses = {"tokens": TOKENS, "base_loss": BASE_LOSS, "tuned_loss": BASE_LOSS - saved}
                rows = {"split": ["test"] * ROWS, "row_id": range(ROWS)} | losses
                pq.write_table(pa.table(rows), JobDir(home.jobs / run_id).row_losses)
                verdict = runs.get_run(tx, run_id).verdict
                verdict.gain = replace(verdict.gain, **vars(ratio_interval(saved, TOKENS).to_estimate()))
                verdict.tuned.loss = float((BASE_LOSS - saved).sum() / TOKENS.sum())
                runs.update(tx, run_id, verdict=verdict)
    finally:
        database.close()
    return home


def test_both_pages_give_one_answer_on_the_same_rows(tmp_path: Path, open_page: Open) -> None:
    with still_engine(paired_runs(tmp_path)) as engine:
        compared = everything_said(open_page(engine.home, PAGE, runs="better,other"))
        at = open_page(engine.home, PAGE, tab="cost", run="other")
    assert "The better one is better than The other one by 0.2" in compared
    assert plot(at)["Runs"]["customdata"]
    page_text = everything_said(at)
    assert "Behind #1 The better one" in page_text
    assert "Not significantly worse" not in page_text
    assert "in pairs, on the rows and items that both were measured on" in page_text
    gains = [run.verdict.gain for run in _read_runs(engine.home) if run.verdict]
    assert gains[0].low < gains[1].high  # which their own intervals could not tell


def _read_runs(home: Home) -> list[Run]:
    database = Database(home.database, [home.datasets, home.jobs])
    try:
        return [runs.get_run(database, run_id) for run_id in ("better", "other")]
    finally:
        database.close()
