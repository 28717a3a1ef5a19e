"""Flips of paired answers against scipy, published tables, and models that only guess."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from engine.evaluation.statistics.proportions import (
    count_flips,
    estimate_beyond_chance,
    estimate_paired_change,
    holm,
    mcnemar,
)


def test_mcnemar_by_hand_and_by_scipy() -> None:
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(1, 7) == pytest.approx(2 * (1 + 8) / 2**8)
    assert mcnemar(5, 19) == pytest.approx(stats.binomtest(5, 24).pvalue)
    # Agresti 1990, approval of the prime minister: 150 and 86 of 1,600 changed sides, z squared 17.36.
    assert mcnemar(150, 86) == pytest.approx(stats.chi2.sf(17.3559, 1), rel=1e-4)
    assert mcnemar(16, 9) == pytest.approx(stats.chi2.sf(49 / 25, 1))


@pytest.mark.parametrize(
    ("lost", "won", "n", "low", "high"),
    # Bentur et al. 2009 as in Fagerland, Lydersen and Laake 2014, table VII: Tango's interval.
    [(7, 1, 21, -0.517, -0.026)],
)
def test_tango_as_published(lost: int, won: int, n: int, low: float, high: float) -> None:
    interval = estimate_paired_change(lost, won, n)
    assert interval.value == pytest.approx((won - lost) / n)
    assert (interval.low, interval.high) == (pytest.approx(low, abs=6e-4), pytest.approx(high, abs=6e-4))


@pytest.mark.parametrize("n", [30, 640])
def test_nothing_flipped_is_not_nothing_ever(n: int) -> None:
    interval = estimate_paired_change(0, 0, n)
    assert interval.high == pytest.approx(3.8415 / (n + 3.8415), rel=1e-3)
    assert interval.low == pytest.approx(-interval.high)


@pytest.mark.parametrize(("lost", "won", "n"), [(40, 20, 160), (30, 12, 600), (12, 30, 600), (0, 26, 50)])
def test_the_interval_leaves_out_zero_where_the_test_is_significant(lost: int, won: int, n: int) -> None:
    p = mcnemar(lost, won)
    z = stats.norm.isf(p / 2)
    touching = estimate_paired_change(lost, won, n, confidence=1 - p)
    assert min(abs(touching.low), abs(touching.high)) < 1e-6, z
    mirrored = estimate_paired_change(won, lost, n)
    assert mirrored.low == pytest.approx(-estimate_paired_change(lost, won, n).high)


def test_limits_when_everything_flips() -> None:
    interval = estimate_paired_change(20, 0, 20)
    assert interval.value == -1
    assert interval.low == -1
    assert -1 < interval.high < -0.6


@pytest.mark.parametrize(("discordance", "n", "change"), [(0.2, 626, 0.05), (0.1, 870, 0.03)])
def test_detectable_change(discordance: float, n: int, change: float) -> None:
    half = round(discordance * n / 2)
    assert estimate_paired_change(half, half, n).detectable == pytest.approx(change, abs=8e-4)


def test_equal_models_are_not_called_different_more_often_than_alpha() -> None:
    generator = np.random.default_rng(3)
    called = covered = 0
    for _ in range(800):
        n = int(generator.integers(40, 700))
        lost, won, _ = generator.multinomial(n, [0.08, 0.08, 0.84])
        called += mcnemar(int(lost), int(won)) < 0.05
        interval = estimate_paired_change(int(lost), int(won), n)
        covered += interval.low <= 0 <= interval.high
    assert called / 800 <= 0.065
    assert covered / 800 == pytest.approx(0.95, abs=0.02)


def test_holm_by_hand() -> None:
    # Holm 1979's procedure on four p-values.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def guessing(knows: np.ndarray, k: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    return (knows | (generator.random(len(k)) < 1 / k)).astype(int)


def test_luck_alone_is_taken_off() -> None:
    """Nothing is lost, half of the items are guessed anew: a tenth flips each way, and none beyond luck."""
    generator = np.random.default_rng(4)
    k = generator.integers(2, 6, 40_000)
    knows = generator.random(len(k)) < 0.5
    before, after = (guessing(knows, k, generator) for _ in range(2))
    document = count_flips(before, after, k)
    assert document.lost / len(k) > 0.08
    for share in (document.adjusted.lost, document.adjusted.won):
        assert abs(share.value) < 0.006
        assert share.low < 0 < share.high


def test_lost_knowledge_is_found() -> None:
    generator = np.random.default_rng(5)
    k = np.full(40_000, 4)
    draw = generator.random(len(k))
    before = guessing(draw < 0.6, k, generator)
    after = guessing(draw < 0.4, k, generator)  # a fifth is not known any more, 3 of 4 of it are then wrong
    assert estimate_beyond_chance(before, after, k).value == pytest.approx(0.2 * 3 / 4, abs=0.01)
    assert estimate_beyond_chance(after, before, k).value == pytest.approx(0.0, abs=0.01)


def test_the_document() -> None:
    document = count_flips([1, 1, 0, 0, 1], [1, 0, 1, 0, 0], [4] * 5)
    assert (document.n, document.lost, document.won, document.test) == (5, 2, 1, "exact")
    assert document.before.value == 0.6
    assert document.after.value == 0.4
    assert document.change.value == pytest.approx(-0.2)
    assert document.adjusted.lost.value == pytest.approx((2 - 1 / 3) / 5)


@pytest.mark.parametrize(("before", "after", "options"), [([], [], []), ([1], [1, 0], [4]), ([1], [0], [1])])
def test_items_that_are_none_are_refused(before: list, after: list, options: list) -> None:
    with pytest.raises(ValueError, match=r"values are not|fewer than two"):
        count_flips(before, after, options)
    with pytest.raises(ValueError, match="do not fit"):
        estimate_paired_change(3, 3, 5)
