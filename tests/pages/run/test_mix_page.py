"""Between a run and its base: what was scored, what can be asked for, and a share that is kept."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from store.core.figure_schemas import Estimate
from store.core.home import Home
from store.evaluation.forgetting_schemas import ChoiceForgetting, TextForgetting
from store.jobs import job_queue
from store.runs import runs
from tests.pages.conftest import Open, everything_said
from tests.pages.run.run_tabs import on_forgetting, on_overfitting, view_titles
from tests.pages.seeds.seed_costs import seed_costs
from tests.pages.still_engine import StillEngine, still_engine
from tests.unit.store_samples import row_of

PAGE = "pages/runs/run.py"
TAB = "between"
RUN = "lora-0.003"


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[StillEngine]:
    with still_engine(seed_costs(tmp_path / "costs")) as engine:
        yield engine


def plot(at: AppTest) -> dict[str, Any]:
    figure = next(json.loads(c.proto.spec) for c in at.get("plotly_chart") if "mix-chart" in c.proto.id)
    return {trace["name"]: trace for trace in figure["data"] if "name" in trace}


def test_what_was_scored_stands_on_both_axes(engine: StillEngine, open_page: Open) -> None:
    at = open_page(engine.home, PAGE, tab=TAB, run=RUN)
    assert at.header[0].value == "Interpolation"
    assert "α 0.8 keeps 100% of the best gain" in at.subheader[-1].value  # the least with nine tenths of it
    shares = plot(at)["Shares"]
    assert shares["text"] == ["α 0.2", "α 0.4", "α 0.8", "α 1"]
    assert shares["x"] == [0.03, 0.09, 0.3, 0.5]
    assert "n 200" in shares["hovertext"][0]
    assert "n 120" in shares["hovertext"][0]
    assert at.slider(key="alpha").value == 0.8
    page_text = everything_said(at)
    assert "Gain +0.740 (0.730 to 0.750) nats a token on 200 rows" in page_text
    assert "120 passages" in page_text
    assert set(shares["textposition"][:-1]) == {"bottom right"}
    assert shares["textposition"][-1] == "bottom left"  # at the right edge it would be cut
    table = at.dataframe[0].value
    assert not [name for name in table.columns if "Questions" in name or "KL" in name]  # none was measured
    assert table["α"].tolist() == ["0.2", "0.4", "0.8", "1"]
    assert set(table["n (rows)"]) == {200}


def test_a_data_set_that_is_a_probe_is_an_axis_of_its_own(engine: StillEngine, open_page: Open) -> None:
    notes = row_of(
        TextForgetting, probe="data/Notes", unit="nats", state="some", n=30, broken=0,
        change=Estimate(value=0.25, low=0.2, high=0.3, n=30),
    )  # fmt: skip
    with engine.database.transaction() as tx:
        for job in [job for job in job_queue.recent_jobs(tx, limit=50) if job.kind == "interpolate"]:
            for point in job.result["points"]:
                fall = -point["alpha"] / 5
                intents = row_of(
                    ChoiceForgetting, probe="data/Intents", state="some", n=90, broken=0, categories=[],
                    change=Estimate(value=fall, low=fall - 0.01, high=fall + 0.02, n=90),
                )  # fmt: skip
                point["named"] = [intents, notes]
            job_queue.update(tx, job.job_id, result=job.result)
    at = open_page(engine.home, PAGE, tab=TAB, run=RUN, alpha="0.4")
    at.segmented_control(key="forgetting").set_value("data/Intents/accuracy").run()
    assert not at.exception
    shares = plot(at)["Shares"]
    assert shares["x"] == pytest.approx([4.0, 8.0, 16.0, 20.0])  # points, more being worse
    assert "n 90" in shares["hovertext"][0]
    assert "Intents +8.0 (6.0 to 9.0) points, 90 rows." in everything_said(at)
    table = at.dataframe[0].value
    assert table["n (rows of Intents)"].tolist() == [90] * 4
    assert table["Notes ↓ (nats a token)"].tolist() == ["+0.25 (0.20 to 0.30)"] * 4


def test_a_share_is_kept_by_one_click(engine: StillEngine, open_page: Open) -> None:
    at = open_page(engine.home, PAGE, tab=TAB, run=RUN, alpha="0.4")
    engine.made = RUN
    at.button(key="mix-keep").click().run()
    assert engine.sent == [("keep_variant", {"run": RUN, "alpha": 0.4})]
    assert at.query_params["run"] == RUN
    assert not at.exception


def test_a_kept_share_is_a_link(engine: StillEngine, open_page: Open) -> None:
    with engine.database.transaction() as tx:
        runs.update(tx, "replayed", facts={"mixed_from": RUN, "alpha": 0.4})
    at = open_page(engine.home, PAGE, tab=TAB, run=RUN, alpha="0.4")
    assert "Saved as a run:" in everything_said(at)
    assert not [button for button in at.button if button.key == "mix-keep"]
    assert plot(at)["Shares"]["marker"]["symbol"] == ["diamond-open", "diamond", "diamond-open", "circle"]
    assert "With replay" in at.dataframe[0].value["Saved as"].tolist()[1]
    at = open_page(engine.home, PAGE, tab=TAB, run="replayed")
    assert "It is a mix already" in everything_said(at)
    at.button(key="mix-parent").click().run()
    assert at.query_params["run"] == RUN


def test_more_shares_are_asked_for(engine: StillEngine, open_page: Open) -> None:
    at = open_page(engine.home, PAGE, tab=TAB, run=RUN, alpha="0.35")
    page_text = everything_said(at)
    assert "Not scored yet. Between α 0.2 and α 0.4." in page_text
    assert "52 to 60 s for 1 share, as 3 shares of this run took before." in page_text
    at.button(key="mix-score-one").click().run()
    at.button(key="mix-score").click().run()
    assert engine.sent == [
        ("interpolate", {"run": RUN, "alphas": [0.35]}),
        ("interpolate", {"run": RUN, "alphas": [0.6]}),  # of the usual ones it is left
    ]


def test_a_scoring_under_way_and_one_that_failed(engine: StillEngine, open_page: Open) -> None:
    with engine.database.transaction() as tx:
        at = 4e9  # after those that have a result
        config = {"run_id": RUN, "alphas": [0.6]}
        job_queue.insert(
            tx,
            job_queue.NewJob(job_id="j", kind="interpolate", title="Between", config=config, at=at),
        )
        job_queue.update(tx, "j", status="evaluating", progress_done=4, progress_total=10, eta_seconds=90.0)
    page = open_page(engine.home, PAGE, tab=TAB, run=RUN)
    assert "2 min left" in everything_said(page)
    assert page.button(key="mix-score").disabled
    with engine.database.transaction() as tx:
        error = {"message": "The folder is gone.", "fix": "Choose another run."}
        job_queue.update(tx, "j", status="failed", error=error)
    page = open_page(engine.home, PAGE, tab=TAB, run=RUN)
    assert "The folder is gone." in everything_said(page)
    assert not page.button(key="mix-score").disabled


def test_before_anything_was_scored_both_ends_are_there(engine: StillEngine, open_page: Open) -> None:
    at = open_page(engine.home, PAGE, tab=TAB, run="lora-0.001")
    assert plot(at)["Shares"]["text"] == ["α 1"]
    assert "is the share of the weight change" in everything_said(at)
    assert at.multiselect[0].value == [0.2, 0.4, 0.6, 0.8]


@pytest.mark.parametrize(
    ("run", "reason"), [("pairs", "A run of instruction tuning is needed"), ("more", "It continued from")]
)
def test_why_a_run_has_no_mixes(engine: StillEngine, open_page: Open, run: str, reason: str) -> None:
    at = open_page(engine.home, PAGE, tab=TAB, run=run)
    assert reason in everything_said(at)
    assert not at.slider
    assert "Interpolation" not in view_titles(open_page(engine.home, PAGE, run=run, tab="forgetting"))


def test_a_run_that_trains_has_the_tab_and_says_why_it_is_empty(engine: StillEngine, open_page: Open) -> None:
    with engine.database.transaction() as tx:
        job_queue.update(tx, "lora-0.001", status="training", ended_at=None)
    at = open_page(engine.home, PAGE, run="lora-0.001", tab="forgetting")
    assert "Interpolation" in view_titles(at)
    at = open_page(engine.home, PAGE, tab=TAB, run="lora-0.001")
    assert "Only a finished run can be interpolated with its base model." in everything_said(at)
    with engine.database.transaction() as tx:
        job_queue.update(tx, "lora-0.001", status="failed")
    assert "Interpolation" not in view_titles(on_forgetting(open_page(engine.home, PAGE, run="lora-0.001")))


def test_without_a_run_one_is_chosen(engine: StillEngine, open_page: Open, tmp_path: Path) -> None:
    at = open_page(engine.home, PAGE, tab=TAB)  # the run that was scored last stands there already
    assert plot(at)["Shares"]["text"] == ["α 0.2", "α 0.4", "α 0.8", "α 1"]
    assert "lora at 0.003" in at.title[0].value
    at = open_page(engine.home, PAGE, tab=TAB, run="nobody")
    assert "There is no run" in everything_said(at)
    assert "shares scored" in everything_said(at)
    with engine.database.transaction() as tx:
        tx.execute("UPDATE job SET status = 'cancelled' WHERE kind = 'interpolate'")
    at = open_page(engine.home, PAGE, tab=TAB)
    assert "Select a run to find the best share." in everything_said(at)
    assert {link.proto.query_string for link in at.get("page_link")} >= {f"run={RUN}&tab={TAB}"}
    with still_engine(Home(tmp_path / "empty").create()) as empty:
        at = open_page(empty.home, PAGE, tab=TAB)
        assert "No finished run yet" in everything_said(at)
        at.button(key="mix-launch").click().run()
        assert not at.exception


def test_the_page_of_a_kept_share_speaks_of_no_training(engine: StillEngine, open_page: Open) -> None:
    verdict = runs.get_run(engine.database, "replayed").verdict
    sentence = (
        "Interpolation at α 0.4 between the base model (0) and “lora at 0.003” (1). Nothing was trained."
    )
    verdict = replace(verdict, overfitting=None, advice=[], sentences=[sentence])
    with engine.database.transaction() as tx:
        runs.update(tx, "replayed", facts={"mixed_from": RUN, "alpha": 0.4}, verdict=verdict)
    at = open_page(engine.home, PAGE, run="replayed")
    page_text = everything_said(at)
    assert sentence in page_text
    assert "Interpolated from" in page_text
    assert "at α 0.4" in page_text
    assert "Next steps" not in page_text
    assert "Overfitting" not in [metric.label for metric in at.metric]
    assert "this model was interpolated between another run and its base" in everything_said(
        on_overfitting(at)
    )
    at = open_page(engine.home, "pages/comparison/compare.py", tab="cost", run="replayed")
    assert "LoRA, interpolated at α 0.4." in everything_said(at)
