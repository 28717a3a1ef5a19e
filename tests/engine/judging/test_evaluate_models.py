"""Which model is evaluated: what a run left, was on its way to or began with, and one with a head."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from engine.evaluation import evaluate_job
from engine.models import training_state
from engine.training import train_job
from engine.worker.job import JobCancelled
from store.core.errors import ModelError, StateError
from store.core.home import Home
from store.core.job_folder import write_json
from tests.engine.evaluating import (
    METRICS,
    evaluation,
    figure,
    home_with_rows,
    measured,
    trained,
    trained_head,
)
from tests.engine.job_events import QUICK, cancel_when, events
from tests.tiny import conversations, make_job, write_encoder, write_rows

CLASSES = ["accuracy", "f1_macro", "ece", "brier"]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return home_with_rows(tmp_path)


def test_a_run_is_evaluated_on_the_rows_that_it_held_out(home: Home) -> None:
    run = trained(home)
    held = pq.read_table(run.dir.row_losses).to_pylist()
    losses = {}
    for checkpoint_name, column in (("tuned", "tuned_loss"), ("base", "base_loss")):
        job, result, rows = measured(home, checkpoint_name, run="run", checkpoint=checkpoint_name)
        assert [row["row_id"] for row in rows] == sorted(row["row_id"] for row in held)
        own = {row["row_id"]: row for row in held}
        for row in rows:
            assert row["loss_sum"] == pytest.approx(own[row["row_id"]][column], abs=1e-4)
            assert row["tokens"] == own[row["row_id"]]["tokens"]
            assert row["prompt"].startswith("Number ")
            assert row["bytes"] == len(row["reference"].encode())
        perplexity = figure(result, "perplexity")
        assert perplexity.n == len(rows)
        losses[checkpoint_name] = np.log(perplexity.value)
        total = sum(row["loss_sum"] for row in rows) / sum(row["tokens"] for row in rows)
        assert losses[checkpoint_name] == pytest.approx(total)
        assert [e["status"] for e in events(job, "status")] == ["preparing", "evaluating"]
        assert set(pq.read_table(job.dir.scores)["metric"].to_pylist()) == {f"eval/{m}" for m in METRICS}
        assert not list(job.dir.path.glob(".*"))
    assert losses["tuned"] < losses["base"]


@pytest.mark.parametrize(
    "method",
    [
        {"method": "full"},
        {"method": "prompt_tuning", "num_virtual_tokens": 3},
        {"method": "prefix_tuning", "num_virtual_tokens": 3},
        {"method": "qlora", "r": 4},
        {"method": "ia3", "load_in_8bit": True},
        {"method": "lora", "r": 4, "init_lora_weights": "pissa"},
        {"method": "adalora", "r": 4},
    ],
    ids=lambda fields: fields["method"],
)
def test_every_kind_of_method_gives_the_losses_and_answers_of_its_run(
    home: Home, method: dict[str, Any]
) -> None:
    run = trained(home, **method)
    own = {row["row_id"]: row["tuned_loss"] for row in pq.read_table(run.dir.row_losses).to_pylist()}
    _, _, rows = measured(home, "tuned", run="run")
    assert {row["row_id"]: row["loss_sum"] for row in rows} == pytest.approx(own, abs=2e-3)
    answered = {row["row_id"]: row["tuned"] for row in pq.read_table(run.dir.predictions).to_pylist()}
    predictions = {row["row_id"]: row["prediction"] for row in rows}
    assert {row_id: predictions[row_id] for row_id in answered} == answered


@pytest.mark.parametrize("method", [{}, {"method": "full"}, {"method": "qlora", "r": 4}], ids=str)
def test_a_run_is_loaded_in_the_precision_that_is_asked_for(home: Home, method: dict[str, Any]) -> None:
    trained(home, **method)
    losses = {}
    for name, fields in {
        "own": {},
        "half": {"dtype": "bfloat16"},
        "base": {"dtype": "bfloat16", "checkpoint": "base"},
    }.items():
        _, result, rows = measured(home, name, run="run", metrics=["perplexity"], **fields)
        assert result.dtype == ("bfloat16" if "dtype" in fields else "float32")
        losses[name] = [row["loss_sum"] for row in rows]
    assert losses["half"] != losses["own"]
    assert losses["half"] == pytest.approx(losses["own"], rel=0.05)


def test_a_stopped_run_has_its_newest_and_its_best_checkpoint(home: Home) -> None:
    job = make_job(home, "cut", **(QUICK | {"learning_rate": 1e-2, "probes": False}))
    cancel_when(job, lambda e: e.get("step") == 6 and "train/loss" in e.get("values", {}))
    with pytest.raises(JobCancelled):
        train_job.run(job)
    kept = training_state.load_newest_checkpoint(job.dir.checkpoints)
    assert kept is not None
    best = kept[1]["state"]["best_step"]
    assert best < kept[1]["state"]["step"] == 6
    before = sorted(path.name for path in job.dir.path.rglob("*"))
    events_before = job.dir.events.read_bytes()
    validated = pq.read_table(job.dir.validations).to_pylist()
    expected = {row["row_id"]: row["loss_sum"] for row in validated if row["step"] == best}
    _, _, rows = measured(home, "best", run="cut", checkpoint="best", part="validation")
    assert {row["row_id"]: row["loss_sum"] for row in rows} == pytest.approx(expected, abs=1e-4)
    _, _, newest = measured(home, "newest", run="cut", checkpoint="newest", part="validation")
    assert [row["loss_sum"] for row in newest] != [row["loss_sum"] for row in rows]
    assert sorted(path.name for path in job.dir.path.rglob("*")) == before  # the run is left as it was
    assert job.dir.events.read_bytes() == events_before
    with pytest.raises(StateError, match="has no saved model"):
        evaluate_job.run(evaluation(home, "tuned", run="cut"))


def test_a_finished_run_is_its_best_checkpoint_or_says_that_it_is_gone(home: Home) -> None:
    job = trained(home)
    checkpoint_folder = job.dir.checkpoints
    for path in sorted(checkpoint_folder.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    _, _, best = measured(home, "best", run="run", checkpoint="best")
    _, _, tuned = measured(home, "tuned", run="run")
    assert best == tuned
    document = json.loads(job.dir.result.read_text())
    document["result"]["verdict"]["stopped"] = {"step": 9, "restored_step": 3}
    write_json(job.dir.result, document)
    with pytest.raises(StateError, match="step 3 of 9"):
        evaluate_job.run(evaluation(home, "newest", run="run", checkpoint="newest"))


def test_a_head_says_classes_with_their_probabilities(home: Home) -> None:
    rows = conversations(60)
    write_rows(home, "labelled", rows, labels=[row[-1]["content"].split()[0] for row in rows])
    job = trained_head(home, "head")
    own = {r["row_id"]: r for r in pq.read_table(job.dir.class_predictions).to_pylist()}
    _, result, measured_rows = measured(home, "e", rows="labelled", run="head", metrics=CLASSES)
    assert [row["row_id"] for row in measured_rows] == sorted(own)
    for row in measured_rows:
        assert row["prediction"] == own[row["row_id"]]["predicted"]
        assert row["probability"] == pytest.approx(own[row["row_id"]]["probability"], abs=1e-4)
    verdict = json.loads(job.dir.result.read_text())["result"]["verdict"]["classification"]
    tuned = verdict["models"]["tuned"]
    assert figure(result, "accuracy").value == pytest.approx(tuned["accuracy"]["value"])
    assert figure(result, "brier").value == pytest.approx(tuned["calibration"]["brier"]["value"], abs=1e-4)
    assert not any(f.failed for f in result.figures)
    _, base, base_rows = measured(
        home, "b", rows="labelled", run="head", checkpoint="base", metrics=["accuracy"]
    )
    assert base.n == result.n
    assert base_rows[0]["prediction"] is not None


def test_a_row_without_a_text_is_counted_by_a_head(home: Home) -> None:
    rows = conversations(60)
    write_rows(home, "labelled", rows, labels=[row[-1]["content"].split()[0] for row in rows])
    trained_head(home, "head")
    odd = conversations(6)
    odd[2][0]["content"] = ""
    labels: list[str | None] = ["red", "green", "blue", None, "purple", "red"]
    write_rows(home, "odd", odd, labels=labels)
    _, result, measured_rows = measured(home, "e", rows="odd", run="head", part="all", metrics=CLASSES)
    assert (measured_rows[2]["prediction"], measured_rows[2]["probability"]) == (None, None)
    counts = result.counts
    assert (counts.no_prompt, counts.no_reference, counts.no_loss) == (1, 1, 3)
    assert figure(result, "accuracy").n == 4
    assert figure(result, "brier").unscored.reasons == {"the row has no label": 2}
    assert not any(f.failed for f in result.figures)
    assert "1 row with a label that is not in the training data: counted as wrong." in result.notices


def test_an_encoder_with_a_head_is_evaluated_and_without_one_refused(home: Home) -> None:
    rows = conversations(60)
    write_rows(home, "labelled", rows, labels=[row[-1]["content"].split()[0] for row in rows])
    write_encoder(home.models / "reader")
    job = trained_head(home, "head", model=str(home.models / "reader"))
    own = {r["row_id"]: r["predicted"] for r in pq.read_table(job.dir.class_predictions).to_pylist()}
    _, _, measured_rows = measured(home, "e", rows="labelled", run="head", metrics=["accuracy"])
    assert {row["row_id"]: row["prediction"] for row in measured_rows} == own
    with pytest.raises(ModelError, match="encoder"):
        evaluate_job.run(
            evaluation(home, "b", rows="labelled", run="head", checkpoint="base", metrics=["accuracy"])
        )
