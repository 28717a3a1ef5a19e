"""What length has to do with a judge's preferences, and what is left at equal length."""

from __future__ import annotations

import numpy as np
import pytest

from bench.truths import Rate, observe
from bench.truths.models.judge_length import RATES
from engine.evaluation.metrics.judge import compute_length_effect, fit_length_effect


@pytest.mark.parametrize(
    "rate", [rate for rate in RATES if "50 pairs" in rate.name], ids=lambda rate: rate.name
)
def test_the_interval_at_equal_length_covers(rate: Rate) -> None:
    assert observe(rate, 120).share > 0.89  # of 120 draws at 95%, fewer than 107 hold once in 300


def test_a_judge_that_counts_characters_is_found_out() -> None:
    rng = np.random.default_rng(0)
    difference = rng.normal(0.8, 0.8, 60)
    effect = fit_length_effect((difference > 0).astype(float), difference)
    assert effect.longer is not None
    assert (effect.longer.value, effect.longer.n) == (1, 60)
    assert effect.equal is not None
    assert effect.equal.low < 0.5 < effect.equal.high


def test_what_is_better_at_any_length_stays_better() -> None:
    rng = np.random.default_rng(0)
    difference = rng.normal(0, 0.5, 100)
    wins = (rng.random(100) < 0.85).astype(float)
    equal = fit_length_effect(wins, difference).equal
    assert equal is not None
    assert equal.low > 0.7
    swapped = fit_length_effect(1 - wins, -difference).equal
    assert swapped is not None
    assert swapped.value == pytest.approx(1 - equal.value, abs=1e-4)
    assert swapped.low == pytest.approx(1 - equal.high, abs=1e-3)


def test_the_intercept_is_firths() -> None:
    """The estimate is where the score of Firth (1993) is 0, looked for on a grid."""
    wins = np.array([1, 1, 1, 0, 1, 0, 0, 1, 1, 0] * 3, float)
    difference = np.linspace(-1, 1.4, 30)
    grid = np.stack(np.meshgrid(np.linspace(-2, 2, 401), np.linspace(-4, 4, 401)), -1).reshape(-1, 2)
    odds = grid[:, :1] + grid[:, 1:] * difference / difference.std()
    chance = 1 / (1 + np.exp(-odds))
    weight = chance * (1 - chance)
    d = difference / difference.std()
    determinant = weight.sum(1) * (weight * d * d).sum(1) - (weight * d).sum(1) ** 2
    likelihood = (wins * np.log(chance) + (1 - wins) * np.log(1 - chance)).sum(1) + np.log(determinant) / 2
    best = grid[likelihood.argmax()]
    equal = fit_length_effect(wins, difference).equal
    assert equal is not None
    assert equal.value == pytest.approx(1 / (1 + np.exp(-best[0])), abs=0.003)


def test_what_can_not_be_told_is_said() -> None:
    assert fit_length_effect(np.zeros(0), np.zeros(0)).problem == "under 30 decided pairs"
    always = fit_length_effect(np.ones(30), np.linspace(0.1, 1, 30))
    assert always.equal is None
    assert always.problem == "one side's answers are the longer ones in 30 of 30 decided pairs"
    same = fit_length_effect(np.array([1.0, 0] * 15), np.zeros(30))
    assert same.longer is None
    assert same.equal is not None
    assert same.equal.value == 0.5


def test_only_decided_pairs_count_and_white_space_is_no_length() -> None:
    effect = compute_length_effect([1, 0.5, np.nan, 0], ["long", "xx", "x", " a  "], ["no", "x", "xx", "bb"])
    assert effect.longer is not None
    assert (effect.longer.value, effect.longer.n, effect.first_longer) == (1, 2, 1)
