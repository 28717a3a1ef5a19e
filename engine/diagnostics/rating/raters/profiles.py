"""What each rater is like: how consistent, how fast, whether they lean to a side, how far others agree.

A pair that comes again with its sides swapped should be answered alike: that share is a rater's consistency,
and of those who always press one key it is low. Leaning to a side is tested (binomial, as sides are drawn by
chance; Holm over all raters), pressing one key always is counted, being too fast is a median below a limit or
far below that of the others. Where models stood mostly on one side each, as in files from elsewhere, a side
is held against nobody: it is the model that stood there. Nothing is left out here: whoever leaves out a rater
says so. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special

from engine.diagnostics.rating.rows import clustered
from engine.diagnostics.rating.rows.clustered import RatingClusters
from engine.diagnostics.rating.rows.ratings import Comparisons, PairOutcome
from engine.diagnostics.rating.rows.votes import KINDS, Tally, votes
from engine.diagnostics.statistics.flips import holm
from engine.diagnostics.statistics.statistics import Interval, wilson_interval

LEAST_RATED = 10  # ratings, under which nothing is held against a rater
ALWAYS = 0.95  # of ratings that are one key
FAST_SECONDS = 2.0
FAR_FASTER = 1 / 3  # of the median of the other raters' medians
LEVEL = 0.05

Always = Literal["", "left", "right", "tie", "both bad"]
KEYS: tuple[Always, ...] = ("left", "right", "tie", "both bad")
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class RaterProfile:
    """consistency: share of swapped repeats answered alike. seconds: median, NaN where not measured. left:
    share of decided ratings for the left side. agreement: share of the others' votes on the same items and
    pairs that are like this rater's. leans: to a side, beyond chance. always: the key that nearly every
    rating is. reasons: why the ratings may be worth little, in words."""

    rater: str
    n: int
    consistency: Interval
    seconds: float
    left: Interval
    agreement: Interval
    leans: bool
    always: Always
    reasons: tuple[str, ...]

    @property
    def suspect(self) -> bool:
        """There is a reason to look at what this rater did."""
        return bool(self.reasons)


def profiles(comparisons: Comparisons, *, fast_seconds: float = FAST_SECONDS) -> list[RaterProfile]:
    """Of each rater with a rating, in the order of their names' list."""
    own, fresh = _places_of_raters(comparisons), comparisons.fresh
    present = [rater for rater, places in enumerate(own) if len(places)]
    sides_tell = not comparisons.take(comparisons.fresh).stood_on_one_side
    p_values = holm([_one_sided(comparisons.outcome[own[rater]]) for rater in present])
    medians = {rater: _median(comparisons, own[rater]) for rater in present}
    agreements, consistencies = _agreements(comparisons), _consistencies(comparisons)
    rows = []
    for rater, p in zip(present, p_values, strict=True):
        mine = comparisons.take(own[rater][fresh[own[rater]]])
        decided = mine.take(mine.outcome < PairOutcome.TIE)
        left = clustered.share(
            decided.outcome == PairOutcome.LEFT, RatingClusters(decided.item, decided.rater)
        )
        others = [median for other, median in medians.items() if other != rater and not math.isnan(median)]
        fast = is_too_fast(len(mine), medians[rater], others, fast_seconds)
        always, consistency = _always(mine.outcome), consistencies[rater]
        leans = sides_tell and p < LEVEL
        if always in ("left", "right") and not sides_tell:
            always = ""
        reasons = _reasons(always, left, leans, fast, medians[rater], consistency)
        rows.append(
            RaterProfile(
                comparisons.raters[rater], len(mine), consistency, medians[rater], left, agreements[rater],
                leans, always, reasons,
            )
        )  # fmt: skip
    return rows


def without(comparisons: Comparisons, raters: Collection[str]) -> Comparisons:
    """All ratings but those of these raters. Raises ValueError for a name that is no rater's."""
    if unknown := [name for name in raters if name not in comparisons.raters]:
        raise ValueError(f"raters: {unknown[0]!r} is none of {', '.join(comparisons.raters)}.")
    places = [place for place, name in enumerate(comparisons.raters) if name in raters]
    return comparisons.take(~np.isin(comparisons.rater, places))


def _one_sided(outcome: Ints) -> float:
    """Two-sided exact p-value of as many decided ratings for either side; repeats count, as they are pressed
    too."""
    left, right = int((outcome == PairOutcome.LEFT).sum()), int((outcome == PairOutcome.RIGHT).sum())
    return min(1.0, 2 * float(special.bdtr(min(left, right), left + right, 0.5))) if left + right else 1.0


def _places_of_raters(comparisons: Comparisons) -> list[Ints]:
    """Of each rater the places of their comparisons, in order."""
    order = np.argsort(comparisons.rater, kind="stable")
    ends = np.cumsum(np.bincount(comparisons.rater, minlength=len(comparisons.raters)))
    return np.split(order, ends[:-1]) if len(ends) else []


def _median(comparisons: Comparisons, places: Ints) -> float:
    if comparisons.seconds is None:
        return math.nan
    seconds = comparisons.seconds[places]
    seconds = seconds[np.isfinite(seconds)]
    return float(np.median(seconds)) if len(seconds) else math.nan


def is_too_fast(ratings: int, median: float, others: Sequence[float], limit: float = FAST_SECONDS) -> bool:
    """Whether a rater of so many ratings took too little time for them, in the median: under the limit, or
    far less than the others did in theirs."""
    if ratings < LEAST_RATED:
        return False
    usual = float(np.median(others)) if len(others) >= 2 else math.nan
    return median < limit or median < FAR_FASTER * usual  # of NaN neither is true


def _always(outcome: Ints) -> Always:
    if len(outcome) < LEAST_RATED:
        return ""
    shares = np.bincount(outcome, minlength=len(KEYS)) / len(outcome)
    return KEYS[int(shares.argmax())] if shares.max() >= ALWAYS else ""


def _consistencies(comparisons: Comparisons) -> list[Interval]:
    """Of each rater: the share of repeats that name the same system as the first showing did."""
    named, unit, fresh = comparisons.outcome_in_order, comparisons.unit, comparisons.fresh
    first: dict[tuple[int, int], int] = {}
    alike: list[list[bool]] = [[] for _ in comparisons.raters]
    asked = np.isin(unit, unit[~fresh])
    for again in (False, True):
        for place in np.flatnonzero(asked & (fresh != again)).tolist():
            key = int(comparisons.rater[place]), int(unit[place])
            if not again:
                first.setdefault(key, int(named[place]))
            elif key in first:
                alike[key[0]].append(first[key] == int(named[place]))
    why = "no pair was shown again with its sides swapped"
    return [
        wilson_interval(sum(same), len(same)) if same else Interval(math.nan, None, None, 0, why=why)
        for same in alike
    ]


def _agreements(comparisons: Comparisons) -> list[Interval]:
    """Of each rater: the mean share of the others' votes that are like theirs, over items."""
    rated, outcome = votes(comparisons)
    tally = Tally.of(rated, outcome)
    counts = tally.counts[tally.unit] if len(rated) else np.zeros((0, KINDS))
    others = counts.sum(axis=1) - 1
    like = counts[np.arange(len(rated)), outcome] - 1
    agreements = []
    for places in _places_of_raters(rated):
        shared = places[others[places] > 0]
        if not len(shared):
            why = "nobody else rated the same items"
            agreements.append(Interval(math.nan, None, None, 0, why=why))
            continue
        shares = like[shared] / others[shared]
        weights = None if rated.weights is None else rated.weights[shared]
        clusters = RatingClusters(rated.item[shared], np.zeros(len(shared), np.int64), weights)
        if np.isin(shares, (0, 1)).all():
            agreements.append(clustered.share(shares, clusters))
        else:
            agreements.append(clustered.mean(shares, clusters, bounds=(0.0, 1.0)))
    return agreements


def _reasons(
    always: Always, left: Interval, leans: bool, fast: bool, seconds: float, consistency: Interval
) -> tuple[str, ...]:
    """Why this rater's answers may be worth little."""
    reasons = []
    if always:
        reasons.append(f"nearly every rating is “{always}”")
    elif leans:
        reasons.append(f"leans to the {'left' if left.value > 0.5 else 'right'} side, beyond chance")
    if fast:
        reasons.append(f"took {seconds:.1f} seconds in the median, too little to read two answers")
    if consistency.high is not None and consistency.high < 0.5:
        reasons.append("answers most pairs otherwise when their sides are swapped")
    return tuple(reasons)
