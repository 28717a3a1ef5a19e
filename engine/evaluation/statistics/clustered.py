"""Uncertainty of figures from ratings that share items and raters.

Ratings of one item are correlated, and so are those of one rater: a figure does not rest on the number of
ratings. Its error is computed from sums of influences over items and over raters, minus what both count
(Cameron, Gelbach and Miller 2011), its quantile from Student's t with Satterthwaite's degrees of freedom,
as few raters say little about other raters. With fewer than MIN_RATERS raters nothing is claimed about
other people: then only items vary, and the figure holds for these raters. If ratings have weights (1 / the
probability of their item, fractions of one vote), figures are Hájek's: sums over the sum of weights. Pure
functions from arrays to numbers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse, special

from engine.evaluation.statistics.intervals import Interval, ratio_interval

MIN_RATERS = 5  # with fewer, nothing is claimed about other raters
UNSEEN_RATER_SHARE = 0.5  # of rater uncertainty that remains if raters don't seem to differ; by simulation
SPARSE_FACTOR = 16  # range, in multiples of the count, above which sorting is faster than a table
MIN_ITEMS = 5  # with fewer, there is no interval

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
VarianceUnits = Literal["items", "items and raters"]


class VarianceEstimate(NamedTuple):
    """For each figure: the variance of its estimate, its degrees of freedom, the part of the variance due to
    raters, and the part shared by ratings of one item by one rater.
    """

    variance: Floats
    degrees: Floats
    of_raters: Floats
    of_cells: Floats


@dataclass(frozen=True)
class RatingClusters:
    """Which ratings share an item or a rater, as arbitrary integers. weight: of each rating, if not all
    equal.
    """

    item: Ints
    rater: Ints
    weight: Floats | None = None

    @cached_property
    def shares(self) -> Floats:
        """Share of each rating in a mean; they sum to 1."""
        weight = np.ones(len(self.item)) if self.weight is None else self.weight
        shares: Floats = weight / weight.sum()
        return shares

    @cached_property
    def effective_items(self) -> float:
        """Kish's effective number of items: fewer if items differ in their number of ratings or in weight."""
        return _compute_effective_count(np.bincount(self.item_place, self.shares).astype(np.float64))

    @cached_property
    def item_place(self) -> Ints:
        """Item index of each rating, from 0."""
        return index_values(self.item)

    @cached_property
    def rater_place(self) -> Ints:
        """Rater index of each rating, from 0."""
        return index_values(self.rater)

    @cached_property
    def cell_place(self) -> Ints:
        """Index of each rating's combination of item and rater."""
        return index_values(self.item_place * self.raters + self.rater_place)

    @cached_property
    def items(self) -> int:
        """Number of items."""
        return int(self.item_place.max(initial=-1)) + 1

    @cached_property
    def raters(self) -> int:
        """Number of raters."""
        return int(self.rater_place.max(initial=-1)) + 1

    @property
    def over(self) -> VarianceUnits:
        """What varies between repetitions."""
        return "items and raters" if self.raters >= MIN_RATERS else "items"

    @property
    def independent(self) -> bool:
        """Whether every item has one rating and only items vary: then no two ratings are correlated."""
        alike = self.weight is None or bool(np.ptp(self.weight) <= 1e-9 * self.weight.max(initial=0.0))
        return self.over == "items" and self.items == len(self.item) and alike

    @cached_property
    def item_degrees(self) -> float:
        """Effective number of items minus one."""
        return max(1.0, self.effective_items - 1)

    @cached_property
    def rater_degrees(self) -> float:
        """Effective number of raters minus one."""
        return max(
            1.0, _compute_effective_count(np.bincount(self.rater_place, self.shares).astype(np.float64)) - 1
        )

    def mean(self, values: Floats) -> float:
        """Return the mean of ratings; exactly their value if all are the same."""
        return float(values[0]) if np.ptp(values) == 0 else float(self.shares @ values)

    def spread(self, influence: Floats, contrasts: Floats | None = None) -> VarianceEstimate:
        """Estimate the variance of figures [k] from the ratings' influences on them [n, k]: the estimate
        minus the truth is approximately their sum.

        With `contrasts` [c, k], estimate the variance of these linear combinations of the figures instead:
        a thousand contrasts of a few figures need no sums of their own.
        """
        of_items = _sum_cluster_squares(influence, self.item_place, self.items, contrasts)
        cell = self.cell_place
        of_cells = _sum_cluster_squares(influence, cell, int(cell.max(initial=-1)) + 1, contrasts)
        if self.over == "items":
            degrees = np.full(len(of_items), self.item_degrees)
            return VarianceEstimate(of_items, degrees, np.zeros_like(of_items), of_cells)
        sums = _sum_cluster_squares(influence, self.rater_place, self.raters, contrasts)
        of_raters = np.maximum(0.0, sums - of_cells)
        whole = of_items + of_raters
        doubt = np.where(of_raters > 0, 1.0, UNSEEN_RATER_SHARE) * np.square(sums)
        unsure = np.square(of_items) / self.item_degrees + doubt / self.rater_degrees
        with np.errstate(divide="ignore", invalid="ignore"):
            degrees = np.where(unsure > 0, np.square(whole) / unsure, self.item_degrees)
        return VarianceEstimate(whole, np.clip(degrees, 1.0, self.item_degrees), of_raters, of_cells)


def index_values(numbers: Ints) -> Ints:
    """Return the index of each number, from 0, among the sorted distinct ones."""
    lowest, highest = int(numbers.min(initial=0)), int(numbers.max(initial=0))
    if highest - lowest > SPARSE_FACTOR * len(numbers):
        return np.unique(numbers, return_inverse=True)[1].astype(np.int64)
    present = np.zeros(highest - lowest + 1, np.int64)  # called often for each rater's figures: avoid sorting
    present[numbers - lowest] = 1
    places: Ints = (np.cumsum(present) - 1)[numbers - lowest]
    return places


def _compute_effective_count(sizes: Floats) -> float:
    return float(sizes.sum() ** 2 / np.square(sizes).sum()) if len(sizes) else 0.0


def _sum_cluster_squares(influence: Floats, place: Ints, clusters: int, contrasts: Floats | None) -> Floats:
    """Return the sum over clusters of the squared sums, times n / (n - 1) for the estimated mean."""
    sums = sum_by_cluster(influence, place, clusters)
    if contrasts is None:
        squares: Floats = np.square(sums).sum(axis=0)
    else:
        squares = np.maximum(0.0, ((contrasts @ (sums.T @ sums)) * contrasts).sum(axis=1))
    return squares * (clusters / max(1, clusters - 1))


def sum_by_cluster(values: Floats, place: Ints, clusters: int) -> Floats:
    """Return sums [clusters, k] of values [n, k]."""
    n = len(place)
    if values.shape[1] == 1:
        return np.bincount(place, values[:, 0], clusters).astype(np.float64, copy=False)[:, None]
    picks = sparse.csr_array((np.ones(n), (place, np.arange(n))), shape=(clusters, n))
    return np.asarray(picks @ values, np.float64)


def estimate_mean(
    values: ArrayLike, clusters: RatingClusters, *, bounds: tuple[float, float], confidence: float = 0.95
) -> Interval:
    """Estimate the mean of ratings within known bounds, with Student's t; if only items vary, as a ratio of
    sums over items, with limits widened for skewness.
    """
    ratings = np.asarray(values, np.float64)
    n, value = len(ratings), clusters.mean(ratings) if len(ratings) else math.nan
    if why := describe_too_few(clusters, n):
        return Interval(value, None, None, n, why=why)
    if clusters.over == "items" and np.ptp(ratings):
        return _estimate_over_items(ratings, clusters, bounds, confidence)
    spread = clusters.spread((clusters.shares * (ratings - value))[:, None])
    error = math.sqrt(float(spread.variance[0]))
    if error <= 1e-12 * max(1.0, abs(value)):
        return Interval(value, None, None, n, why=f"all {n:,} ratings are equal")
    half = float(special.stdtrit(spread.degrees[0], (1 + confidence) / 2)) * error
    return Interval(value, max(bounds[0], value - half), min(bounds[1], value + half), n, error)


def _estimate_over_items(
    ratings: Floats, clusters: RatingClusters, bounds: tuple[float, float], confidence: float
) -> Interval:
    sums, weights = (
        np.bincount(clusters.item_place, part) for part in (clusters.shares * ratings, clusters.shares)
    )
    value = clusters.mean(ratings)
    if np.ptp(sums / weights) <= 1e-12:
        return Interval(value, None, None, len(ratings), why=f"all {len(sums):,} items are equal")
    at = ratio_interval(sums, weights, confidence=confidence)
    if at.low is None or at.high is None:
        why = f"one of {len(sums):,} items has half of the weight"
        return Interval(value, None, None, len(ratings), why=why)
    return Interval(value, max(bounds[0], at.low), min(bounds[1], at.high), len(ratings), at.se)


def estimate_share(hits: ArrayLike, clusters: RatingClusters, *, confidence: float = 0.95) -> Interval:
    """Estimate a share of ratings, with Wilson's interval at the effective number of independent ratings
    (after Korn and Graubard 1998). `n` is the number of ratings.
    """
    right = np.asarray(hits, np.float64)
    n = len(right)
    if not n:
        return Interval(math.nan, None, None, 0, why="there are no ratings")
    value = clusters.mean(right)
    low, high = _wilson(value, max(1.0, _count_independent(right, clusters, confidence)), confidence)
    return Interval(value, low, high, n)


def _count_independent(right: Floats, clusters: RatingClusters, confidence: float) -> float:
    """Return the equivalent number of independent ratings, never more than there are."""
    n, value = len(right), clusters.mean(right)
    plain = value * (1 - value) / n
    if clusters.independent:
        return float(n)
    if plain == 0:  # no evidence of the correlation within items: assume it is perfect
        return clusters.effective_items
    spread = clusters.spread((clusters.shares * (right - value))[:, None])
    design = max(1.0, float(spread.variance[0]) / plain)
    level = (1 + confidence) / 2
    wider = float(special.stdtrit(spread.degrees[0], level) / special.stdtrit(max(1, n - 1), level))
    return n / (design * max(1.0, wider) ** 2)


def _wilson(value: float, n: float, confidence: float) -> tuple[float, float]:
    """Return Wilson's limits for a number of ratings that need not be an integer."""
    z = float(special.ndtri((1 + confidence) / 2))
    centre = (value + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(value * (1 - value) / n + z * z / (4 * n * n))
    return max(0.0, min(value, centre - half)), min(1.0, max(value, centre + half))


def describe_too_few(clusters: RatingClusters, n: int) -> str:
    """Return why there are too few ratings for an interval; empty if there are enough."""
    if not n:
        return "there are no ratings"
    if clusters.items < MIN_ITEMS:
        items = "there is only one item" if clusters.items == 1 else f"{clusters.items} items are too few"
        return f"{items} (from {MIN_ITEMS} on there is an interval)"
    if clusters.effective_items < MIN_ITEMS:
        equal = f"{clusters.effective_items:.1f}"
        return f"{clusters.items:,} items of unequal weight are equivalent to {equal} of equal weight"
    return ""
