"""The page of one run in every state it can be in, over the engine's real HTTP interface and a real store."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from pages.shared import session
from store.core.errors import EngineUnavailable
from store.core.home import Home
from store.db.database import utc_now
from store.http.client import Client
from store.jobs import metric_points
from store.runs import runs
from tests.pages.conftest import Open, everything_said
from tests.pages.run.run_tabs import PAGE, charts, on_tab
from tests.pages.still_engine import StillEngine, still_engine
from tests.unit.store_samples import POINTS


def shown_labels(at: AppTest) -> list[str]:
    return [button.label for button in at.button]


def test_a_finished_run_begins_with_its_verdict(engine: StillEngine, open_page: Open) -> None:
    at = open_page(engine.home, PAGE, run="learned")
    headline = at.subheader[0].value.replace("\\", "")
    assert headline.startswith(
        ":green[:material/trending_up:] Learned: on 200 held-out rows the tuned model is better"
    )
    values = {metric.label: metric.value for metric in at.metric}
    assert values["Held-out loss"].startswith("2.457 → 1.")
    assert values["Overfitting"] == "None"
    assert "(" in next(metric.delta for metric in at.metric if metric.label == "Held-out loss")
    assert {"Training and validation loss", "Learning rate", "Gradient norm, before clipping"} <= set(
        charts(at)
    )
    assert "Cancel" not in shown_labels(at)
    assert "3 rows were cut at 128 tokens." in everything_said(at)


def test_a_name_is_shown_as_it_is(engine: StillEngine, open_page: Open) -> None:
    title = open_page(engine.home, PAGE, run="learned").title[0].value
    assert r"\<b\>bold" in title
    assert r"\[x\](y)" in title


def test_the_loss_chart_marks_overfitting_best_step_and_base_level(
    engine: StillEngine, open_page: Open
) -> None:
    at = open_page(engine.home, PAGE, run="overfit")
    layout = charts(at)["Training and validation loss"]["layout"]
    labels = [annotation["text"] for annotation in layout["annotations"]]
    assert "overfits" in labels
    assert any(text.startswith("Base model 2.457") for text in labels)
    assert any(text.endswith("at step 60") for text in labels)
    card = next(metric for metric in at.metric if metric.label == "Overfitting")
    assert (card.value, card.delta[:20]) == ("Memorizes", "overfitting, signifi")


def test_values_that_are_not_finite_are_marked(engine: StillEngine, open_page: Open) -> None:
    figure = charts(open_page(engine.home, PAGE, run="learned"))["Gradient norm, before clipping"]
    mark = next(trace for trace in figure["data"] if trace["name"] == "Not a finite number")
    assert mark["x"] == [30]


def test_advice_leads_to_a_launch_with_the_change(engine: StillEngine, open_page: Open) -> None:
    at = open_page(engine.home, PAGE, run="worse")
    assert "Try a third of the learning rate" in everything_said(at)
    at.button(key="advice-0").click().run()
    assert not at.exception
    assert at.query_params["from"] == "worse"
    assert json.loads(at.query_params["change"]) == {"learning_rate": 0.0033}
    at = open_page(engine.home, PAGE, run="worse")
    engine.made = "learned"
    at.button(key="advice-0-launch").click().run()
    assert engine.sent[-1][0] == "launch"
    assert engine.sent[-1][1]["learning_rate"] == 0.0033
    assert engine.sent[-1][1]["parent"] == "worse"
    assert at.query_params["run"] == "learned"


def test_hidden_tabs_are_not_drawn_until_they_are_opened(engine: StillEngine, open_page: Open) -> None:
    at = open_page(engine.home, PAGE, run="learned")
    assert "json.dumps" not in everything_said(at)
    on_tab(at, "samples")
    page_text = everything_said(at)
    assert "What does <b>json.dumps</b> do, *please*? (3)" in [text.value for text in at.text]
    assert "in **6 of 10** (95% interval 31% to 83%), the base model in 0" in page_text
    on_tab(at, "log")
    assert at.code[0].value.endswith("step 29999\n") or at.code[0].value.endswith("step 29999")
    assert "The last 64.0 KiB of 311 KiB." in everything_said(at)
    on_tab(at, "config")
    assert "learning_rate: 0.0002" in at.code[0].value
    assert not at.exception


def test_a_run_that_ran_code_of_its_model_is_still_shown(engine: StillEngine, open_page: Open) -> None:
    with engine.database.transaction() as tx:
        config = runs.get_run(tx, "learned").config
        runs.update(tx, "learned", config=config | {"trust_remote_code": True})
    try:
        at = open_page(engine.home, PAGE, run="learned")
        on_tab(at, "config")
        assert "learning_rate: 0.0002" in at.code[0].value
        assert "trust_remote_code" not in at.code[0].value  # what is downloaded can be launched
        on_tab(at, "between")
        assert "can't be interpolated" not in everything_said(at)
    finally:
        with engine.database.transaction() as tx:
            runs.update(tx, "learned", config=config)


def test_a_live_run_shows_progress_and_can_be_cancelled(engine: StillEngine, open_page: Open) -> None:
    at = open_page(engine.home, PAGE, run="live")
    progress = at.get("progress")[0].proto
    assert progress.value == 33
    assert "40 of 120 steps, 2 min left" in progress.text
    values = {metric.label: metric.value for metric in at.metric}
    assert values["Best validation loss, step 36"] == "1.937"
    at.button(key="run-cancel").click().run()
    assert engine.sent == [("cancel", {"job": "live"})]


def test_a_live_run_asks_for_new_points_alone(engine: StillEngine, open_page: Open) -> None:
    at = open_page(engine.home, PAGE, run="live")
    kept = at.session_state["live-curves"]["live", "train/loss"]
    assert kept.num_rows == 40
    point = [["live"], ["train/loss"], [41], [1.5], [utc_now()], [0]]
    columns = [pa.array(c, f.type) for c, f in zip(point, POINTS, strict=True)]
    with engine.database.transaction() as tx:
        metric_points.add(tx, pa.table(columns, POINTS))
    st.cache_data.clear()
    at.run()
    fresh = at.session_state["live-curves"]["live", "train/loss"]
    assert fresh["step"].to_pylist() == list(range(1, 42))
    assert fresh.column("value").num_chunks > kept.column("value").num_chunks  # appended, not asked anew


def test_a_failed_run_says_why_and_what_to_do(engine: StillEngine, open_page: Open) -> None:
    at = open_page(engine.home, PAGE, run="failed")
    assert "The device ran out of memory." in at.error[0].value
    assert r"Halve per\_device\_train\_batch\_size" in at.error[0].value
    assert "MemoryError" in at.code[0].value
    at.button(key="run-resume").click().run()
    assert engine.sent == [("resume", {"job": "failed"})]


def test_a_run_that_ran_out_of_memory_is_launched_changed_by_one_click(
    engine: StillEngine, open_page: Open
) -> None:
    at = open_page(engine.home, PAGE, run="failed")
    button = at.button(key="run-launch-changed")
    assert "per_device_train_batch_size 4, gradient_accumulation_steps 4" in button.label
    primary = [each.key for each in at.button if each.proto.type == "primary"]
    assert primary == ["run-launch-changed"]  # one likely step
    assert (
        open_page(
            engine.home,
            "pages/training/launch.py",
            **{"from": "failed", "change": json.dumps({"per_device_train_batch_size": 4})},
        ).session_state["launch.per_device_train_batch_size"]
        == "4"
    )


@pytest.mark.parametrize(
    ("run", "words"),
    [
        ("queued", "Waiting for Sums (queued)."),
        ("next", "The device is in use by On its way. 1 run is ahead of it."),
        ("lost", "**Resume** continues from there"),
        ("cancelled", "Cancelled."),
    ],
)
def test_what_holds_a_run_up(engine: StillEngine, open_page: Open, run: str, words: str) -> None:
    at = open_page(engine.home, PAGE, run=run)
    assert words in everything_said(at)


def test_deleting_asks_first(engine: StillEngine, open_page: Open) -> None:
    at = open_page(engine.home, PAGE, run="cancelled")
    at.button(key="run-delete").click().run()
    assert engine.sent == []
    at.button(key="run-delete-sure").click().run()
    assert engine.sent == [("delete", {"job": "cancelled"})]


def test_a_run_that_is_not_there_and_none_at_all(engine: StillEngine, open_page: Open) -> None:
    at = open_page(engine.home, PAGE, run="nothing")
    assert "There is no run" in at.error[0].value
    at = open_page(engine.home, PAGE)
    assert at.title[0].value == "Runs"
    (component,) = at.get("bidi_component")
    asked = json.loads(component.proto.json)
    assert sum(asked["counts"].values()) == 10
    assert asked["alive"]
    assert asked["mayEdit"]
    columns = {column["name"]: column for column in asked["columns"]}
    assert set(asked["defaults"]) <= set(columns)
    assert columns["figures.gain"]["kind"] == "estimate"
    assert columns["config.learning_rate"]["kind"] == "number"
    assert columns["metrics.eval/loss.min"]["group"] == "Metric"
    assert asked["values"]["status"]["finished"]["title"] == "Finished"
    assert at.button(key="runs-new").label == "New run"


def test_from_a_run_a_button_leads_to_all_runs(engine: StillEngine, open_page: Open) -> None:
    at = open_page(engine.home, PAGE, run="learned", tab="log")
    at.button(key="runs-back").click().run()
    assert at.title[0].value == "Runs"
    assert not at.query_params


def test_a_store_without_runs_shows_the_way_to_the_first(tmp_path: Any, open_page: Open) -> None:
    with still_engine(Home(tmp_path / "empty").create()) as empty:
        assert "No runs yet" in everything_said(open_page(empty.home, PAGE))


def test_without_an_engine_the_page_says_so(offline_home: Home, open_page: Open) -> None:
    at = open_page(offline_home, PAGE, run="learned")
    assert "This part needs the engine" in everything_said(at)


def test_a_request_that_fails_alone_brings_its_part_back(
    engine: StillEngine, open_page: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = open_page(engine.home, PAGE, run="learned")
    st.cache_data.clear()
    st.cache_resource.clear()  # nor is anything left of what was last known
    answer, failures = Client.answer, [EngineUnavailable("The engine's answer broke off.")]

    def answer_in_vain_once(self: Client, *args: Any) -> Any:
        if failures:
            raise failures.pop()
        return answer(self, *args)

    monkeypatch.setattr(Client, "answer", answer_in_vain_once)
    assert "This part needs the engine" in everything_said(at.run())  # said before it is tried again

    st.cache_data.clear()
    st.cache_resource.clear()
    failures.append(EngineUnavailable("The engine's answer broke off."))
    monkeypatch.setattr(session, "RETRY_SECONDS", -1.0)  # as two seconds later
    assert "This part needs the engine" not in everything_said(at.run())
    assert not failures
