"""How well a score separates two groups of rows: area under the ROC curve, with intervals.

The area is the probability that a row of the first group scores higher than one of the second, ties
counting half. Its variance and that of a paired difference of two areas are DeLong's (1988), by ranks (Sun
and Xu 2014); the interval is computed on the logit scale, so that it stays within 0 and 1. If the groups
are separated completely, DeLong's variance is 0, and Newcombe's (2006, method 5) interval is used instead:
complete separation of few rows does not imply it for all. Pure and seeded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special, stats

from engine.evaluation.statistics.intervals import Interval, wilson_interval

RESAMPLES = 2_000

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Placements:
    """For each row of the two groups, the share of the other group that it is on the right side of."""

    first: Floats
    second: Floats

    @property
    def area(self) -> float:
        """Area under the ROC curve."""
        return float(self.first.mean())

    @property
    def variance(self) -> float:
        """DeLong's variance; NaN if a group has one row."""
        return _compute_variance(self.first, self.second)


def compute_placements(first: ArrayLike, second: ArrayLike) -> Placements:
    """Compute the placements of two groups. Raises ValueError if a group is empty or a score is not
    finite.
    """
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if not len(a) or not len(b):
        raise ValueError(f"Groups of {len(a)} and {len(b)} rows can't be distinguished.")
    if not np.isfinite(a).all() or not np.isfinite(b).all():
        raise ValueError("Scores must be finite.")
    whole = stats.rankdata(np.concatenate([a, b]))
    above = (whole[: len(a)] - stats.rankdata(a)) / len(b)
    below = 1 - (whole[len(a) :] - stats.rankdata(b)) / len(a)
    return Placements(above, below)


def auc(first: ArrayLike, second: ArrayLike, *, confidence: float = 0.95) -> Interval:
    """Estimate the area under the ROC curve; n is the number of rows of both groups."""
    placed = compute_placements(first, second)
    n, z = len(placed.first) + len(placed.second), float(special.ndtri((1 + confidence) / 2))
    area, variance = placed.area, placed.variance
    if min(len(placed.first), len(placed.second)) < 2:
        return Interval(area, None, None, n)
    if area in (0.0, 1.0) or variance <= 1e-15:
        low, high = _compute_hanley_mcneil_limits(area, len(placed.first), len(placed.second), z)
        return Interval(area, low, high, n, None, None)
    error = math.sqrt(variance)
    half = z * error / (area * (1 - area))
    centre = float(special.logit(area))
    low, high = float(special.expit(centre - half)), float(special.expit(centre + half))
    return Interval(area, low, high, n, error, (z + float(special.ndtri(0.8))) * error)


def compare_auc(score: Placements, other: Placements, *, confidence: float = 0.95) -> Interval:
    """Estimate the area of `score` minus that of `other`, two scores of the same rows."""
    n = len(score.first) + len(score.second)
    value = score.area - other.area
    if min(len(score.first), len(score.second)) < 2:
        return Interval(value, None, None, n)
    error = math.sqrt(_compute_variance(score.first - other.first, score.second - other.second))
    z = float(special.ndtri((1 + confidence) / 2))
    reach = (z + float(special.ndtri(0.8))) * error
    return Interval(value, value - z * error, value + z * error, n, error, reach)


def _compute_variance(first: Floats, second: Floats) -> float:
    if min(len(first), len(second)) < 2:
        return math.nan
    return float(first.var(ddof=1) / len(first) + second.var(ddof=1) / len(second))


def _compute_hanley_mcneil_limits(area: float, m: int, n: int, z: float) -> tuple[float, float]:
    """Return the range of true areas that are at most z standard errors from the observed one, with the error
    of two exponential distributions and balanced groups (Hanley and McNeil 1982).
    """
    extra = (m + n) / 2 - 1

    def distance(true: float) -> float:
        spread = 1 + extra * ((1 - true) / (2 - true) + true / (1 + true))
        return abs(area - true) - z * math.sqrt(true * (1 - true) * spread / (m * n))

    inside = min(max(area, 1e-9), 1 - 1e-9)  # at 0 and 1 the error is 0 too
    low = optimize.brentq(distance, 1e-12, inside) if distance(1e-12) > 0 > distance(inside) else 0.0
    high = optimize.brentq(distance, inside, 1 - 1e-12) if distance(1 - 1e-12) > 0 > distance(inside) else 1.0
    return float(low), float(high)


@dataclass(frozen=True)
class TruePositiveRate:
    """Share of the first group above a threshold that at most `allowed` rows of the second exceed.

    finest: the smallest false positive rate that the second group's number of rows can distinguish from 0.
    """

    share: Interval
    allowed: int
    finest: float


def estimate_tpr_at_fpr(
    first: ArrayLike, second: ArrayLike, false_alarms: float = 0.01, *, seed: int = 0
) -> TruePositiveRate:
    """Estimate the true positive rate at that false positive rate, with the threshold taken from the second
    group.

    The interval is the wider of a bootstrap of both groups and Wilson's: the first accounts for the
    estimated threshold, the second for the fact that none found among few does not mean none ever.
    """
    a, b = np.sort(np.asarray(first, np.float64)), np.sort(np.asarray(second, np.float64))
    allowed = math.floor(false_alarms * len(b) + 1e-9)
    place = len(b) - 1 - allowed  # index of the threshold, in ascending order
    hits = _count_above(a, b[place])
    whole = wilson_interval(int(hits), len(a))
    random = np.random.default_rng(seed)
    drawn = random.integers(0, len(b), (RESAMPLES, len(b)), dtype=np.int32)
    shares = _count_above(a, b[np.partition(drawn, place, axis=1)[:, place]]) / len(a)
    low, high = np.quantile(random.binomial(len(a), shares) / len(a), [0.025, 0.975])
    low, high = min(float(low), whole.low or 0.0), max(float(high), whole.high or 0.0)
    return TruePositiveRate(Interval(whole.value, low, high, len(a)), allowed, 1 / len(b))


def _count_above(ordered: Floats, threshold: float | Floats) -> NDArray[np.int64]:
    return np.asarray(len(ordered) - np.searchsorted(ordered, threshold, side="right"))
