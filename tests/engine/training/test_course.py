"""What is watched while a run of two layers trains: the task's metric, answers, and what became sure."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from engine.evaluation.probes import suite_probes, suite_texts
from engine.evaluation.probes.base_samples import SamplePlan
from engine.evaluation.probes.probe_sets import select_evenly
from engine.evaluation.verdicts import live_alarms
from engine.training import train_job, validation
from store.core.home import Home
from tests.engine.job_events import QUICK, events, facts, series
from tests.tiny import conversations, make_job, write_model, write_rows

PROBED = QUICK | {"probes": True, "probe_share": 1.0, "evaluations": 4, "sample_prompts": 0}
OWN = "def score(prediction, reference):\n    return float(prediction[:1] == reference[:1])\n"


@pytest.fixture(autouse=True)
def small_suite(monkeypatch: pytest.MonkeyPatch) -> None:
    """In seconds, and paid for whatever the clock says."""
    whole = suite_texts.load_suite()
    passages = tuple(whole.passages[i] for i in select_evenly(len(whole.passages), 6))
    items = tuple(whole.items[i] for i in select_evenly(len(whole.items), 16))
    monkeypatch.setattr(
        suite_texts, "load_suite", lambda: suite_texts.Suite(items, passages, whole.fingerprint)
    )
    monkeypatch.setattr(suite_probes, "LIGHT_COUNTS", {"prose": 6, "choices": 8})
    monkeypatch.setattr(suite_probes, "SamplePlan", partial(SamplePlan, count=4, length=4))
    monkeypatch.setattr(validation.TimeBudget, "allows", lambda *_: True)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home").create()
    write_model(home.models / "tiny")
    write_rows(home, "rows", conversations(60))
    return home


def warned(job: Any) -> dict[str, int]:
    """Kind -> step of the verdicts that were raised, each once."""
    alerts = [(e["kind"], e["step"]) for e in events(job, "alert") if e.get("kind")]
    assert len(alerts) == len(dict(alerts))
    return dict(alerts)


def test_forgetting_is_warned_of_once_with_its_step(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_alarms.THRESHOLDS.nats, "amber", 1e-3)  # two layers don't have much to forget
    fields = {"learning_rate": 5e-2, "num_train_epochs": 6, "evaluations": 6, "early_stopping": False}
    job = make_job(home, "run", **(PROBED | fields))
    train_job.run(job)
    step_of = warned(job)
    steps = [step for step, _ in series(job, "probe/prose/loss")]
    assert steps[0] == 0
    assert step_of["forgetting_amber"] in steps[1:]
    assert "stopped" not in step_of


def test_a_run_that_was_stopped_for_it_says_so(home: Home) -> None:
    fields = {"learning_rate": 5e-2, "num_train_epochs": 6, "evaluations": 6, "max_forgetting": 0.05}
    job = make_job(home, "run", early_stopping=False, **(PROBED | fields))
    verdict = train_job.run(job)["verdict"]
    assert warned(job)["stopped"] == verdict.stopped.step


@pytest.mark.parametrize("method", ["lora", "full"])
def test_general_probes_are_held_against_the_base_in_reach(home: Home, method: str) -> None:
    job = make_job(home, "run", method=method, **PROBED)
    train_job.run(job)
    live = pq.read_table(job.dir.live_probes)
    measured = set(live.filter(pc.equal(live["probe"], "prose"))["step"].to_pylist())
    assert (0 in measured) == (method == "lora")  # full: its base is gone with the first step
    if method == "lora":
        base = pq.read_table(job.dir.probes)
        whole = {
            row["item"]: row["loss_sum"]
            for row in base.to_pylist()
            if row["model"] == "base" and row["probe"] == "prose"
        }
        first = [r for r in live.to_pylist() if r["step"] == 0 and r["probe"] == "prose"]
        assert len(first) == 6
        for row in first:
            assert row["loss_sum"] == pytest.approx(whole[row["item"]], rel=1e-5)
    assert facts(job)["probe_seconds"] > 0


def test_answers_are_scored_by_the_users_own_metric(home: Home) -> None:
    home.metrics.mkdir(exist_ok=True)
    (home.metrics / "first.py").write_text(OWN)
    job = make_job(home, "run", live_metric="own/first", **PROBED)
    train_job.run(job)
    curve = series(job, "eval/first")
    assert len(curve) == 4
    rows = pq.read_table(job.dir.live_answers).to_pylist()
    assert {row["step"] for row in rows} == {step for step, _ in curve}
    for row in rows:
        assert row["score"] == float(row["prediction"][:1] == row["reference"][:1])
    assert facts(job)["live_metric"]["words"] == "first"


def test_a_metric_with_an_error_ends_nothing(home: Home) -> None:
    home.metrics.mkdir(exist_ok=True)
    (home.metrics / "broken.py").write_text("def score(prediction:\n")
    job = make_job(home, "run", live_metric="own/broken", **PROBED)
    assert train_job.run(job)["verdict"].state
    messages = [e["message"] for e in events(job, "alert") if "live_metric" in e["message"]]
    assert len(messages) == 1
    assert "is not valid Python: line 1" in messages[0]
    assert not series(job, "eval/broken")


def test_label_accuracy_is_the_share_of_answers_that_greedy_words_would_give(home: Home) -> None:
    rows = conversations(60)
    for i, row in enumerate(rows):
        row[-1]["content"] = "odd" if i % 2 else "even"
    write_rows(home, "rows", rows, labels=["odd" if i % 2 else "even" for i in range(60)])
    fields = {"method": "full", "learning_rate": 1e-2, "num_train_epochs": 12, "early_stopping": False}
    fields["gradient_accumulation_steps"] = 1
    job = make_job(home, "run", **(QUICK | fields))
    verdict = train_job.run(job)["verdict"]
    assert facts(job)["task_metric"] == "label"
    accuracies = dict(series(job, "eval/label_accuracy"))
    kept = pq.read_table(job.dir.validations).to_pylist()
    for step, share in accuracies.items():
        right = [row["correct"] == row["tokens"] for row in kept if row["step"] == step]
        assert share == pytest.approx(sum(right) / len(right))
    assert max(accuracies.values()) > 0.3 > accuracies[0]
    assert verdict.overfitting
