"""Comparison of shares: the same questions asked before and after, or shares of different rows.

Among paired items only those that flip are informative: McNemar's test, with Tango's (1998) interval of
the change. Shares of different rows have Newcombe's (1998) interval, which stays valid at 0 and 1. Pure
functions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special

from engine.evaluation.statistics import intervals
from engine.evaluation.statistics.intervals import Interval, ratio_interval, wilson_interval
from store.evaluation.forgetting_schemas import AnswerFlips, ChanceCorrectedFlips

# The same questions asked before and after: answers lost and won, and whether that can be luck.
#
# Items are paired, so only those that flip are informative: `lost` were right and are wrong, `won` the
# reverse. The change of accuracy has Tango's (1998) score interval, which excludes 0 if McNemar's statistic
# is significant, and stays valid if nothing flipped: none in n does not mean never. The p-value is exact if
# fewer than 25 items flipped.
#
# Flips by luck: assume that a model knows an item or guesses among its k options. Guesses are right in 1 of k
# cases and wrong in k - 1 of k, so that for every wrong guess, 1/(k - 1) were right by luck: the mass of
# lucky answers is (1 - accuracy) / (k - 1). An item that is wrong after was not known after; if it was not
# known before either, it was right before by luck in 1/(k - 1) of the cases in which it was wrong. So of all
# items P(wrong, wrong) / (k - 1) go from right to wrong with no knowledge lost, and as many from wrong to
# right. This assumes that the two guesses are independent. A model mostly guesses the same way twice, so this
# is the most that luck can explain, and the rest is the least that was lost. Luck is equally frequent in both
# directions: a significant drop in accuracy is beyond it in any case.

EXACT_BELOW = 25  # flips; with fewer, McNemar's test is the exact binomial one


def mcnemar(lost: int, won: int) -> float:
    """Return the two-sided p-value of equally many flips each way; exact below 25 flips, otherwise
    chi-squared (McNemar 1947).
    """
    flips = lost + won
    if flips == 0:
        return 1.0
    if flips < EXACT_BELOW:
        return min(1.0, 2 * float(special.bdtr(min(lost, won), flips, 0.5)))
    return float(special.chdtrc(1, (lost - won) ** 2 / flips))


def estimate_paired_change(lost: float, won: float, n: float, *, confidence: float = 0.95) -> Interval:
    """Estimate (won - lost) / n with Tango's score interval, and the change that n items show in 80 of 100
    cases.

    The expected flips are the observed ones plus one each way (Bonett and Price 2012), as none observed
    doesn't mean that none will occur. Clustered items count as fewer, not necessarily an integer. Raises
    ValueError unless the flips fit into n items.
    """
    if n <= 0 or min(lost, won) < 0 or lost + won > n * (1 + 1e-12):
        raise ValueError(f"{lost} lost and {won} won do not fit into {n} items.")
    value = (won - lost) / n
    z = float(special.ndtri((1 + confidence) / 2))

    def beyond(change: float) -> float:
        return _compute_score(won, lost, n, change)

    low, high = -1.0, 1.0
    if beyond(-1 + 1e-12) > z:
        low = optimize.brentq(lambda d: beyond(d) - z, -1 + 1e-12, value)
    if beyond(1 - 1e-12) < -z:
        high = optimize.brentq(lambda d: beyond(d) + z, value, 1 - 1e-12)
    error = math.sqrt((lost + won + 2) / (n + 2) / n)
    return Interval(value, float(low), float(high), round(n), error, (z + float(special.ndtri(0.8))) * error)


def estimate_answer_change(before: ArrayLike, after: ArrayLike, *, confidence: float = 0.95) -> Interval:
    """Apply `estimate_paired_change` to two arrays of answers, 1 for right and 0 for wrong, one entry per
    item.
    """
    first, second = np.asarray(before, np.float64), np.asarray(after, np.float64)
    lost, won = int((first > second).sum()), int((second > first).sum())
    return estimate_paired_change(lost, won, len(first), confidence=confidence)


def _compute_score(won: float, lost: float, n: float, change: float) -> float:
    """Return by how many standard errors the flips exceed a true `change`. The share of lost items has its
    most likely value under that change, the larger root of 2n q^2 + half q = rest.
    """
    half = -won - lost + (2 * n - won + lost) * change
    rest = lost * change * (1 - change)
    share = (math.sqrt(max(0.0, half * half + 8 * n * rest)) - half) / (4 * n)
    variance = n * (2 * share + change * (1 - change))
    excess = won - lost - n * change
    if variance <= 1e-15 * n:
        return 0.0 if abs(excess) < 1e-12 * n else math.copysign(math.inf, excess)
    return excess / math.sqrt(variance)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values: testing them at alpha, at most alpha of the families contain a false alarm (Holm
    1979).
    """
    count = len(p_values)
    adjusted, highest = [1.0] * count, 0.0
    for rank, index in enumerate(sorted(range(count), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (count - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def count_flips(before: ArrayLike, after: ArrayLike, options: ArrayLike) -> AnswerFlips:
    """Build the document of some items: `before` and `after` are 0 or 1, `options` the number of each one's
    options. Raises ValueError for no items, or unequal lengths.
    """
    first, second, count = (np.asarray(a, np.int64) for a in (before, after, options))
    n = len(first)
    if not n or not first.shape == second.shape == count.shape:
        raise ValueError(f"{len(first)}, {len(second)} and {len(count)} values are not one an item each.")
    if (count < 2).any():
        raise ValueError(f"{int((count < 2).sum())} of {n} items have fewer than two options.")
    lost, won = int((first > second).sum()), int((second > first).sum())
    change = estimate_answer_change(first, second)
    return AnswerFlips(
        n=n,
        before=wilson_interval(int(first.sum()), n).to_estimate(),
        after=wilson_interval(int(second.sum()), n).to_estimate(),
        change=change.to_estimate(),
        detectable=change.detectable,
        lost=lost,
        won=won,
        p=mcnemar(lost, won),
        test="exact" if lost + won < EXACT_BELOW else "chi-squared",
        adjusted=ChanceCorrectedFlips(
            lost=estimate_beyond_chance(first, second, count).to_estimate(),
            won=estimate_beyond_chance(second, first, count).to_estimate(),
        ),
    )


def estimate_beyond_chance(before: ArrayLike, after: ArrayLike, options: ArrayLike) -> Interval:
    """Estimate the share of items that went from right to wrong, minus the most that luck explains; below 0
    if luck explains more than was observed.
    """
    first, second, count = (np.asarray(a, np.float64) for a in (before, after, options))
    lost = first * (1 - second)
    lucky: NDArray[np.float64] = (1 - first) * (1 - second) / (count - 1)
    return ratio_interval(lost - lucky, np.ones(len(first)))


def estimate_share_difference(first: tuple[int, int], second: tuple[int, int]) -> Interval:
    """Estimate the share of the first minus that of the second, each (hits, rows). Raises ValueError for no
    rows.
    """
    apart = intervals.subtract_estimates(wilson_interval(*first), wilson_interval(*second))
    assert apart.low is not None
    assert apart.high is not None
    return replace(apart, low=max(-1.0, apart.low), high=min(1.0, apart.high))
