"""Settings told apart by more than what their seeds do, and only then."""

from __future__ import annotations

import numpy as np
import pytest

from engine.evaluation.comparison import run_comparison
from engine.evaluation.statistics.intervals import Interval, ratio_interval

ROWS = 120
TOKENS = np.random.default_rng(0).integers(5, 50, ROWS)
LOSS = np.random.default_rng(1).gamma(5, 0.4, ROWS) * TOKENS


def made(rng: np.random.Generator, runs: int, *, effect: float = 0.0, by_seed: float = 0.05) -> np.ndarray:
    """Runs of one setting: each seed moves all rows alike, and each row by itself."""
    shared = rng.normal(effect, by_seed, (runs, 1))
    return LOSS + TOKENS * (shared + rng.normal(0, 0.1, (runs, ROWS)))


def separated(interval: Interval) -> bool:
    return interval.above or interval.below


@pytest.mark.parametrize("runs", [1, 2, 3])
def test_seeds_alone_are_not_called_different_more_often_than_said(runs: int) -> None:
    rng = np.random.default_rng(7)
    called = by_rows = 0
    trials = 400
    for _ in range(trials):
        first, second, third = made(rng, runs), made(rng, runs), made(rng, 3)
        spread = run_comparison.estimate_seed_spread([first, second, third], TOKENS)
        assert spread is not None
        called += separated(run_comparison.compare_settings(first, second, TOKENS, spread))
        by_rows += separated(ratio_interval(second[0] - first[0], TOKENS))
    assert called / trials <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / trials)
    assert by_rows / trials > 0.3  # which is why rows alone don't judge a setting


def test_settings_that_differ_by_more_than_seeds_do_are_told_apart() -> None:
    rng = np.random.default_rng(3)
    first, second = made(rng, 3), made(rng, 3, effect=0.4)
    spread = run_comparison.estimate_seed_spread([first, second], TOKENS)
    assert spread is not None
    assert spread.degrees == 4
    interval = run_comparison.compare_settings(first, second, TOKENS, spread)
    assert interval.above
    assert interval.low < 0.4 < interval.high
    assert interval.n == ROWS


def test_more_seeds_and_more_comparisons_move_the_interval() -> None:
    spread = run_comparison.SeedSpread(0.05, 10)
    rng = np.random.default_rng(5)
    first, second = made(rng, 6), made(rng, 6, effect=0.1)
    six, single = (run_comparison.compare_settings(first[:k], second[:k], TOKENS, spread) for k in (6, 1))
    assert six.high - six.low < single.high - single.low
    careful = run_comparison.compare_settings(first, second, TOKENS, spread, confidence=0.99)
    assert careful.low < six.low < six.high < careful.high
    assert six.detectable < single.detectable


def test_without_a_repetition_nothing_is_known_of_seeds() -> None:
    assert run_comparison.estimate_seed_spread([[LOSS], [LOSS]], TOKENS) is None
    only = run_comparison.estimate_seed_spread([[LOSS], [LOSS, LOSS + TOKENS]], TOKENS)
    assert only is not None
    assert only.degrees == 1
    assert only.deviation == pytest.approx(np.sqrt(0.5))


def test_rows_that_are_not_the_same_are_refused() -> None:
    with pytest.raises(ValueError, match="shape"):
        run_comparison.compare_settings([LOSS], [LOSS[:-1]], TOKENS, run_comparison.SeedSpread(0.1, 2))
