"""Membership is called by its excess over the base model, and rarely where there is none."""

from __future__ import annotations

import json

import numpy as np
import pytest

from engine.evaluation.verdicts.membership_inference import (
    PairedScores,
    assess_membership,
    compute_checkpoint_points,
)
from store.core.documents import as_json


def group(drop: float, *, n: int = 60, level: float = 2.0, seed: int = 0, drift: float = 0.1) -> PairedScores:
    """Rows whose loss falls by `drop` from the base model's to the tuned one's."""
    random = np.random.default_rng(seed)
    base = random.normal(level, 0.3, n)
    tuned = base - drop + random.normal(0, drift, n)
    return {
        "base": {"loss": base, "min_k": -3 * base + random.normal(0, 0.3, n)},
        "tuned": {"loss": tuned, "min_k": -3 * tuned + random.normal(0, 0.3, n)},
    }


def test_members_whose_loss_fell_more_are_remembered() -> None:
    assessment = assess_membership(group(0.8, seed=1), group(0.3, seed=2))
    assert (assessment.state, assessment.best) == ("remembers", "calibrated")
    loss = assessment.scores["loss"]
    assert loss.placebo.low < 0.5 < loss.placebo.high
    assert loss.excess.value == pytest.approx(loss.auc.value - loss.placebo.value)
    assert loss.excess.low > 0
    assert assessment.scores["calibrated"].auc.value > loss.auc.value
    assert assessment.scores["calibrated"].placebo is None
    assert "60 training and 60 held-out rows" in assessment.sentence
    assert "to resolve false alarm rates below 1.7%" in assessment.sentence
    json.dumps(assessment, default=as_json, allow_nan=False)


def test_groups_that_differed_before_are_no_evidence() -> None:
    """Training rows are easier for the base model too: a high AUC, and no excess."""
    members, others = group(0.3, level=1.5, seed=3, n=300), group(0.3, level=2.0, seed=4, n=300)
    assessment = assess_membership(members, others)
    assert assessment.scores["loss"].auc.low > 0.8
    assert assessment.state != "remembers"


def test_an_untrained_model_remembers_nothing() -> None:
    members, others = (group(0.0, seed=s, drift=0.0, n=40) for s in (5, 6))
    for side in (members, others):
        side["tuned"] = side["base"]
    assessment = assess_membership(members, others)
    assert assessment.state == "none"
    assert all(part.excess.value == 0 for part in assessment.scores.values())
    assert "ruled out" in assessment.sentence
    json.dumps(assessment, default=as_json, allow_nan=False)


def test_equal_groups_are_rarely_said_to_be_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.evaluation.statistics.roc.RESAMPLES", 50)  # the share caught decides nothing
    called = sum(
        assess_membership(group(0.3, n=40, seed=2 * s), group(0.3, n=40, seed=2 * s + 1)).state == "remembers"
        for s in range(250)
    )
    assert called / 250 <= 0.05


def test_few_rows_say_what_they_could_not_see() -> None:
    assessment = assess_membership(group(0.32, n=12, seed=9), group(0.3, n=12, seed=10))
    assert assessment.state == "unclear"
    assert "can't be detected with 12 training and 12 held-out rows" in assessment.sentence
    single = assess_membership(group(0.3, n=1), group(0.3, n=5))
    assert (single.state, single.scores) == ("unclear", {})


def test_rows_without_a_number_are_counted() -> None:
    members = group(0.8, seed=1)
    members["tuned"]["loss"] = np.where(np.arange(60) < 4, np.nan, members["tuned"]["loss"])
    assessment = assess_membership(members, group(0.3, seed=2))
    assert (assessment.unscored, assessment.members) == (4, 56)
    del members["tuned"]["min_k"]
    assert set(assess_membership(members, group(0.3, seed=2)).scores) == {"loss", "calibrated"}


def test_by_checkpoint_rises_with_the_gap() -> None:
    drops = {10: 0.3, 20: 0.5, 30: 1.2}
    members = {s: group(d, seed=1) for s, d in drops.items()}
    others = {s: group(0.3, seed=2) for s in drops}
    points = compute_checkpoint_points(members, others)
    assert [point.step for point in points] == [10, 20, 30]
    values = [point.excess.value for point in points]
    assert values == sorted(values)
    assert {point.placebo.value for point in points} == {points[0].placebo.value}
