"""The verdict on preference tuning: against chance, against an untrained model's loss, at what price."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np

from store.core.documents import as_json
from store.evaluation.verdict_schemas import TrainingStop
from store.training.train_config import TrainConfig
from tests.unit.verdict_inputs import judge_pairs
from tests.unit.verdicts.test_overfitting import falling, validations

EPOCHS = TrainingStop(reason="epochs", step=100, restored_step=None)


def evidence(margin: float, chosen: float, n: int = 120, noise: float = 0.5, **fields: Any) -> dict[str, Any]:
    """`n` pairs with margins around `margin`; the chosen answers' log-probability moved by about `chosen`."""
    random = np.random.default_rng(0)
    margins = margin + random.normal(0, noise, n)
    before = -random.gamma(9, 5, n)
    moved = chosen + random.normal(0, 0.5, n)
    config = TrainConfig(dataset="d", task="dpo", **fields).resolved(600).model_dump()
    base = {
        "losses": np.full(n, math.log(2)),
        "margins": np.zeros(n),
        "chosen_logps": before,
        "rejected_logps": before - 1,
    }
    tuned = {
        "losses": np.log1p(np.exp(-margins)),
        "margins": margins,
        "chosen_logps": before + moved,
        "rejected_logps": before - 1 + moved - margins / config["beta"],
    }
    return {
        "split": "test",
        "base": base,
        "tuned": tuned,
        "eval_rows": validations([0.69, 0.6, 0.55, 0.54, 0.538, 0.5379]),
        "train_curve": falling(100),
        "stopped": EPOCHS,
        "config": config,
    }


def test_learned_against_chance_and_against_the_untrained_loss() -> None:
    given = evidence(1.0, 0.8)
    verdict = judge_pairs(**given)
    json.dumps(verdict, default=as_json, allow_nan=False)
    accuracy = verdict.preference.reward_accuracy
    assert accuracy.value == (given["tuned"]["margins"] > 0).mean()
    assert 0.5 < accuracy.low < accuracy.value < accuracy.high <= 1
    assert verdict.state == "learned"
    assert f"in {accuracy.value:.0%} of 120 held-out pairs" in verdict.headline
    assert "chance is 50%" in verdict.headline
    assert verdict.base.loss == math.log(2)
    assert verdict.gain.unit == "nats a pair"
    assert verdict.gain.low < math.log(2) - verdict.tuned.loss < verdict.gain.high
    assert "fell from 0.69" in verdict.sentences[0]
    assert verdict.sentences[1].startswith("The chosen answers became more likely")
    assert verdict.advice == []


def test_chosen_answers_that_became_less_likely_are_said() -> None:
    verdict = judge_pairs(**evidence(1.0, -6.0))
    assert verdict.state == "learned"
    assert "became less likely" in verdict.sentences[1]
    assert "likelihood displacement" in verdict.sentences[1]
    assert "−6." in verdict.sentences[1]
    assert verdict.preference.chosen_change.high < 0
    assert verdict.advice[0].change == {"loss_type": "apo_zero"}
    TrainConfig.parse(evidence(1.0, 0.0)["config"] | verdict.advice[0].change)
    assert judge_pairs(**evidence(1.0, -6.0, loss_type="apo_zero")).advice == []


def test_noise_is_called_noise() -> None:
    verdict = judge_pairs(**evidence(0.0, 0.0, n=30, noise=0.4))
    assert verdict.state == "undecided"
    assert verdict.headline.startswith("Not distinguishable from noise: the tuned model prefers")
    assert "smallest detectable gain" in verdict.sentences[0]
    assert "not become significantly more likely" in verdict.sentences[1]


def test_margins_the_wrong_way_round_are_worse() -> None:
    verdict = judge_pairs(**evidence(-1.0, 0.0))
    assert verdict.state == "worse"
    assert verdict.preference.reward_accuracy.high < 0.5
    assert "rose from 0.69" in verdict.sentences[0]


def test_a_broken_model_is_said_to_be_broken() -> None:
    given = evidence(1.0, 0.0)
    given["tuned"]["losses"][3] = math.nan
    verdict = judge_pairs(**given)
    json.dumps(verdict, default=as_json, allow_nan=False)
    assert verdict.headline == "Broken: the loss is not a number on 1 test pair; training diverged."
    assert verdict.preference is None
    assert verdict.gain is None


def test_other_losses_are_not_in_nats() -> None:
    assert judge_pairs(**evidence(1.0, 0.0, loss_type="ipo")).gain.unit == "loss a pair"
