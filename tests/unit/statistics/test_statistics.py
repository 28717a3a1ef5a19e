"""Intervals against scipy and published tables, and what they do on evidence that says nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from engine.evaluation.statistics.intervals import (
    Interval,
    estimate_rows_needed,
    ratio_interval,
    wilson_interval,
)


def evidence(n: int, effect: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Skewed paired differences of summed loss, and tokens, of n rows."""
    generator = np.random.default_rng(seed)
    tokens = generator.integers(3, 120, n).astype(float)
    return tokens * (effect + generator.gamma(1.5, 0.2, n) - 0.3), tokens


def test_the_error_is_that_of_a_jackknife_and_close_to_a_bootstraps() -> None:
    difference, tokens = evidence(200, 0.2, seed=200)
    ours = ratio_interval(difference, tokens)
    whole = np.arange(200)
    left_out = [difference[whole != i].sum() / tokens[whole != i].sum() for i in range(200)]
    spread = np.square(np.array(left_out) - np.mean(left_out)).sum()
    assert ours.value == pytest.approx(difference.sum() / tokens.sum())
    assert ours.se == pytest.approx(math.sqrt(199 / 200 * spread))
    theirs = stats.bootstrap(
        (difference, tokens),
        lambda d, t, axis: d.sum(axis=axis) / t.sum(axis=axis),
        paired=True,
        vectorized=True,
        n_resamples=5_000,
        random_state=np.random.default_rng(7),
    )
    assert ours.se == pytest.approx(theirs.standard_error, rel=0.05)


def test_equal_denominators_weigh_every_row_the_same() -> None:
    values = np.random.default_rng(1).normal(0.4, 1, 300)
    interval = ratio_interval(values, np.ones_like(values))
    t_interval = stats.ttest_1samp(values, 0).confidence_interval()
    assert interval.value == pytest.approx(values.mean())
    assert interval.low == pytest.approx(t_interval.low, abs=0.01)
    assert interval.high == pytest.approx(t_interval.high, abs=0.01)


def test_a_limit_is_moved_out_where_rare_rows_may_be_missing_and_never_in() -> None:
    """Of skewed rows the far side is wider than Student's t, the near side is that; mirrored, they swap."""
    gains = np.exp(np.random.default_rng(2).normal(0, 1, 60))
    skewed, mirrored = ratio_interval(gains, np.ones(60)), ratio_interval(-gains, np.ones(60))
    near, far = skewed.value - skewed.low, skewed.high - skewed.value
    assert near == pytest.approx(stats.t.ppf(0.975, 59) * skewed.se)
    assert far > 1.2 * near
    assert (mirrored.low, mirrored.high) == pytest.approx((-skewed.high, -skewed.low))
    # what can be seen lies beyond the wider side, on whichever side the rows are skewed
    assert skewed.detectable == pytest.approx(mirrored.detectable)
    assert skewed.detectable > far + 0.8 * skewed.se


def test_a_few_long_rows_among_many_have_the_quantile_of_few() -> None:
    weights = np.repeat([100.0, 1.0], [6, 54])
    interval = ratio_interval(weights * np.random.default_rng(3).normal(0, 1, 60), weights)
    effective = weights.sum() ** 2 / np.square(weights).sum()
    assert interval.effective == pytest.approx(effective) == pytest.approx(7.12, abs=0.01)
    near = min(interval.value - interval.low, interval.high - interval.value)
    assert near == pytest.approx(stats.t.ppf(0.975, effective - 1) * interval.se)


def test_symmetric_rows_keep_their_power() -> None:
    """Against Student's t, which is exact for them, the interval is 10% wider at most from n 10 on."""
    generator = np.random.default_rng(4)
    for n, most in ((10, 1.15), (20, 1.07), (100, 1.02)):
        widths = []
        for _ in range(200):
            interval = ratio_interval(generator.normal(0, 1, n), np.ones(n))
            widths.append((interval.high - interval.low) / (2 * stats.t.ppf(0.975, n - 1) * interval.se))
        assert np.median(widths) < most


@pytest.mark.parametrize(
    ("tokens", "why"),
    [
        ([10], "there is only one row"),
        ([10] * 4, "4 rows are too few"),
        ([10_000] + [20] * 29, "one of 30 rows has 94% of the weight"),
        ([60] + [5] * 12, "one of 13 rows has 50% of the weight"),
        ([1_000] * 3 + [5] * 60, "63 rows of unequal length are equivalent to 3.6 rows of equal length"),
    ],
)
def test_rows_that_say_too_little_give_no_interval_and_the_reason(tokens: list[int], why: str) -> None:
    weights = np.array(tokens, float)
    interval = ratio_interval(weights * np.random.default_rng(0).normal(1, 0.1, len(tokens)), weights)
    assert (interval.low, interval.high, interval.detectable) == (None, None, None)
    assert interval.why == why
    assert interval.to_estimate().why == why
    assert not interval.above
    assert ratio_interval(np.arange(9.0), np.ones(9)).to_estimate().why is None


@pytest.mark.parametrize("shape", ["normal", "heavy tails", "skewed"])
def test_same_model_is_not_called_better_more_often_than_alpha(shape: str) -> None:
    """A/A: two equal models on 1,000 held-out sets of 12 to 80 rows of unequal length."""
    generator = np.random.default_rng(11)
    called_better = 0
    for _ in range(1000):
        n = int(generator.integers(12, 80))
        tokens = generator.integers(3, 60, n).astype(float)
        drawn = {
            "normal": generator.normal(0, 0.3, n),
            "heavy tails": generator.standard_t(4, n) * 0.3,
            "skewed": generator.gamma(1.5, 0.2, n) - 0.3,
        }[shape]
        called_better += ratio_interval(tokens * drawn, tokens).above
    assert called_better <= 50  # alpha = 5%


def test_what_can_be_seen_is_a_little_more_than_by_the_quantiles_of_t() -> None:
    values = np.random.default_rng(5).normal(0, 1, 100)
    interval = ratio_interval(values, np.ones(100))
    plain = (stats.t.ppf(0.975, 99) + stats.t.ppf(0.8, 99)) * interval.se
    assert plain < interval.detectable < 1.15 * plain


def test_rows_needed_grows_with_the_square() -> None:
    interval = ratio_interval(np.random.default_rng(6).normal(0, 1, 100), np.ones(100))
    assert estimate_rows_needed(interval, interval.detectable) == 100
    assert estimate_rows_needed(interval, interval.detectable / 2) == 400
    assert estimate_rows_needed(interval, 0.0) is None


@pytest.mark.parametrize("n", range(8, 14))
@pytest.mark.parametrize("confidence", [0.95, 0.9917, 0.9995])
def test_few_rows_give_a_finite_interval_that_a_strict_level_widens(n: int, confidence: float) -> None:
    interval = ratio_interval(*evidence(n, 0.2, seed=n), confidence=confidence)
    usual = ratio_interval(*evidence(n, 0.2, seed=n))
    assert interval.low is not None
    assert interval.high is not None
    assert math.isfinite(interval.low)
    assert math.isfinite(interval.high)
    assert interval.low <= interval.value <= interval.high
    assert interval.high - interval.low >= (usual.high or 0) - (usual.low or 0) - 1e-12


@pytest.mark.parametrize("n", [5, 6, 9])
def test_few_rows_of_one_model_are_not_called_better_more_often_than_a_strict_alpha(n: int) -> None:
    generator = np.random.default_rng(n)
    called = [
        (interval.low or 0) > 0 or (interval.high or 0) < 0
        for interval in (
            ratio_interval(generator.normal(0, 1, n), np.ones(n), confidence=0.99) for _ in range(600)
        )
    ]
    assert np.mean(called) < 0.01 + 3 * math.sqrt(0.01 * 0.99 / 600)


def test_one_row_gives_no_interval() -> None:
    interval = ratio_interval([3.0], [10])
    assert (interval.value, interval.low, interval.high, interval.n) == (0.3, None, None, 1)
    assert not interval.above
    assert not interval.below


def test_rows_that_all_say_the_same_make_nothing_certain() -> None:
    """But where nothing differs at all, there is no noise to tell it from."""
    for n in (2, 30):
        interval = ratio_interval([2.0] * n, [10] * n)
        assert (interval.value, interval.low, interval.high, interval.detectable) == (0.2, None, None, None)
    assert interval.why == "all 30 rows are equal"
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


@pytest.mark.parametrize("n", [1, 2, 7, 12, 500, 4_195])
def test_a_share_of_none_or_all_has_its_end_exactly(n: int) -> None:
    assert wilson_interval(0, n).low == 0
    assert wilson_interval(n, n).high == 1


def test_an_interval_that_reaches_nothing_lies_on_no_side_of_it() -> None:
    assert not Interval(0.5, 0.0, 1.0, 9).above
    assert Interval(0.5, 1e-9, 1.0, 9).above
    assert not Interval(-0.5, -1.0, 0.0, 9).below
    assert Interval(-0.5, -1.0, -1e-9, 9).below
