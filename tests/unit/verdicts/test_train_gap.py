"""The gap to training rows, the stage a run ended in, and loss and metric that part."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from engine.evaluation.training_curve.run_curve import MetricCurve, MetricValues, StepNoise, Validation
from engine.evaluation.training_curve.stages import compute_train_gaps, describe_gap, find_metric_divergence
from store.core.documents import as_json
from store.evaluation.forgetting_schemas import Extraction, Membership
from tests.unit.store_samples import row_of
from tests.unit.verdict_inputs import assess
from tests.unit.verdicts.test_overfitting import falling, validations


def rows(means: list[float], *, n: int = 100, spread: float = 0.5, seed: int = 0) -> list[Validation]:
    """Losses every 20 steps of rows of one token each, which differ by `spread`."""
    random = np.random.default_rng(seed)
    level = random.normal(0, spread, n)
    return [
        Validation(
            step=20 * i,
            row_ids=np.arange(n),
            loss_sums=mean + level + random.normal(0, 0.02, n),
            tokens=np.ones(n),
        )
        for i, mean in enumerate(means)
    ]


TRAIN = rows([2.0, 1.2, 0.5], n=80, seed=1)
HELD = rows([2.0, 1.4, 1.3], n=120, seed=2)


def test_the_gap_is_a_welch_interval() -> None:
    last = compute_train_gaps(TRAIN, HELD)[-1]
    ours, theirs = (np.asarray(r[-1].loss_sums) for r in (HELD, TRAIN))
    welch = stats.ttest_ind(ours, theirs, equal_var=False).confidence_interval()
    assert last.gap.value == pytest.approx(ours.mean() - theirs.mean())
    assert (last.gap.low, last.gap.high) == pytest.approx((welch.low, welch.high))
    assert last.relative.value == pytest.approx(1 - theirs.mean() / ours.mean())
    assert (last.train.n, last.validation.n, last.level) == (80, 120, "red")


def test_growth_takes_off_what_the_rows_differed_by_before() -> None:
    points = compute_train_gaps(rows([1.5, 1.0], n=60, seed=3), rows([2.0, 1.5], n=60, seed=4))
    assert points[0].gap.low > 0
    assert points[0].growth is None
    growth = points[1].growth
    assert growth.low < 0 < growth.high < 0.05
    assert growth.high - growth.low < 0.2 * (points[1].gap.high - points[1].gap.low)
    assert "did not grow significantly" in describe_gap(points)


def test_relative_interval_holds_the_truth() -> None:
    held = 0
    for seed in range(400):
        relative = compute_train_gaps(rows([1.0], n=40, seed=seed), rows([1.6], n=40, seed=1000 + seed))[
            0
        ].relative
        held += relative.low <= 1 - 1.0 / 1.6 <= relative.high
    assert held / 400 >= 0.93


def test_levels() -> None:
    wide = [rows([m], n=4000, seed=s, spread=0.3) for m, s in ((1.0, 5), (1.02, 6), (1.25, 7), (2.0, 8))]
    assert [compute_train_gaps(wide[0], other)[0].level for other in wide[1:]] == ["green", "amber", "red"]
    assert compute_train_gaps(rows([1.0], n=5), rows([1.5], n=5, seed=9))[0].level == "unclear"


def test_steps_without_a_pair_are_left_out() -> None:
    held = rows([2.0, 1.4, 1.3], n=120, seed=2)
    held[1].loss_sums = np.full(120, math.nan)
    assert [p.step for p in compute_train_gaps(TRAIN, held)] == [0, 40]
    assert [p.step for p in compute_train_gaps(TRAIN[1:], HELD)] == [20, 40]
    assert compute_train_gaps([], HELD) == []
    assert describe_gap([]) == ""
    other = [TRAIN[0], replace(TRAIN[1], row_ids=np.arange(1, 81))]
    with pytest.raises(ValueError, match="different rows"):
        compute_train_gaps(other, HELD)


def test_stages_of_the_curve() -> None:
    curve = falling(100)
    learning = assess(validations([2.0, 1.6, 1.3, 1.1, 0.9]), curve)
    assert (learning.stage, learning.state) == ("learning", "none")
    converged = assess(validations([2.0, 1.2, 1.002, 1.0, 0.9995], noise=0.005, n=400), curve)
    assert converged.stage == "converged"
    overfitting = assess(validations([2.0, 1.4, 1.1, 1.05, 1.2, 1.35]), curve)
    assert (overfitting.stage, overfitting.since_step) == ("overfitting", 80)
    assert overfitting.stage_sentence == "It overfits, significant since step 80."
    few = assess(validations([2.0, 1.05, 1.0], noise=0.5, n=10, seed=1), curve)
    assert few.stage == "unclear"
    assert "Can't tell from 10 validation rows" in few.stage_sentence
    flat = assess(validations([1.0, 1.0, 0.9999], noise=0.01, n=200), curve)
    assert flat.stage == "unclear"
    assert assess([], []).stage == "unclear"
    hinge = validations([1.0, 0.4, 0.0])
    hinge[2].loss_sums = np.zeros(100)  # every margin is above 1
    done = assess(hinge, curve)
    assert done.stage == "converged"
    assert "validation loss is 0 on each of 100 validation rows" in done.stage_sentence
    seen = validations([2.0, 1.5, 1.2])
    seen[2].loss_sums = np.full(100, math.nan)
    assert (assess(seen, curve).stage, "diverged" in assess(seen, curve).stage_sentence) == (
        "diverged",
        True,
    )


REMEMBERS = row_of(Membership, state="remembers", sentence="It remembers.")
WRITES = row_of(Extraction, state="extracts", sentence="It writes rows.")


def test_memorising_needs_its_evidence() -> None:
    rising, still = validations([2.0, 1.1, 1.05, 1.35]), validations([2.0, 1.6, 1.3, 1.1])
    curve = falling(60)
    assessment = assess(rising, curve, membership=REMEMBERS)
    assert assessment.stage == "memorising"
    assert (
        assessment.stage_sentence
        == "It memorizes its training rows, and overfits (significant since step 60). It remembers."
    )
    assert assess(still, curve, membership=REMEMBERS).stage == "learning"
    assert assess(still, curve, extraction=WRITES).stage == "memorising"
    gap = assess(HELD, curve, membership=REMEMBERS, train_probe=TRAIN)
    assert gap.stage == "memorising"
    assert assess(HELD, curve, train_probe=TRAIN).stage == "learning"
    assert gap.gap_sentence.startswith("Validation loss is higher than loss on training rows by 0.")
    assert assess(rising, curve, membership=replace(REMEMBERS, state="none")).stage == "overfitting"
    json.dumps(gap, default=as_json, allow_nan=False)


def measured(means: list[float], *, n: int = 100, seed: int = 0) -> list[MetricValues]:
    """Of n rows with hidden difficulties, those under the mean are right."""
    hard = np.random.default_rng(seed).random(n)
    return [
        MetricValues(step=20 * i, row_ids=np.arange(n), values=(hard < m).astype(float), weights=np.ones(n))
        for i, m in enumerate(means)
    ]


def test_a_metric_that_rises_with_the_loss_is_said_to_part() -> None:
    rising = validations([2.0, 1.1, 1.05, 1.35])
    assessment = assess(rising, falling(60), metric=("accuracy", measured([0.1, 0.5, 0.5, 0.75])))
    parting = assessment.parting
    assert (parting.kind, parting.from_step, parting.to_step) == ("metric_improves", 40, 60)
    assert parting.metric.low > 0
    assert parting.loss == assessment.rise
    assert "accuracy rose by 0.2" in parting.sentence
    json.dumps(assessment, default=as_json, allow_nan=False)
    same = assess(rising, falling(60), metric=("accuracy", measured([0.1, 0.5, 0.5, 0.5])))
    assert same.parting is None
    assert assess(rising, falling(60)).parting is None


def test_a_metric_that_falls_while_the_loss_falls_too() -> None:
    still = validations([2.0, 1.6, 1.3, 1.1])
    parting = assess(still, falling(60), metric=("accuracy", measured([0.3, 0.8, 0.8, 0.4]))).parting
    assert (parting.kind, parting.from_step, parting.loss) == ("metric_falls", 20, None)
    other = replace(measured([0, 0, 0, 0.1])[-1], row_ids=np.arange(1, 101))
    with pytest.raises(ValueError, match="different rows"):
        assess(still, [], metric=("accuracy", [*measured([0.9]), other]))


def test_noise_in_the_metric_is_rarely_called_a_parting() -> None:
    called = 0
    for seed in range(100):
        random = np.random.default_rng(10_000 + seed)
        noise = [
            MetricValues(step=20 * i, row_ids=np.arange(60), values=random.random(60), weights=np.ones(60))
            for i in range(4)
        ]
        called += find_metric_divergence((60, 60), MetricCurve("accuracy", noise), None) is not None
    assert called / 100 <= 0.05


@pytest.mark.parametrize(("low", "high"), [(0.0, 0.4), (-0.4, 0.0), (-0.1, 0.3)])
def test_a_gap_whose_interval_holds_nothing_is_noise(low: float, high: float) -> None:
    (*_, last) = compute_train_gaps(TRAIN, HELD)
    gap = replace(last.gap, value=(low + high) / 2, low=low, high=high)
    assert "can't be distinguished from noise" in describe_gap([replace(last, gap=gap)])


def test_the_more_steps_could_have_been_the_lowest_the_further_noise_reaches() -> None:
    noise = StepNoise(sigma=0.1, degrees=10)
    for steps, level in ((2, 0.975), (3, 0.9875), (26, 0.999)):
        assert noise.beyond_one(steps) == pytest.approx(0.1 * math.sqrt(2) * stats.t.ppf(level, 10))
