"""A run's page: its bundle on demand, and which figures of a bundle came back."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from engine.archives.reproduction import compare_figures
from store.archives.schemas import (
    BundleDifference,
    BundledRun,
    ComparisonLine,
    FieldDifference,
    LocalOriginal,
    OpenedBundle,
    OriginalComparison,
)
from store.evaluation.verdict_schemas import RunFigure
from store.jobs import job_queue
from store.runs import runs
from tests.pages.conftest import Open, everything_said
from tests.pages.seeds.seed_costs import seed_costs
from tests.pages.still_engine import StillEngine, still_engine
from tests.unit.store_samples import row_of

PAGE = "pages/runs/run.py"
RUN = "lora-0.003"


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[StillEngine]:
    with still_engine(seed_costs(tmp_path / "costs")) as engine:
        yield engine


def figure(value: float, key: str = "gain") -> RunFigure:
    title = "gain" if key == "gain" else "loss of the base model"
    low, high = value - 0.1, value + 0.1
    return RunFigure(key=key, title=title, unit="nats a token", value=value, low=low, high=high, n=200)


def test_a_bundle_is_asked_for(engine: StillEngine, open_page: Open) -> None:
    at = open_page(engine.home, PAGE, run=RUN)
    run_id = runs.get_run(engine.database, RUN).run_id
    at.checkbox(key=f"bundle-rows-{run_id}").uncheck()
    at.button(key="run-bundle").click().run()
    assert not at.exception
    assert ("bundle", {"run": run_id, "with_rows": False}) in engine.sent


def test_what_came_back_stands_on_the_page(engine: StillEngine, open_page: Open) -> None:
    run = runs.get_run(engine.database, RUN)
    differences = [BundleDifference(what="torch", first="2.11", here="2.13")]
    first, second = ([figure(gain), figure(2.0, "loss")] for gain in (0.5, 0.9))
    result = compare_figures("first.zip", first, second, {}, differences)
    with engine.database.transaction() as tx:
        job_queue.insert(
            tx, job_queue.NewJob("job-compared", "reproduction", "Beside its bundle", {}, time.time())
        )
        job_queue.update(tx, "job-compared", status="finished", result=result)
        source = {"bundle": "first.zip", "sha256": "0", "run_id": "run-far", "run_name": "First *one*"}
        source |= {"opened_by": "job-opened", "compared_by": "job-compared"}
        runs.update(tx, run.run_id, facts={**run.facts, "reproduces": source})
    at = open_page(engine.home, PAGE, run=RUN)
    text = everything_said(at)
    assert "first.zip" in text
    assert "run-far" in text
    assert at.expander[0].label == "Of 2 metrics: 1 identical, 1 outside the margin."
    assert (
        "| Gain, nats a token | 0.50 (0.40 to 0.60, n 200) | 0.90 (0.80 to 1.00, n 200) | **outside** |"
        in text
    )
    assert "Difference: torch was 2.11, here 2.13." in text


def test_a_bundle_that_is_not_its_run_and_what_differs_stand_on_the_page(
    engine: StillEngine, open_page: Open
) -> None:
    run = runs.get_run(engine.database, RUN)
    line = ComparisonLine(what="Setting r", first="8", second="4 | *x*", same=False, detail="")
    beside = OriginalComparison(
        run_id="run-first", name="First", sentence="It differs: Setting r.", lines=[line]
    )
    result = compare_figures("forged.zip", [figure(0.5)], [figure(0.5)], {}, [])
    original = LocalOriginal(
        run_id="run-first", name="First", written_here=False, more=0,
        differences=[FieldDifference(field="config.r", bundle="4", here="8")],
    )  # fmt: skip
    opened = row_of(
        OpenedBundle, seal="K7QF-2M9D-0RXA-T41C", original=original, run=row_of(BundledRun, name="First")
    )
    with engine.database.transaction() as tx:
        for job_id, kind, kept in (
            ("job-opened", "open_bundle", opened),
            ("job-compared", "reproduction", replace(result, beside=beside)),
        ):
            job_queue.insert(tx, job_queue.NewJob(job_id, kind, kind, {}, time.time()))
            job_queue.update(tx, job_id, status="finished", result=kept)
        source = {"bundle": "forged.zip", "sha256": "0", "run_id": "run-first", "run_name": "First"}
        source |= {"opened_by": "job-opened", "compared_by": "job-compared"}
        runs.update(tx, run.run_id, facts={**run.facts, "reproduces": source})
    at = open_page(engine.home, PAGE, run=RUN)
    assert "does not match the run First of this home folder" in at.error[0].value
    assert at.dataframe[0].value.to_dict("records") == [
        {"Field": "config.r", "Bundle": "4", "This home folder": "8"}
    ]
    assert "K7QF-2M9D-0RXA-T41C" in everything_said(at)
    assert at.expander[1].label == r"It differs\: Setting r."
    row = r"| Setting r | 8 | 4 \| \*x\* | differs | – |"
    assert any(row in markdown.value for markdown in at.markdown)
