"""Uncertainty of figures whose ratings share items and raters.

Ratings of one item are alike, and so are those of one rater: the number of ratings is not what a figure rests
on. Its error is taken from sums of influences over items and over raters, less what both count (Cameron,
Gelbach and Miller 2011), its quantile from Student's t with Satterthwaite's degrees of freedom, as few raters
know little of other raters. With under MIN_RATERS of them nothing is claimed of other people: then items
alone vary, and the figure holds for these raters. Where ratings have weights (1 / the chance of their item,
parts of one vote) figures are those of Hájek: sums over the sum of weights. Pure: arrays in, numbers out.
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

MIN_RATERS = 5  # under which nothing is said of raters who did not rate
UNSEEN_RATER_SHARE = (
    0.5  # of the doubt about raters that is left where they don't seem to differ, chosen by simulation
)
SPARSE_FACTOR = (
    16  # times as many numbers as are numbered, from which on sorting them is quicker than a table
)
MIN_ITEMS = 5  # under which no interval is given

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
VarianceUnits = Literal["items", "items and raters"]


class VarianceEstimate(NamedTuple):
    """Of each figure: the variance of its estimate, the degrees of freedom behind that, the part of it that
    comes of the raters, and the part that ratings of one item by one rater have in common."""

    variance: Floats
    degrees: Floats
    of_raters: Floats
    of_cells: Floats


@dataclass(frozen=True)
class RatingClusters:
    """Which ratings share an item or a rater; any whole numbers. weight: of each, where not all are alike."""

    item: Ints
    rater: Ints
    weight: Floats | None = None

    @cached_property
    def shares(self) -> Floats:
        """Of each rating in a mean; they sum to 1."""
        weight = np.ones(len(self.item)) if self.weight is None else self.weight
        shares: Floats = weight / weight.sum()
        return shares

    @cached_property
    def effective_items(self) -> float:
        """Kish: items of many ratings, or of large weights, say less than their number."""
        return _compute_effective_count(np.bincount(self.item_place, self.shares).astype(np.float64))

    @cached_property
    def item_place(self) -> Ints:
        """Of each rating, from 0 on."""
        return index_values(self.item)

    @cached_property
    def rater_place(self) -> Ints:
        """Of each rating, from 0 on."""
        return index_values(self.rater)

    @cached_property
    def cell_place(self) -> Ints:
        """Of each rating the place of its item and rater together."""
        return index_values(self.item_place * self.raters + self.rater_place)

    @cached_property
    def items(self) -> int:
        """How many there are."""
        return int(self.item_place.max(initial=-1)) + 1

    @cached_property
    def raters(self) -> int:
        """How many there are."""
        return int(self.rater_place.max(initial=-1)) + 1

    @property
    def over(self) -> VarianceUnits:
        """What varies from round to round."""
        return "items and raters" if self.raters >= MIN_RATERS else "items"

    @property
    def independent(self) -> bool:
        """Every item has one rating, and nothing is said of other raters: then no two ratings are alike."""
        alike = self.weight is None or bool(np.ptp(self.weight) <= 1e-9 * self.weight.max(initial=0.0))
        return self.over == "items" and self.items == len(self.item) and alike

    @cached_property
    def item_degrees(self) -> float:
        """Effective number of items less one."""
        return max(1.0, self.effective_items - 1)

    @cached_property
    def rater_degrees(self) -> float:
        """The same of raters."""
        return max(
            1.0, _compute_effective_count(np.bincount(self.rater_place, self.shares).astype(np.float64)) - 1
        )

    def mean(self, values: Floats) -> float:
        """Of ratings; exactly theirs where all are the same."""
        return float(values[0]) if np.ptp(values) == 0 else float(self.shares @ values)

    def spread(self, influence: Floats, contrasts: Floats | None = None) -> VarianceEstimate:
        """Of figures [k] that ratings have these influences on [n, k]: the estimate less the truth is about
        their sum. Where `contrasts` [c, k], of these sums of the figures in their place: a thousand contrasts
        of a few figures need no sums of their own."""
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
    """Of each number its place, from 0 on, among the different ones in their order."""
    lowest, highest = int(numbers.min(initial=0)), int(numbers.max(initial=0))
    if highest - lowest > SPARSE_FACTOR * len(numbers):
        return np.unique(numbers, return_inverse=True)[1].astype(np.int64)
    present = np.zeros(highest - lowest + 1, np.int64)  # figures of each rater ask often: nothing is sorted
    present[numbers - lowest] = 1
    places: Ints = (np.cumsum(present) - 1)[numbers - lowest]
    return places


def _compute_effective_count(sizes: Floats) -> float:
    return float(sizes.sum() ** 2 / np.square(sizes).sum()) if len(sizes) else 0.0


def _sum_cluster_squares(influence: Floats, place: Ints, clusters: int, contrasts: Floats | None) -> Floats:
    """Sum over clusters of the squared sums, times n / (n - 1) for what a mean takes away."""
    sums = sum_by_cluster(influence, place, clusters)
    if contrasts is None:
        squares: Floats = np.square(sums).sum(axis=0)
    else:
        squares = np.maximum(0.0, ((contrasts @ (sums.T @ sums)) * contrasts).sum(axis=1))
    return squares * (clusters / max(1, clusters - 1))


def sum_by_cluster(values: Floats, place: Ints, clusters: int) -> Floats:
    """Sums [clusters, k] of values [n, k]."""
    n = len(place)
    if values.shape[1] == 1:
        return np.bincount(place, values[:, 0], clusters).astype(np.float64, copy=False)[:, None]
    picks = sparse.csr_array((np.ones(n), (place, np.arange(n))), shape=(clusters, n))
    return np.asarray(picks @ values, np.float64)


def estimate_mean(
    values: ArrayLike, clusters: RatingClusters, *, bounds: tuple[float, float], confidence: float = 0.95
) -> Interval:
    """Of ratings within known bounds, with Student's t; where items alone vary as a ratio of sums over items,
    whose limits are moved out for skewness."""
    ratings = np.asarray(values, np.float64)
    n, value = len(ratings), clusters.mean(ratings) if len(ratings) else math.nan
    if why := describe_too_few(clusters, n):
        return Interval(value, None, None, n, why=why)
    if clusters.over == "items" and np.ptp(ratings):
        return _estimate_over_items(ratings, clusters, bounds, confidence)
    spread = clusters.spread((clusters.shares * (ratings - value))[:, None])
    error = math.sqrt(float(spread.variance[0]))
    if error <= 1e-12 * max(1.0, abs(value)):
        return Interval(value, None, None, n, why=f"all {n:,} ratings say the same")
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
        return Interval(value, None, None, len(ratings), why=f"all {len(sums):,} items say the same")
    at = ratio_interval(sums, weights, confidence=confidence)
    if at.low is None or at.high is None:
        why = f"of {len(sums):,} items one holds half of the weight"
        return Interval(value, None, None, len(ratings), why=why)
    return Interval(value, max(bounds[0], at.low), min(bounds[1], at.high), len(ratings), at.se)


def estimate_share(hits: ArrayLike, clusters: RatingClusters, *, confidence: float = 0.95) -> Interval:
    """A share of ratings, with Wilson's interval at the number of independent ratings that say as much (after
    Korn and Graubard 1998). `n` is that of the ratings."""
    right = np.asarray(hits, np.float64)
    n = len(right)
    if not n:
        return Interval(math.nan, None, None, 0, why="there is no rating")
    value = clusters.mean(right)
    low, high = _wilson(value, max(1.0, _count_independent(right, clusters, confidence)), confidence)
    return Interval(value, low, high, n)


def _count_independent(right: Floats, clusters: RatingClusters, confidence: float) -> float:
    """As many independent ratings say as much: never more than there are."""
    n, value = len(right), clusters.mean(right)
    plain = value * (1 - value) / n
    if clusters.independent:
        return float(n)
    if plain == 0:  # nothing is seen of how alike the ratings of an item are: as alike as can be
        return clusters.effective_items
    spread = clusters.spread((clusters.shares * (right - value))[:, None])
    design = max(1.0, float(spread.variance[0]) / plain)
    level = (1 + confidence) / 2
    wider = float(special.stdtrit(spread.degrees[0], level) / special.stdtrit(max(1, n - 1), level))
    return n / (design * max(1.0, wider) ** 2)


def _wilson(value: float, n: float, confidence: float) -> tuple[float, float]:
    """Its limits, of a number of ratings that need not be whole."""
    z = float(special.ndtri((1 + confidence) / 2))
    centre = (value + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(value * (1 - value) / n + z * z / (4 * n * n))
    return max(0.0, min(value, centre - half)), min(1.0, max(value, centre + half))


def describe_too_few(clusters: RatingClusters, n: int) -> str:
    """Why so little gives no interval; empty where it does."""
    if not n:
        return "there is no rating"
    if clusters.items < MIN_ITEMS:
        items = "there is only one item" if clusters.items == 1 else f"{clusters.items} items are too few"
        return f"{items} (from {MIN_ITEMS} on there is an interval)"
    if clusters.effective_items < MIN_ITEMS:
        equal = f"{clusters.effective_items:.1f}"
        return f"{clusters.items:,} items of so unequal weight say as much as {equal} of equal weight would"
    return ""
