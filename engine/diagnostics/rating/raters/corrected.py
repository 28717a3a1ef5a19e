"""A judge's figure of a whole set, corrected by the people who rated a part of it.

Prediction-powered inference (Angelopoulos et al. 2023): weight times the judge's mean over all items, plus
the mean of people less weight times the judge over the rated ones. It is right whatever the judge is like; a
good judge only makes the interval narrower. The weight is the slope of people on judge (power-tuned, PPI++
2024), so that a judge that knows nothing costs nothing. What is unsure is the people's part by a jackknife
over the rated items, slope included, with Student's t, and the judge's part by the spread over all items.
Items must be rated by chance; where some were likelier, `weights` are 1 / their chance. Where nearly all
rated items have one value too little is seen of the others for an interval, which left out up to 12 of 100
truths. Pure.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from engine.diagnostics.statistics.statistics import Interval

LEAST_ITEMS = 20  # rated by people
LEAST_OTHERS = 8  # of them with another value than the commonest
LITTLE = 1e-6  # of the error of people alone

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Corrected:
    """corrected: the figure of the whole set; people: of the rated items alone; judge: the judge's own, not
    corrected; weight: of the judge. gain: how many times as many ratings would say as much without it."""

    corrected: Interval
    people: Interval
    judge: float
    weight: float
    rated: int
    judged: int
    gain: float


def corrected(
    judge: ArrayLike, people: ArrayLike, *, weights: ArrayLike | None = None, confidence: float = 0.95
) -> Corrected:
    """Of each item what the judge says, and what people say (the mean of several), NaN where nobody rated it.
    Of two systems give differences (or preferences): the figure is their mean.

    Raises ValueError for unequal lengths, or an item that the judge says nothing of.
    """
    said_by_judge, by_people = np.asarray(judge, np.float64), np.asarray(people, np.float64)
    if said_by_judge.shape != by_people.shape or said_by_judge.ndim != 1:
        raise ValueError(f"{said_by_judge.shape} and {by_people.shape} are not one value an item each.")
    if len(wrong := np.flatnonzero(~np.isfinite(said_by_judge))):
        raise ValueError(f"judge: item {wrong[0]} has no finite number; leave out what was not judged.")
    rated = np.isfinite(by_people)
    weight = np.ones(len(rated)) if weights is None else np.asarray(weights, np.float64)
    own = float(said_by_judge.mean()) if len(rated) else math.nan
    n = int(rated.sum())
    if n < LEAST_ITEMS:
        few = "no item was" if not n else "only 1 item was" if n == 1 else f"only {n} items were"
        nothing = Interval(math.nan, None, None, n, why=f"{few} rated by people (from {LEAST_ITEMS} on)")
        return Corrected(nothing, nothing, own, 0.0, n, len(rated), math.nan)
    others = n - int(np.unique(by_people[rated], return_counts=True)[1].max())
    if others < LEAST_OTHERS:
        few = (
            "no item has" if not others else "only 1 item has" if others == 1 else f"only {others} items have"
        )
        why = f"{few} another rating than the commonest of {n:,} (from {LEAST_OTHERS} on)"
        alike = Interval(float(np.average(by_people[rated], weights=weight[rated])), None, None, n, why=why)
        return Corrected(alike, alike, own, 0.0, n, len(rated), math.nan)
    some = _Rated(said_by_judge[rated], by_people[rated], weight[rated] / weight[rated].mean())
    alone = _with_t(some.figure(0.0), some.jackknife(None, 0.0), 0.0, n - 1, n, confidence)
    slope = some.slope()
    figure = some.figure(own, slope)
    error = some.jackknife(own, None)
    of_judge = slope * slope * float(said_by_judge.var(ddof=1)) / len(rated)
    if not slope or error <= LITTLE * (alone.se or 0.0):  # nothing is seen of what the judge gets wrong
        return Corrected(alone, alone, own, 0.0, n, len(rated), 1.0)
    whole = _with_t(figure, error, of_judge, n - 2, n, confidence)
    gain = ((alone.se or 0.0) / whole.se) ** 2 if whole.se else 1.0
    return Corrected(whole, alone, own, slope, n, len(rated), gain)


def _with_t(value: float, error: float, of_judge: float, degrees: int, n: int, confidence: float) -> Interval:
    """With Student's t for the part of the rated items and the normal quantile for that of all (Welch's
    degrees of freedom)."""
    whole = math.sqrt(error * error + of_judge)
    if not whole:
        return Interval(value, None, None, n, why=f"people say the same of all {n:,} rated items")
    welch = whole**4 / (error**4 / degrees)
    half = whole * float(special.stdtrit(max(1.0, welch), (1 + confidence) / 2))
    return Interval(value, value - half, value + half, n, whole)


@dataclass(frozen=True)
class _Rated:
    """Judge, people and weight of the rated items."""

    judge: Floats
    people: Floats
    weight: Floats

    @property
    def sums(self) -> Floats:
        """Of weights, judge, people, judge squared, judge times people; of each item [items, 5]."""
        j, y = self.judge, self.people
        return self.weight[:, None] * np.column_stack([np.ones(len(j)), j, y, j * j, j * y])

    def slope(self) -> float:
        """Of people on judge."""
        return float(_slopes(self.sums.sum(axis=0)[None])[0])

    def figure(self, own: float, slope: float = 0.0) -> float:
        """What people say, moved along the slope to the judge's mean of all items."""
        weights, judge, people = self.sums.sum(axis=0)[:3]
        return float(people / weights + slope * (own - judge / weights))

    def jackknife(self, own: float | None, slope: float | None) -> float:
        """The standard error of that, with each item left out in turn; the slope is fitted again where none
        is given."""
        n, rest = len(self.judge), self.sums.sum(axis=0) - self.sums
        slopes = _slopes(rest) if slope is None else np.full(n, slope)
        left_out = rest[:, 2] / rest[:, 0] + slopes * ((own or 0.0) - rest[:, 1] / rest[:, 0])
        return math.sqrt((n - 1) / n * float(np.square(left_out - left_out.mean()).sum()))


def _slopes(sums: Floats) -> Floats:
    weights, judge, people, squares, products = sums.T
    spread = squares - judge * judge / weights
    above = products - judge * people / weights
    return np.where(
        spread > 1e-12 * np.maximum(squares, 1e-300), above / np.where(spread > 0, spread, 1), 0.0
    )
