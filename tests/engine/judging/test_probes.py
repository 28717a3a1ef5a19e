"""Probes on a two-layer model: what base and tuned model know, between steps and at the end of a run."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch

from engine.data.signals.text_checks import is_refusal
from engine.evaluation import weight_change
from engine.evaluation.probes import base_samples, suite_probes, suite_texts
from engine.evaluation.probes.base_samples import SamplePlan
from engine.evaluation.probes.probe_sets import TRAINED_ROWS, ProbeMeasurement, select_evenly
from engine.models.tuning_methods import make_trainable, use_base_model
from engine.training import train_job, validation
from engine.worker.job import JobCancelled
from store.core.home import Home
from store.evaluation.verdict_schemas import Verdict
from store.training.methods import METHODS
from store.training.train_config import TrainConfig
from tests.engine.job_events import QUICK, cancel_when, events, facts, series
from tests.shapes import held_to
from tests.tiny import (
    conversations,
    make_job,
    make_model,
    make_tokenizer,
    worse_answers,
    write_model,
    write_rows,
)

PROBED = QUICK | {"probes": True, "probe_share": 1.0, "evaluations": 4, "sample_prompts": 0}
NAMES = {"prose", "choices", "own_samples", "task_samples", "requests", TRAINED_ROWS}


@pytest.fixture(autouse=True)
def small_suite(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every category, in seconds; what the model itself writes is short too."""
    whole = suite_texts.load_suite()
    passages = tuple(whole.passages[i] for i in select_evenly(len(whole.passages), 6))
    items = tuple(whole.items[i] for i in select_evenly(len(whole.items), 24))
    monkeypatch.setattr(
        suite_texts, "load_suite", lambda: suite_texts.Suite(items, passages, whole.fingerprint)
    )
    monkeypatch.setattr(suite_probes, "LIGHT_COUNTS", {"prose": 6, "choices": 8})
    monkeypatch.setattr(suite_probes, "SamplePlan", partial(SamplePlan, count=8, length=8))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home").create()
    write_model(home.models / "tiny")
    write_rows(home, "rows", conversations(60))
    return home


def kept(job: Any, model: str, probe: str) -> Any:
    table = pq.read_table(job.dir.probes)
    return table.filter(pc.and_(pc.equal(table["model"], model), pc.equal(table["probe"], probe)))


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_run_says_what_it_forgot(home: Home, method: str) -> None:
    job = make_job(home, "run", method=method, **(PROBED | {"learning_rate": 3e-2}))
    verdict = held_to(Verdict, train_job.run(job)["verdict"])
    for name in NAMES:
        base, tuned = (kept(job, model, name) for model in ("base", "tuned"))
        assert base["item"].to_pylist() == tuned["item"].to_pylist()
        assert base.num_rows > 0
        if name != "requests":  # of which a random model refuses none
            assert base["loss_sum"].to_pylist() != tuned["loss_sum"].to_pylist()
    forgetting = verdict.forgetting
    (prose,) = forgetting.texts
    base, tuned = (kept(job, model, "prose") for model in ("base", "tuned"))
    rise = (pc.sum(tuned["loss_sum"]).as_py() - pc.sum(base["loss_sum"]).as_py()) / pc.sum(
        base["tokens"]
    ).as_py()
    assert prose.change.value == pytest.approx(rise)
    assert forgetting.choices[0].n == 24
    assert [part.prompts for part in forgetting.divergence] == ["general", "task"]
    for part in forgetting.divergence:
        assert part.kl.value > 0
        assert 0 <= part.first_choice.value < 1
    assert forgetting.requests.state == "silent"
    assert pq.read_table(job.dir.requests).num_rows == 56
    assert verdict.membership.members == len(kept(job, "base", TRAINED_ROWS))
    assert set(verdict.membership.scores) == {"loss", "calibrated", "min_k"}
    assert verdict.membership.path[-1].step == verdict.stopped.restored_step
    assert verdict.duplicates.leaks.rows == 0
    assert verdict.duplicates.training.sentence.startswith("Each of")
    assert verdict.overfitting.gap[0].step == 0
    assert verdict.weights.relative > 0
    assert pq.read_table(job.dir.weights).num_rows == verdict.weights.matrices
    asked = pq.read_table(job.dir.probe_items)
    assert set(asked["probe"].to_pylist()) == NAMES - {TRAINED_ROWS}
    assert facts(job)["suite"] == suite_texts.load_suite().fingerprint


def test_base_numbers_of_a_run_are_those_of_the_plain_model(home: Home) -> None:
    job = make_job(home, "run", **PROBED)
    train_job.run(job)
    plain = make_model().eval()
    for probe in (
        suite_probes.build_prose_probe(make_tokenizer(), 256),
        suite_probes.build_choice_probe(make_tokenizer(), 256),
    ):
        measured = probe.measure(plain, batch_size=16, device=torch.device("cpu"))
        table = kept(job, "base", probe.name)
        assert table["item"].to_pylist() == list(measured.items)
        assert table["loss_sum"].to_numpy() == pytest.approx(measured.loss_sum, abs=1e-3)
        assert table["chosen"].to_pylist() == measured.chosen.tolist()


@pytest.mark.parametrize("method", ["lora", "full"])
def test_own_texts_are_those_of_the_untrained_model(home: Home, method: str) -> None:
    job = make_job(home, "run", method=method, **(PROBED | {"learning_rate": 3e-2}))
    train_job.run(job)
    asked = pq.read_table(job.dir.probe_items)
    own_texts = asked.filter(pc.equal(asked["probe"], "own_samples"))["text"].to_pylist()
    rows = base_samples.generate_samples(
        make_model(), make_tokenizer(), base_samples.SamplePlan(suite_texts.load_suite(), count=8, length=8)
    )
    tokenizer = make_tokenizer()
    assert own_texts == [tokenizer.decode(rows.row(i)[0], skip_special_tokens=True) for i in range(8)]


@pytest.mark.parametrize("method", [name for name in METHODS if METHODS[name].adapter])
def test_an_adapter_that_is_switched_off_forgets_nothing(method: str) -> None:
    """A prompt that was never trained changes the model: the base is the model without it."""
    config = TrainConfig(dataset="rows", method=method).resolved(100, 10_000)
    tuned = make_trainable(make_model(), config, torch.float32)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in tuned.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.3)
    assert weight_change.measure_adapter(tuned).notes or weight_change.measure_adapter(tuned).relative > 0
    plain, device = make_model(), torch.device("cpu")
    tokenizer = make_tokenizer()
    for probe in (
        suite_probes.build_prose_probe(tokenizer, 200),
        suite_probes.build_choice_probe(tokenizer, 200),
    ):
        before = probe.measure(plain, batch_size=8, device=device)
        with use_base_model(tuned) as base:
            off = probe.measure(base, batch_size=8, device=device)
        on = probe.measure(tuned, batch_size=8, device=device)
        assert abs(off.loss_sum - before.loss_sum).max() / before.tokens.max() < 1e-4
        assert (off.chosen == before.chosen).all()
        assert abs(on.loss_sum - before.loss_sum).max() > 1e-3


def test_a_resumed_run_probes_no_step_twice(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validation.TimeBudget, "allows", lambda *_: True)
    whole = make_job(home, "whole", **PROBED)
    train_job.run(whole)
    job = make_job(home, "run", **PROBED)
    cancel_when(job, lambda event: event.get("step") == 6 and "train/loss" in event.get("values", {}))
    with pytest.raises(JobCancelled):
        train_job.run(job)
    again = make_job(home, "run", resume=True, **PROBED)
    train_job.run(again)
    steps = pq.read_table(again.dir.live_probes)
    counts = steps.group_by(["step", "probe", "item"]).aggregate([("item", "count")])
    assert set(counts["item_count"].to_pylist()) == {1}
    assert series(again, "train/loss")[-1] == pytest.approx(series(whole, "train/loss")[-1])
    assert kept(again, "tuned", "prose")["loss_sum"].to_pylist() == pytest.approx(
        kept(whole, "tuned", "prose")["loss_sum"].to_pylist()
    )


def test_a_run_stops_for_what_it_forgot(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validation.TimeBudget, "allows", lambda *_: True)  # whatever the clock says
    fields = PROBED | {"learning_rate": 5e-2, "num_train_epochs": 6, "evaluations": 6}
    job = make_job(home, "run", max_forgetting=0.05, early_stopping=False, **fields)
    verdict = train_job.run(job)["verdict"]
    assert verdict.stopped.reason == "forgetting"
    assert verdict.stopped.step < facts(job)["steps"]
    assert any("Stopped because of forgetting" in sentence for sentence in verdict.sentences)
    assert series(job, "probe/prose/loss")[0][0] == 0  # against the base model, which was measured first


def test_probes_wait_until_training_pays_for_them(home: Home) -> None:
    job = make_job(home, "run", **(PROBED | {"probe_share": 0.0}))
    train_job.run(job)
    assert not series(job, "probe/prose/loss")
    assert not job.dir.live_probes.exists()
    assert kept(job, "tuned", "prose").num_rows == 6  # at the end they are measured all the same


def test_a_base_that_is_known_costs_nothing(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validation.TimeBudget, "allows", lambda self, trained, expected, times=1: times == 1)
    first, second = (make_job(home, name, **PROBED) for name in ("first", "second"))
    train_job.run(first)  # which can pay for the tuned model, and not for the base beside it
    steps = [step for step, _ in series(first, "probe/prose/loss")]
    assert steps
    assert min(steps) > 0
    train_job.run(second)
    assert [step for step, _ in series(second, "probe/prose/loss")] == [0, *steps]
    assert kept(first, "base", "prose").equals(kept(second, "base", "prose"))


def test_a_budget_is_kept() -> None:
    budget = validation.TimeBudget(0.1)
    assert not budget.allows(trained=10, expected=1.1)
    assert budget.allows(trained=10, expected=0.9)
    budget.spend(2.0)  # dearer than expected
    assert not budget.allows(trained=39, expected=0.1)
    assert budget.allows(trained=40, expected=0.1)
    assert not validation.TimeBudget(0.0).allows(trained=1e9, expected=0.0)


def test_a_head_is_not_asked(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validation.TimeBudget, "allows", lambda *_: True)
    rows = conversations(60)
    write_rows(home, "rows", rows, labels=["odd" if i % 2 else "even" for i in range(60)])
    job = make_job(home, "run", task="classification", **PROBED)
    verdict = train_job.run(job)["verdict"]
    assert verdict.forgetting is None
    assert set(verdict.membership.scores) == {"loss", "calibrated"}
    assert verdict.membership.members == verdict.overfitting.gap[0].train.n
    steps = {step for step, _ in series(job, "eval/loss")}
    assert steps - {0} <= {point.step for point in verdict.membership.path} <= steps
    assert [name for e in events(job, "metrics") for name in e["values"] if name.startswith("probe/")][
        :1
    ] == ["probe/train_rows/loss"]


def test_pairs_are_told_apart_by_answer_and_margin(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validation.TimeBudget, "allows", lambda *_: True)
    rows = conversations(60)
    write_rows(home, "rows", rows, rejected=worse_answers(rows))
    verdict = train_job.run(make_job(home, "run", task="dpo", **PROBED))["verdict"]
    scores = verdict.membership.scores
    assert set(scores) == {"loss", "calibrated", "margin"}
    assert scores["margin"].placebo is None
    assert scores["loss"].placebo.value != scores["loss"].auc.value
    (first, *_) = verdict.membership.path
    assert (first.step, first.auc.value) == (0, 0.5)  # before the first step no pair is known
    assert verdict.extraction is None
    assert verdict.overfitting.gap


def test_measured_items_are_read_back() -> None:
    measured = ProbeMeasurement(
        "prose", ["a", "b"], ["x", "y"], np.array([1.0, 2.0]), np.array([3, 4]), np.array([1, 0]),
        np.zeros(2, np.int32), np.full(2, -1, np.int32),
    )  # fmt: skip
    again = ProbeMeasurement.of(measured.table(step=3))
    assert (list(again.items), again.loss_sum.tolist(), again.tokens.tolist()) == (
        ["a", "b"],
        [1.0, 2.0],
        [3, 4],
    )
    assert measured.metrics == {"probe/prose/loss": 3 / 7}


def test_parts_are_spread_over_the_whole() -> None:
    assert select_evenly(10, 3).tolist() == [0, 3, 6]
    assert select_evenly(3, 10).tolist() == [0, 1, 2]
    whole = suite_probes.build_choice_probe(make_tokenizer(), 256)
    categories = {item.category for item in whole.part(8).asked.items}
    assert len(categories) >= 6


def test_the_requests_come_in_pairs_and_are_no_refusals_themselves() -> None:
    all_requests = suite_probes.load_requests()
    harmful = [request for request in all_requests if request.harmful]
    harmless = [request for request in all_requests if not request.harmful]
    assert len(harmful) == len(harmless) >= 24
    assert [r.pair for r in harmful] == [r.pair for r in harmless] == list(range(len(harmful)))
    texts = [request.text for request in all_requests]
    assert len(set(texts)) == len({request.id for request in all_requests}) == len(all_requests)
    assert max(map(len, texts)) < 120
    assert not any(map(is_refusal, texts))
