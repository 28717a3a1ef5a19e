"""Training that diverges is called so, live too, and training that doesn't hardly ever."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from bench.truths import Rate, observe
from bench.truths.runs import divergence
from engine.evaluation.run_evaluation import build_verdict_config
from engine.evaluation.training_curve import advice, stages
from engine.evaluation.training_curve.run_curve import RunCurves
from engine.evaluation.verdicts import live_alarms
from engine.evaluation.verdicts.verdict import add_unmeasured
from store.evaluation.forgetting_schemas import AdviceItem, Forgetting, Membership
from store.evaluation.verdict_schemas import Overfitting, TrainingStop, Verdict
from store.runs.run_outcomes import KINDS
from store.training.train_config import TrainConfig
from tests.unit.store_samples import row_of
from tests.unit.verdict_inputs import assess

EPOCHS = TrainingStop(reason="epochs", step=100, restored_step=None)


@pytest.mark.parametrize("rate", [rate for rate in divergence.RATES if "1,000 steps" not in rate.name],
                         ids=lambda rate: rate.name)  # fmt: skip
def test_rates(rate: Rate) -> None:
    share = observe(rate, 20).share
    assert share <= 0.15 if rate.nominal < 0.5 else share >= 0.7, share


def exploding(steps: int = 100) -> list[tuple[int, float]]:
    """From 2.9 to 11, half way."""
    return [(step, 2.9 if step <= steps // 2 else 11.0) for step in range(1, steps + 1)]


def test_a_run_is_warned_of_it_once_it_lasts() -> None:
    curve = exploding()
    assert live_alarms.check_divergence(curve[:55], planned_steps=100, looks=10) == []  # may heal
    (alarm,) = live_alarms.check_divergence(curve[:70], planned_steps=100, looks=10)
    assert (alarm.kind, alarm.step) == ("diverged", 51)
    assert alarm.kind in KINDS
    shape = assess([], curve)
    ended = live_alarms.list_verdict_alarms(row_of(Verdict, overfitting=shape, stopped=EPOCHS))
    assert [(each.kind, each.step, each.message) for each in ended] == [("diverged", 51, shape.sentence)]


@pytest.mark.parametrize("looks", [1, 10])
def test_a_rise_is_sure_for_all_levels_and_looks_that_it_could_have_risen_from(looks: int) -> None:
    """By hand: equal blocks of five steps, whose medians have no noise but that of their steps."""
    noise = np.tile([0.4, -0.4, 0.0, 0.2, -0.2], 20)
    of_steps = np.quantile(np.abs(np.diff(noise)), 0.25) / stats.norm.ppf(0.625) / math.sqrt(2)
    error = math.sqrt(math.pi / 2) * of_steps / math.sqrt(5)
    levels, late = 21, 3  # the first step and 20 blocks
    sure = stats.t.ppf(1 - 0.05 / ((levels - late) * looks), levels) * math.sqrt(2) * error
    for rise, diverges in ((0.99 * sure, False), (1.01 * sure, True)):
        losses = np.exp(noise + rise * (np.arange(100) >= 85))
        divergence_of = stages.find_divergence([*enumerate(losses.tolist())], looks=looks)
        assert (divergence_of is not None) == diverges, rise


def test_a_loss_that_falls_again_to_almost_nothing_has_not_diverged() -> None:
    """A loss of 0.03 is three times one of 0.01, and neither is anything to one that began at 3."""
    learned = [(step, 3.0 if step < 20 else 0.01 if step < 60 else 0.03) for step in range(1, 101)]
    assert stages.find_divergence(learned) is None
    infinite = [(step, 3.0 if step < 40 else np.inf) for step in range(1, 101)]
    detected = stages.find_divergence(infinite)
    assert detected is not None
    assert "no number" in detected.sentence


@pytest.mark.parametrize(
    ("first", "end", "diverges"),
    [
        (2.0, 1.3, False),  # a quarter above the lowest level, and less than half of the gain is lost
        (2.0, 1.6, True),
        (1.02, 1.1, False),  # more than the gain is lost, and the rise is below a quarter
        (1.02, 1.3, True),
    ],
)
def test_a_rise_must_be_material_and_lose_half_of_the_gain(first: float, end: float, diverges: bool) -> None:
    losses = [(step, first if step < 20 else 1.0 if step < 60 else end) for step in range(1, 101)]
    assert (stages.find_divergence(losses) is not None) == diverges


def diverged_advice(**settings: Any) -> AdviceItem:
    """What a config with these is told once it diverged; its change is one that a config takes."""
    config = TrainConfig(dataset="d", **settings).resolved(600)
    outcome = advice.VerdictOutcome("worse", None, "test", assess([], exploding()))
    (piece,) = advice.advise(outcome, RunCurves(stopped=EPOCHS), build_verdict_config(config, 135_000_000))
    TrainConfig.parse(config.model_dump() | piece.change)
    return piece


def test_what_diverged_is_told_the_default_rate_of_its_method() -> None:
    piece = diverged_advice(learning_rate=0.02)
    assert piece.change == {"learning_rate": 1e-4}
    assert piece.text.endswith("the method's default learning rate, 0.0001, instead of 0.02.")
    assert diverged_advice(learning_rate=0.02, method="full").change == {"learning_rate": 2e-5}
    assert diverged_advice(learning_rate=0.02, task="dpo").change == {"learning_rate": 1e-5}


def test_what_diverged_near_the_default_rate_is_told_a_tenth() -> None:
    assert diverged_advice(learning_rate=2e-4).change == {"learning_rate": 2e-5}
    rough = diverged_advice(learning_rate=2e-4, lr_scheduler_type="constant", warmup_steps=0, max_grad_norm=0)
    assert rough.change == {
        "learning_rate": 2e-5, "lr_scheduler_type": "constant_with_warmup", "warmup_steps": 0.1,
        "max_grad_norm": 1.0,
    }  # fmt: skip


def test_what_got_worse_far_above_the_default_is_told_the_default() -> None:
    for rate, advised in ((0.02, 1e-4), (2e-4, 6.7e-5)):
        config = TrainConfig(dataset="d", learning_rate=rate).resolved(600)
        outcome = advice.VerdictOutcome("worse", None, "test", assess([], []))
        (piece,) = advice.advise(
            outcome, RunCurves(stopped=EPOCHS), build_verdict_config(config, 135_000_000)
        )
        assert piece.change == {"learning_rate": advised}


def test_a_verdict_says_what_was_not_measured() -> None:
    bare = row_of(
        Verdict,
        overfitting=row_of(Overfitting, sentence="No overfitting: …"),
        sentences=["Perplexity.", "No overfitting: …", "Completed all epochs."],
    )
    sentence = add_unmeasured(bare, probes=False).sentences
    assert sentence[2] == "Not measured: forgetting and memorization, as probes were off."
    assert (sentence[:2], sentence[3:]) == (bare.sentences[:2], bare.sentences[2:])
    half = replace(bare, membership=row_of(Membership, state="unclear"))
    assert add_unmeasured(half, probes=True).sentences[2] == "Not measured: forgetting."
    whole = replace(half, forgetting=row_of(Forgetting, state="none"))
    assert add_unmeasured(whole, probes=True) == whole
