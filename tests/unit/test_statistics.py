"""Intervals against scipy and published tables, and what they do on evidence that says nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from engine.diagnostics.statistics import (
    quick_interval,
    ratio_interval,
    rows_needed,
    wilson_interval,
)


def evidence(n: int, effect: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Skewed paired differences of summed loss, and tokens, of n rows."""
    generator = np.random.default_rng(seed)
    tokens = generator.integers(3, 120, n).astype(float)
    return tokens * (effect + generator.gamma(1.5, 0.2, n) - 0.3), tokens


@pytest.mark.parametrize("n", [25, 200])
def test_bca_agrees_with_scipy(n: int) -> None:
    difference, tokens = evidence(n, 0.2, seed=n)
    ours = ratio_interval(difference, tokens, small_sample=False)
    theirs = stats.bootstrap(
        (difference, tokens),
        lambda d, t, axis: d.sum(axis=axis) / t.sum(axis=axis),
        paired=True,
        vectorized=True,
        n_resamples=10_000,
        method="BCa",
        random_state=np.random.default_rng(7),
    )
    width = theirs.confidence_interval.high - theirs.confidence_interval.low
    assert ours.value == pytest.approx(difference.sum() / tokens.sum())
    assert ours.low == pytest.approx(theirs.confidence_interval.low, abs=0.03 * width)
    assert ours.high == pytest.approx(theirs.confidence_interval.high, abs=0.03 * width)
    assert ours.se == pytest.approx(theirs.standard_error, rel=0.05)


def test_equal_denominators_weigh_every_row_the_same() -> None:
    values = np.random.default_rng(1).normal(0.4, 1, 300)
    interval = ratio_interval(values, np.ones_like(values))
    t_interval = stats.ttest_1samp(values, 0).confidence_interval()
    assert interval.value == pytest.approx(values.mean())
    assert interval.low == pytest.approx(t_interval.low, abs=0.01)
    assert interval.high == pytest.approx(t_interval.high, abs=0.01)


def test_small_samples_get_wider_intervals() -> None:
    difference, tokens = evidence(8, 0.2, seed=3)
    corrected = ratio_interval(difference, tokens)
    plain = ratio_interval(difference, tokens, small_sample=False)
    assert corrected.low < plain.low < plain.high < corrected.high


def test_chunks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    difference, tokens = evidence(50, 0.2, seed=4)
    whole = ratio_interval(difference, tokens, resamples=1000)
    monkeypatch.setattr("engine.diagnostics.statistics.CHUNK", 50 * 37)
    assert ratio_interval(difference, tokens, resamples=1000) == whole


@pytest.mark.parametrize("shape", ["normal", "heavy tails", "skewed"])
def test_same_model_is_not_called_better_more_often_than_alpha(shape: str) -> None:
    """A/A: two equal models on 1,000 held-out sets of 12 to 80 rows of unequal length."""
    generator = np.random.default_rng(11)
    called_better = 0
    for trial in range(1000):
        n = int(generator.integers(12, 80))
        tokens = generator.integers(3, 60, n).astype(float)
        drawn = {
            "normal": generator.normal(0, 0.3, n),
            "heavy tails": generator.standard_t(4, n) * 0.3,
            "skewed": generator.gamma(1.5, 0.2, n) - 0.3,
        }[shape]
        called_better += ratio_interval(tokens * drawn, tokens, resamples=1000, seed=trial).above
    assert called_better <= 50  # alpha = 5%


def test_power_at_the_detectable_difference_is_80_percent() -> None:
    generator = np.random.default_rng(5)
    base = [generator.normal(0, 1, 100) for _ in range(300)]
    detectable = np.mean([quick_interval(values, np.ones(100)).detectable for values in base])
    found = sum(quick_interval(values + detectable, np.ones(100)).above for values in base)
    assert found / 300 == pytest.approx(0.80, abs=0.06)
    # (1.984 + 0.845) / sqrt(100) standard deviations
    assert detectable == pytest.approx(0.283, abs=0.01)


def test_rows_needed_grows_with_the_square() -> None:
    interval = quick_interval(np.random.default_rng(6).normal(0, 1, 100), np.ones(100))
    assert rows_needed(interval, interval.detectable) == 100
    assert rows_needed(interval, interval.detectable / 2) == 400
    assert rows_needed(interval, 0.0) is None


@pytest.mark.parametrize("n", range(2, 12))
@pytest.mark.parametrize("confidence", [0.95, 0.9917, 0.9995])
def test_few_rows_give_a_finite_interval_that_a_strict_level_widens(n: int, confidence: float) -> None:
    found = ratio_interval(*evidence(n, 0.2, seed=n), confidence=confidence)
    usual = ratio_interval(*evidence(n, 0.2, seed=n))
    assert found.low is not None
    assert found.high is not None
    assert math.isfinite(found.low)
    assert math.isfinite(found.high)
    assert found.low <= found.value <= found.high
    assert found.high - found.low >= (usual.high or 0) - (usual.low or 0) - 1e-12


@pytest.mark.parametrize("n", [2, 3, 6])
def test_few_rows_of_one_model_are_not_called_better_more_often_than_a_strict_alpha(n: int) -> None:
    generator = np.random.default_rng(n)
    called = [
        (found.low or 0) > 0 or (found.high or 0) < 0
        for found in (
            ratio_interval(generator.normal(0, 1, n), np.ones(n), confidence=0.99, resamples=2000)
            for _ in range(600)
        )
    ]
    assert np.mean(called) < 0.01 + 3 * math.sqrt(0.01 * 0.99 / 600)


def test_one_row_gives_no_interval() -> None:
    interval = ratio_interval([3.0], [10])
    assert (interval.value, interval.low, interval.high, interval.n) == (0.3, None, None, 1)
    assert not interval.above
    assert not interval.below


def test_identical_rows_give_a_point() -> None:
    interval = ratio_interval([2.0] * 30, [10] * 30)
    assert (interval.low, interval.high, interval.detectable) == (0.2, 0.2, 0.0)
    nothing = ratio_interval([0.0] * 30, range(1, 31))
    assert (nothing.value, nothing.low, nothing.high) == (0.0, 0.0, 0.0)
    assert not nothing.above


def test_rows_without_tokens_do_not_count() -> None:
    difference, tokens = evidence(40, 0.2, seed=8)
    padded = ratio_interval([*difference, 0, 0], [*tokens, 0, 0])
    assert padded == ratio_interval(difference, tokens)
    assert padded.n == 40


@pytest.mark.parametrize(
    ("differences", "tokens", "message"),
    [
        ([], [], "no row with a token"),
        ([0.0, 0.0], [0, 0], "no row with a token"),
        ([1.0, math.nan], [1, 1], "1 of 2 values are not finite"),
        ([1.0, 2.0], [1, -1], "not negative"),
        ([1.0, 2.0], [1], "Shapes"),
    ],
)
def test_evidence_that_is_none_is_refused(differences: list, tokens: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ratio_interval(differences, tokens)


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    # Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I, method 3.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_matches_newcombe(successes: int, n: int, low: float, high: float) -> None:
    interval = wilson_interval(successes, n)
    assert interval.low == pytest.approx(low, abs=5e-5)
    assert interval.high == pytest.approx(high, abs=5e-5)
    with pytest.raises(ValueError, match="not a proportion"):
        wilson_interval(3, 2)
