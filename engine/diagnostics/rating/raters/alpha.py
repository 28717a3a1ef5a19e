"""Krippendorff's alpha: how far raters agree beyond chance, with an interval over items.

Only items with two ratings or more say anything of agreement; of comparisons the item is a prompt with its
two systems (`votes.py`). Alpha is 1 - observed / expected disagreement (Krippendorff 2004): 0 is chance.
Where all ratings are the same nothing is expected and it is not defined. Resamples take whole items, with
random weights, and are widened to Student's t. Pure and seeded.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from engine.diagnostics.rating.rows.graded import CriterionScores, Passes, Ranks
from engine.diagnostics.rating.rows.ratings import Comparisons
from engine.diagnostics.rating.rows.votes import votes
from engine.diagnostics.statistics.statistics import Interval

RESAMPLES = 1_000
LEAST_UNITS = 10  # items, under which alpha has no interval
LEAST_OTHERS = 8  # of them with another rating than the commonest, likewise
UNSEEN, SEEN = 0.5, 0.1  # of an item on which raters disagree as by chance, for the lower and the upper limit
SMALLEST = 1e-9
Level = Literal["nominal", "ordinal", "interval"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Alpha:
    """Krippendorff's alpha; its n counts items with two ratings or more, `ratings` those of these items."""

    interval: Interval
    ratings: int
    level: Level


def alpha(
    values: Sequence[object] | NDArray[np.generic],
    item: ArrayLike,
    *,
    level: Level = "nominal",
    resamples: int = RESAMPLES,
    confidence: float = 0.95,
) -> Alpha:
    """Of ratings: any labels where they are nominal, else numbers."""
    if not len(values):
        return Alpha(Interval(math.nan, None, None, 0, why="there is no rating"), 0, level)
    labels, place = np.unique(np.asarray(values), return_inverse=True)
    unit = np.unique(np.asarray(item), return_inverse=True)[1]
    counts = np.zeros((int(unit.max()) + 1, len(labels)))
    np.add.at(counts, (unit, place), 1)
    counts = counts[counts.sum(axis=1) >= 2]
    numbers = np.arange(len(labels), dtype=float) if level == "nominal" else labels.astype(np.float64)
    n, ratings = len(counts), int(counts.sum())
    if why := _undefined(counts):
        return Alpha(Interval(math.nan, None, None, n, why=why), ratings, level)
    table = _Coincidences.of(counts, numbers, level)
    value = float(table.alphas(np.ones((1, n)))[0])
    if why := _too_few(counts):
        return Alpha(Interval(value, None, None, n, why=why), ratings, level)
    low, high = _limits(table, value, confidence, resamples)
    return Alpha(Interval(value, low, high, n), ratings, level)


def _undefined(counts: Floats) -> str:
    """Why alpha is not defined; empty where it is."""
    if not len(counts):
        return "no item has two ratings"
    if (counts.sum(axis=0) > 0).sum() < 2:
        return "all ratings are the same, so that no disagreement is expected by chance either"
    return ""


def _too_few(counts: Floats) -> str:
    """Why so little gives no interval; empty where it does."""
    n = len(counts)
    if n < LEAST_UNITS:
        items = "1 item with two ratings is" if n == 1 else f"{n} items with two ratings or more are"
        return f"{items} too few (from {LEAST_UNITS} on there is an interval)"
    commonest = counts[:, counts.sum(axis=0).argmax()]
    others = int((commonest < counts.sum(axis=1)).sum())
    if others < LEAST_OTHERS:
        only = "only 1 item has" if others == 1 else f"only {others} items have"
        return f"{only} any rating but the commonest, so that agreement by chance is hardly known"
    return ""


def _limits(table: _Coincidences, value: float, confidence: float, resamples: int) -> tuple[float, float]:
    """Of disagreement over what is expected: that of resamples, beside a part of an item, of random weight,
    on which raters disagree as by chance (half of one for what may be missing, a tenth for the other limit:
    see `statistics/bounded.py`), as far out as Student's t is for so many items."""
    random = np.random.default_rng(0)
    n, each = len(table.pairs), float(table.totals.sum() / len(table.pairs))
    weights = random.standard_exponential((resamples, n))
    apart, whole = 1 - table.alphas(weights), (weights @ table.totals).sum(axis=1)
    tail = (1 - confidence) / 2
    ends = []
    for part, level in ((UNSEEN, 1 - tail), (SEEN, tail)):
        beside = each * random.standard_gamma(part, resamples)
        logs = np.log(np.maximum((apart * whole + beside) / (whole + beside), SMALLEST))
        middle = float(np.median(logs))
        times = float(special.stdtrit(n - 1, 1 - tail) / special.ndtri(1 - tail)) * math.sqrt(n / (n - 1))
        ends.append(1 - math.exp(middle + times * (float(np.quantile(logs, level)) - middle)))
    return max(-1.0, min(ends[0], value)), 1.0 if value == 1 else max(ends[1], value)


class _Coincidences(NamedTuple):
    """Of each item with two ratings or more: how often each two values were given together, by one rating
    less than there are [items, values, values], of nominal ones how often the same [items, values], as all
    else counts alike; numbers: the values themselves."""

    pairs: Floats
    totals: Floats
    numbers: Floats
    level: Level

    @classmethod
    def of(cls, counts: Floats, numbers: Floats, level: Level) -> _Coincidences:
        """From the ratings of each item [items, values]."""
        others = counts.sum(axis=1) - 1
        if level == "nominal":
            return cls(counts * (counts - 1) / others[:, None], counts, numbers, level)
        every = counts[:, :, None] * counts[:, None, :]
        every -= np.eye(counts.shape[1]) * counts[:, :, None]
        return cls(every / others[:, None, None], counts, numbers, level)

    def alphas(self, weights: Floats) -> Floats:
        """One alpha for each set of weights of the items [sets, items]."""
        if self.level == "nominal":
            return self._nominal(weights)
        size = len(self.numbers)
        seen = (weights @ self.pairs.reshape(len(self.pairs), -1)).reshape(-1, size, size)
        totals = weights @ self.totals
        distance = self._distances(totals)
        observed = (seen * distance).sum(axis=(1, 2))
        expected = (totals[:, :, None] * totals[:, None, :] * distance).sum(axis=(1, 2))
        whole = totals.sum(axis=1)
        scale = weights.mean(axis=1)  # whole / scale ratings: what one less than all is
        with np.errstate(divide="ignore", invalid="ignore"):
            alphas: Floats = 1 - (whole - scale) * observed / expected
        return alphas

    def _nominal(self, weights: Floats) -> Floats:
        totals = weights @ self.totals
        whole = totals.sum(axis=1)
        observed = whole - (weights @ self.pairs).sum(axis=1)
        expected = whole * whole - np.square(totals).sum(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            alphas: Floats = 1 - (whole - weights.mean(axis=1)) * observed / expected
        return alphas

    def _distances(self, totals: Floats) -> Floats:
        """Squared distance of each two values [sets or 1, values, values]."""
        if self.level == "interval":
            return np.square(self.numbers[:, None] - self.numbers)[None]
        middles = np.cumsum(totals, axis=1) - totals / 2  # ranks: all of what lies between, half of the ends
        return np.square(middles[:, :, None] - middles[:, None, :])


def outcome_alpha(comparisons: Comparisons) -> Alpha:
    """Of comparisons, by the system that was preferred; its items are items with two systems."""
    rated, outcome = votes(comparisons)
    count = len(rated.systems)
    named = np.where(outcome == 0, rated.lower, np.where(outcome == 1, rated.upper, count + outcome))
    return alpha(named, rated.unit)


def score_alpha(scores: CriterionScores, criterion: str) -> Alpha:
    """Of the scores by one criterion, as ranks; its items are answers."""
    chosen = scores.criterion == scores.criteria.index(criterion)
    return alpha(scores.score[chosen], _answers(scores)[chosen], level="ordinal")


def pass_alpha(passes: Passes) -> Alpha:
    """Of passes; its items are answers."""
    return alpha(passes.passed, _answers(passes))


def rank_alpha(ranks: Ranks) -> Alpha:
    """Of ranks; its items are answers."""
    return alpha(ranks.rank, _answers(ranks), level="ordinal")


def _answers(graded: CriterionScores | Passes | Ranks) -> Ints:
    return graded.item * len(graded.systems) + graded.system
