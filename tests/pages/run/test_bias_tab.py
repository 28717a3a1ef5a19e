"""The tab Bias of a run: what got worse first, the way to a check where there is none, its line above."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.bias import rates
from engine.bias import verdict as diagnosis
from engine.bias.rates import JudgedContinuations
from pages.bias.charts import build_row, sort_figures
from store.bias import bias_checks
from store.bias.schemas import BiasResult, ChangedContinuation, ClassifierJudgement
from store.core.errors import DataError
from store.core.home import Home
from store.db.database import Database
from store.http.client import Client
from store.jobs import job_queue
from store.runs import runs
from tests.pages.conftest import Open, everything_said
from tests.pages.run.run_tabs import charts
from tests.pages.seeds.seed_costs import seed_costs
from tests.pages.still_engine import StillEngine, still_engine
from tests.unit.bias.checked import result

PAGE, RUN, TAB = "pages/runs/run.py", "lora-0.003", "bias"


def continued() -> BiasResult:
    """A check of continuations, one of which is hostile."""
    made = result()
    judged = JudgedContinuations(np.zeros((60, 2)), np.full((60, 2), 0.9), np.full(60, ""))
    report = diagnosis.build_report(rates.compute_toxicity_figures("Openings", judged), [])
    made.report = report
    made.details.continuations = ClassifierJudgement(
        classifier="My_judge",
        labels=["anger"],
        threshold=0.5,
        probe="Openings",
        samples=2,
        max_new_tokens=20,
        empty_base=1,
        empty_tuned=0,
        cut=0,
        errors=[],
        changed=[
            ChangedContinuation(
                opening="He said",
                group="gender",
                base="",
                tuned="<script>x</script> go away",
                base_probability=0.0,
                tuned_probability=0.9,
                base_mean=0.0,
                tuned_mean=0.85,
            )
        ],
    )
    return made


def checked(home: Home, worse: bool, made: BiasResult | None = None) -> None:
    database = Database(home.database, [home.datasets, home.jobs])
    try:
        with database.transaction() as tx:
            run_id = runs.get_run(tx, RUN).run_id
            config = {"run": run_id}
            job_queue.insert(tx, job_queue.NewJob("job-bias", "bias", "Bias", config, at=1_800_000_000.0))
            job_queue.update(tx, "job-bias", status="finished")
            job = job_queue.get_job(tx, "job-bias")
            bias_checks.insert(tx, job, made or result(worse), (RUN, "SmolLM2"), 1_800_000_000.0)
    finally:
        database.close()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return seed_costs(tmp_path / "home")


@pytest.fixture
def engine(home: Home) -> Iterator[StillEngine]:
    with still_engine(home) as engine:
        yield engine


def test_where_nothing_was_checked_the_tab_leads_to_a_check(engine: StillEngine, open_page: Open) -> None:
    at = open_page(engine.home, PAGE, run=RUN, tab=TAB)
    assert "No bias checks yet" in everything_said(at)
    assert "Takes about" in everything_said(at)
    assert at.button(key="bias-check").label == "Check for bias"


def test_what_got_worse_stands_first_and_under_the_verdict(home: Home, open_page: Open) -> None:
    checked(home, worse=True)
    with still_engine(home) as engine:
        at = open_page(engine.home, PAGE, run=RUN, tab=TAB)
        page_text = everything_said(at)
        assert page_text.count("made 1 bias metric significantly worse") == 2
        table = at.dataframe[0].value
        assert table["Result"].tolist()[0] == "Worse"
        assert table["Metric"].tolist()[0] == "Responses that flip with the person"
        assert "points" in table["Change"].tolist()[0]
        assert "base 1.1 times, tuned 3.3 times" in page_text
        assert "2 rows excluded: it is too long" in page_text
        assert "These are made." in page_text
        assert len(charts(at)) >= 1


def test_continuations_stand_closed_with_whose_judgement_they_are(home: Home, open_page: Open) -> None:
    checked(home, worse=True, made=continued())
    with still_engine(home) as engine:
        at = open_page(engine.home, PAGE, run=RUN, tab=TAB)
        page_text = everything_said(at)
        assert "judge with a probability of 0.5 or more" in page_text
        assert "judge unknown" in page_text
        assert "<script>x" not in page_text
        assert "&lt;script&gt;x" in page_text
        (changed,) = [part for part in at.expander if part.label.startswith("Largest changes: 1 prompt")]
        assert not changed.proto.expanded
        assert at.dataframe[0].value["Metric"].tolist()[0].startswith("Harmful continuations")


def test_the_form_asks_which_labels_are_harmful(engine: StillEngine, open_page: Open) -> None:
    at = open_page(engine.home, PAGE, run=RUN, tab=TAB)
    at.selectbox(key="bias-openings-classifier").set_value("").run()
    at.button(key="bias-check-continuations").click().run()
    assert "Folder or hub id: this field is required" in everything_said(at)
    assert "Harmful labels: this field is required" in everything_said(at)
    at.text_input(key="bias-openings-classifier-name").set_value("/models/judge").run()
    at.multiselect(key="bias-labels-/models/judge").set_value(["toxic"]).run()
    at.button(key="bias-check-continuations").click().run()
    ((name, body),) = engine.sent
    assert (name, body["continuations"]["classifier"]) == ("check_bias", "/models/judge")
    assert body["continuations"]["labels"] == ["toxic"]


def test_no_check_starts_without_the_prompts_that_could_not_be_copied(
    engine: StillEngine, open_page: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(client: Client, name: str, file: object) -> str:
        raise DataError("The disk is full.")

    monkeypatch.setattr(Client, "upload", fail)
    at = open_page(engine.home, PAGE, run=RUN, tab=TAB)
    at.selectbox(key="bias-openings-classifier").set_value("").run()
    at.text_input(key="bias-openings-classifier-name").set_value("/models/judge").run()
    at.multiselect(key="bias-labels-/models/judge").set_value(["toxic"]).run()
    prompts = ("own.jsonl", b'{"prompt": "He said"}\n', "application/jsonl")
    at.file_uploader(key="bias-openings").set_value(prompts).run()
    at.button(key="bias-check-continuations").click().run()
    assert "The disk is full." in everything_said(at)
    assert not engine.sent


def test_a_group_is_written_as_its_user_wrote_it() -> None:
    figure = replace(result(worse=True).report.figures[0], group="UK teams")
    assert build_row(figure)["Metric"] == "Responses that flip with the person (UK teams)"


def test_a_chart_has_what_got_worse_first_and_the_whole_before_its_groups() -> None:
    rng = np.random.default_rng(0)
    base, tuned = rng.random((40, 2)) * 0.4, rng.random((40, 2)) * 0.4
    groups = np.repeat(["age", "work"], 20)
    tuned[groups == "work"] = 0.9
    report = diagnosis.build_report(
        rates.compute_toxicity_figures("Openings", JudgedContinuations(base, tuned, groups)), []
    )
    anyhow = sorted(report.figures, key=lambda figure: (figure.answer == "worse", not figure.group))
    order = [(figure.answer == "worse", figure.group) for figure in sort_figures(anyhow)]
    assert order == [*[(True, "")] * 3, (True, "work"), (False, "age")]
