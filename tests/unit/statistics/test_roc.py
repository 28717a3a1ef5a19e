"""Areas under ROC curves against scikit-learn, brute force and published figures."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from engine.evaluation.statistics.roc import auc, compare_auc, compute_placements, estimate_tpr_at_fpr


def ratings(counts: list[int]) -> np.ndarray:
    return np.repeat(np.arange(1, len(counts) + 1), counts)


# Hanley and McNeil 1982, table I: 109 CT images, 51 of them abnormal, rated 1 to 5.
NORMAL, ABNORMAL = ratings([33, 6, 6, 11, 2]), ratings([3, 2, 2, 11, 33])


def test_as_published() -> None:
    interval = auc(ABNORMAL, NORMAL)
    assert interval.value == pytest.approx(0.8932, abs=5e-5)
    assert interval.se == pytest.approx(0.0307, abs=5e-5)  # DeLong, as Stata's manual gives it for these data
    assert interval.n == 109


def test_against_scikit_learn_and_brute_force() -> None:
    random = np.random.default_rng(0)
    a, b = np.round(random.normal(0.7, 1, 60), 1), np.round(random.normal(0, 1.3, 80), 1)
    placement = compute_placements(a, b)
    wins = (a[:, None] > b).astype(float) + 0.5 * (a[:, None] == b)
    assert placement.area == pytest.approx(roc_auc_score([1] * 60 + [0] * 80, [*a, *b]))
    assert placement.first == pytest.approx(wins.mean(axis=1))
    assert placement.second == pytest.approx(wins.mean(axis=0))
    variance = wins.mean(axis=1).var(ddof=1) / 60 + wins.mean(axis=0).var(ddof=1) / 80
    assert placement.variance == pytest.approx(variance)


def test_difference_of_two_scores_against_a_bootstrap() -> None:
    random = np.random.default_rng(1)
    a, b = random.normal(0.5, 1, (2, 150)), random.normal(0, 1, (2, 150))
    a[1], b[1] = a[0] + 0.5 * a[1], b[0] + 0.5 * b[1]
    interval = compare_auc(compute_placements(a[0], b[0]), compute_placements(a[1], b[1]))
    draws = []
    for _ in range(800):
        i, j = random.integers(0, 150, (2, 150))
        draws.append(compute_placements(a[0][i], b[0][j]).area - compute_placements(a[1][i], b[1][j]).area)
    assert interval.se == pytest.approx(np.std(draws), rel=0.09)
    same = compare_auc(compute_placements(a[0], b[0]), compute_placements(a[0], b[0]))
    assert (same.value, same.low, same.high) == (0, 0, 0)


@pytest.mark.parametrize("shift", [0.0, 1.0, 2.5])
def test_the_interval_holds_the_truth(shift: float) -> None:
    from scipy.special import ndtr

    random = np.random.default_rng(2)
    truth, held = ndtr(shift / np.sqrt(2)), 0
    for _ in range(500):
        interval = auc(random.normal(shift, 1, 32), random.normal(0, 1, 32))
        held += interval.low <= truth <= interval.high
    assert held / 500 >= 0.93


def test_parted_completely_is_not_parted_for_ever() -> None:
    interval = auc(np.arange(10, 20), np.arange(10))
    assert (interval.value, interval.high) == (1, 1)
    assert 0.6 < interval.low < 0.9
    assert auc(np.arange(10), np.arange(10, 20)).high == pytest.approx(1 - interval.low)
    more = auc(np.arange(100, 200), np.arange(100))
    assert more.low > 0.95
    # Newcombe's equation holds at the limit
    extra, t = 9, interval.low
    spread = 1 + extra * ((1 - t) / (2 - t) + t / (1 + t))
    assert (1 - t) == pytest.approx(1.959964 * np.sqrt(t * (1 - t) * spread / 100), rel=1e-5)


def test_caught_at_one_percent() -> None:
    random = np.random.default_rng(3)
    a, b = random.normal(2, 1, 400), random.normal(0, 1, 300)
    caught = estimate_tpr_at_fpr(a, b)
    false, true, _ = roc_curve([1] * 400 + [0] * 300, [*a, *b], drop_intermediate=False)
    assert caught.share.value == pytest.approx(true[false <= 0.01].max())
    assert (caught.allowed, caught.finest) == (3, 1 / 300)
    assert 0.2 < caught.share.low < 0.37 < caught.share.high < 0.65  # the truth: 1 - Phi(2.326 - 2)


def test_few_rows_say_what_they_can_resolve() -> None:
    caught = estimate_tpr_at_fpr([1.0, 2.0, 3.0], np.arange(20) / 20)
    assert (caught.allowed, caught.finest) == (0, 1 / 20)
    assert (caught.share.value, caught.share.high) == (1, 1)
    assert caught.share.low < 0.5
    nothing = estimate_tpr_at_fpr(np.zeros(50), np.ones(50))
    assert nothing.share.value == 0
    assert nothing.share.high > 0.05


def test_groups_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match="0 and 2 rows"):
        auc([], [1.0, 2.0])
    with pytest.raises(ValueError, match="finite"):
        auc([np.nan], [1.0])
    assert auc([1.0], [0.0, 2.0]).low is None


def test_the_share_caught_holds_the_truth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.evaluation.statistics.roc.RESAMPLES", 300)
    random, held = np.random.default_rng(6), 0
    for seed in range(120):
        share = estimate_tpr_at_fpr(random.normal(2, 1, 200), random.normal(0, 1, 400), seed=seed).share
        held += share.low <= 0.372 <= share.high
    assert held / 120 >= 0.88
