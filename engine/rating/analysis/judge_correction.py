"""Correct a judge's estimate with people's ratings of a sample: means and pass rates, overall or by version.

The result is unbiased regardless of the judge's quality; a good judge only narrows the interval. Means use
prediction-powered inference with a tuned weight (Angelopoulos et al. 2023; PPI++ 2024); pass rates stratify
by the judge's verdict, with Wilson's intervals. Rated items must be sampled at random, or else be weighted by
1 / their probability. Pure functions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from engine.evaluation.statistics.intervals import Interval
from engine.rating.analysis import reasons_text
from store.core.monitoring_schemas import JudgedAnswer

# Prediction-powered inference: weight times the judge's mean over all items, plus the mean of people minus
# weight times the judge over the rated items. The weight is the slope of people on judge (power-tuned), so an
# uninformative judge costs nothing. The standard error combines a jackknife over the rated items (slope
# included, with Student's t) and the judge's variance over all items. If some items were likelier to be
# rated, `weights` are 1 / their probability. If nearly all rated items have the same value, too few others
# are seen for an interval, which then missed up to 12 of 100 true values.

MIN_ITEMS = 20  # minimum number of items rated by people
MIN_OTHERS = 8  # minimum number of those with a value other than the most common one
EPSILON = 1e-6  # relative to the standard error of people alone

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class CorrectedEstimate:
    """Corrected mean of a judged set.

    corrected: estimate for the whole set. people: estimate from the rated items only. judge: the judge's
    uncorrected mean. weight: the judge's weight. gain: factor by which the number of ratings would have to
    grow for the same precision without the judge.
    """

    corrected: Interval
    people: Interval
    judge: float
    weight: float
    rated: int
    judged: int
    gain: float


def correct_judge(
    judge: ArrayLike, people: ArrayLike, *, weights: ArrayLike | None = None, confidence: float = 0.95
) -> CorrectedEstimate:
    """Correct the judge's mean with people's ratings.

    `judge` has one value per item; `people` has the mean of people's ratings, NaN for unrated items. To
    compare two systems, pass differences (or preferences); the estimate is their mean.

    Raises ValueError for unequal lengths, or for an item without a judge value.
    """
    said_by_judge, by_people = np.asarray(judge, np.float64), np.asarray(people, np.float64)
    if said_by_judge.shape != by_people.shape or said_by_judge.ndim != 1:
        raise ValueError(f"{said_by_judge.shape} and {by_people.shape} are not one value an item each.")
    if len(wrong := np.flatnonzero(~np.isfinite(said_by_judge))):
        raise ValueError(f"judge: item {wrong[0]} has no finite number; exclude items that were not judged.")
    rated = np.isfinite(by_people)
    weight = np.ones(len(rated)) if weights is None else np.asarray(weights, np.float64)
    own = float(said_by_judge.mean()) if len(rated) else math.nan
    n = int(rated.sum())
    if n < MIN_ITEMS:
        why = reasons_text.explain_few_rated_by_people(n, MIN_ITEMS)
        nothing = Interval(math.nan, None, None, n, why=why)
        return CorrectedEstimate(nothing, nothing, own, 0.0, n, len(rated), math.nan)
    others = n - int(np.unique(by_people[rated], return_counts=True)[1].max())
    if others < MIN_OTHERS:
        why = reasons_text.explain_few_other_values(others, n, MIN_OTHERS)
        alike = Interval(float(np.average(by_people[rated], weights=weight[rated])), None, None, n, why=why)
        return CorrectedEstimate(alike, alike, own, 0.0, n, len(rated), math.nan)
    some = _RatedItems(said_by_judge[rated], by_people[rated], weight[rated] / weight[rated].mean())
    alone = _compute_t_interval(some.figure(0.0), some.jackknife(None, 0.0), 0.0, n - 1, n, confidence)
    slope = some.slope()
    figure = some.figure(own, slope)
    error = some.jackknife(own, None)
    of_judge = slope * slope * float(said_by_judge.var(ddof=1)) / len(rated)
    if not slope or error <= EPSILON * (alone.se or 0.0):  # no judge error was observed
        return CorrectedEstimate(alone, alone, own, 0.0, n, len(rated), 1.0)
    whole = _compute_t_interval(figure, error, of_judge, n - 2, n, confidence)
    gain = ((alone.se or 0.0) / whole.se) ** 2 if whole.se else 1.0
    return CorrectedEstimate(whole, alone, own, slope, n, len(rated), gain)


def _compute_t_interval(
    value: float, error: float, of_judge: float, degrees: int, n: int, confidence: float
) -> Interval:
    """Interval with Student's t for the error from rated items and the normal quantile for the error from all
    items (Welch's degrees of freedom).
    """
    whole = math.sqrt(error * error + of_judge)
    if not whole:
        return Interval(value, None, None, n, why=reasons_text.explain_no_error(n))
    welch = whole**4 / (error**4 / degrees)
    half = whole * float(special.stdtrit(max(1.0, welch), (1 + confidence) / 2))
    return Interval(value, value - half, value + half, n, whole)


@dataclass(frozen=True)
class _RatedItems:
    """Judge values, people's values and weights of the rated items."""

    judge: Floats
    people: Floats
    weight: Floats

    @property
    def sums(self) -> Floats:
        """Weighted 1, judge, people, judge squared and judge times people of each item [items, 5]."""
        j, y = self.judge, self.people
        return self.weight[:, None] * np.column_stack([np.ones(len(j)), j, y, j * j, j * y])

    def slope(self) -> float:
        """Return the regression slope of people on judge."""
        return float(_fit_slopes(self.sums.sum(axis=0)[None])[0])

    def figure(self, own: float, slope: float = 0.0) -> float:
        """Return people's mean, adjusted along the slope to the judge's mean over all items."""
        weights, judge, people = self.sums.sum(axis=0)[:3]
        return float(people / weights + slope * (own - judge / weights))

    def jackknife(self, own: float | None, slope: float | None) -> float:
        """Return the jackknife standard error of `figure`; the slope is refitted if `slope` is None."""
        n, rest = len(self.judge), self.sums.sum(axis=0) - self.sums
        slopes = _fit_slopes(rest) if slope is None else np.full(n, slope)
        left_out = rest[:, 2] / rest[:, 0] + slopes * ((own or 0.0) - rest[:, 1] / rest[:, 0])
        return math.sqrt((n - 1) / n * float(np.square(left_out - left_out.mean()).sum()))


def _fit_slopes(sums: Floats) -> Floats:
    weights, judge, people, squares, products = sums.T
    spread = squares - judge * judge / weights
    above = products - judge * people / weights
    return np.where(
        spread > 1e-12 * np.maximum(squares, 1e-300), above / np.where(spread > 0, spread, 1), 0.0
    )


# Pass rate by post-stratification: the judge splits answers into those it passes and those it fails. The size
# of each stratum is known from all judged answers; the share of good answers in each is estimated from
# people's ratings. For a binary judge, this is the estimate of power-tuned prediction-powered inference. Each
# stratum has a Wilson interval, so that shares near 0 and 1 are covered too: the t-interval of
# `correct_judge` doesn't exist if all rated answers are good, and it missed 7 to 9 of 100 true values at 30
# ratings. With FEW_ANSWERS or fewer answers that people call good, or not good, Wilson's limits oscillate
# with n and missed up to 9, so they are extended to those of Clopper and Pearson. If a stratum has fewer than
# MIN_RATINGS ratings, only people's ratings are used.
#
# In simulations (`bench/ratings/judged.py`), coverage is 93 to 100% from 20 ratings on, with judges that are
# right in 50 to 95% of cases and shares of 2 to 98%.

MIN_RATED = 20
MIN_RATINGS = 5  # minimum number of ratings in each stratum
FEW_ANSWERS = 5


@dataclass(frozen=True)
class CorrectedPassRate:
    """Corrected pass rate of a judged set.

    corrected: estimate from the judge and people's ratings. people: estimate from the rated answers only.
    judge: the judge's uncorrected rate, which isn't reliable. by: what the corrected estimate is based on.
    """

    corrected: Interval
    people: Interval
    judge: float | None
    judged: int
    rated: int
    agree: int  # rated answers on which the judge and people agree
    by: Literal["both", "people", "nothing"]


def correct_pass_rate(passed: ArrayLike, rated_by_judge: ArrayLike, rated: ArrayLike) -> CorrectedPassRate:
    """Correct the judge's pass rate with people's ratings.

    `passed` has the judge's verdicts, 0 or 1, on randomly sampled answers. `rated_by_judge` and `rated` have
    the judge's verdict and the share of raters who passed the answer, 0 to 1, for randomly sampled answers
    that people rated.

    Raises ValueError for unequal lengths.
    """
    of_all, of_judge, of_people = (np.asarray(side, float) for side in (passed, rated_by_judge, rated))
    if of_judge.shape != of_people.shape:
        raise ValueError(f"{of_judge.shape} and {of_people.shape} are not one value each of an answer.")
    n, judge = len(of_people), float(of_all.mean()) if len(of_all) else None
    agree = int(((of_people >= 0.5) == (of_judge >= 0.5)).sum())
    if n < MIN_RATED:
        why = reasons_text.explain_few_passes(n, MIN_RATED)
        nothing = Interval(math.nan, None, None, n, why=why)
        return CorrectedPassRate(nothing, nothing, judge, len(of_all), n, agree, "nothing")
    quantile = float(special.stdtrit(n - 2, 0.975))
    people = _wilson(float(of_people.sum()), n, quantile)
    kinds = [of_people[of_judge >= 0.5], of_people[of_judge < 0.5]]
    if judge is None or min(map(len, kinds)) < MIN_RATINGS:
        return CorrectedPassRate(people, people, judge, len(of_all), n, agree, "people")
    shares = [_wilson(float(kind.sum()), len(kind), quantile) for kind in kinds]
    whole = _combine_shares(shares, judge, len(of_all), quantile)
    return CorrectedPassRate(whole, people, judge, len(of_all), n, agree, "both")


def _combine_shares(shares: list[Interval], passed: float, judged: int, quantile: float) -> Interval:
    weights = [passed, 1 - passed]
    value = sum(weight * share.value for weight, share in zip(weights, shares, strict=True))
    of_weights = (shares[0].value - shares[1].value) ** 2 * passed * (1 - passed) / judged * quantile**2
    below = above = of_weights
    for weight, share in zip(weights, shares, strict=True):
        assert share.low is not None
        assert share.high is not None
        below += (weight * (share.value - share.low)) ** 2
        above += (weight * (share.high - share.value)) ** 2
    n = sum(share.n for share in shares)
    return Interval(value, max(0.0, value - math.sqrt(below)), min(1.0, value + math.sqrt(above)), n)


def _wilson(good: float, n: int, z: float) -> Interval:
    share, scale = good / n, 1 + z * z / n
    centre = (share + z * z / (2 * n)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low, high = centre - half, centre + half
    if min(good, n - good) <= FEW_ANSWERS:
        low = min(low, float(special.betaincinv(good, n - good + 1, 0.025))) if good else 0.0
        high = max(high, float(special.betaincinv(good + 1, n - good, 0.975))) if good < n else 1.0
    return Interval(share, max(0.0, min(share, low)), min(1.0, max(share, high)), n)


def correct_by_version(answers: Sequence[JudgedAnswer]) -> dict[str, CorrectedPassRate]:
    """Return the corrected pass rate of each version, the one with most answers first."""
    return _correct_by(answers, lambda answer: answer.version)


def correct_by_group(answers: Sequence[JudgedAnswer]) -> dict[str, CorrectedPassRate]:
    """Return the corrected pass rate of each named group, the largest first."""
    return _correct_by(answers, lambda answer: answer.grouped_by)


def _correct_by(
    answers: Sequence[JudgedAnswer], name_of: Callable[[JudgedAnswer], str | None]
) -> dict[str, CorrectedPassRate]:
    parts: dict[str, list[JudgedAnswer]] = {}
    for answer in answers:
        if (name := name_of(answer)) is not None:
            parts.setdefault(name, []).append(answer)
    return {name: _correct_share(parts[name]) for name in sorted(parts, key=lambda name: -len(parts[name]))}


def _correct_share(answers: Sequence[JudgedAnswer]) -> CorrectedPassRate:
    """Return the corrected pass rate of the judge's verdicts; answers without a verdict are counted
    elsewhere.

    The correction uses requests from the round's sampling frame; the judge's own rate covers all requests it
    judged.
    """
    judged = [answer for answer in answers if answer.passed is not None]
    people = [answer for answer in answers if not answer.at_random and answer.people is not None]
    rated = [answer for answer in people if answer.passed is not None]
    alone = [float(bool(answer.passed)) for answer in judged if answer.at_random]
    framed = [float(bool(answer.passed)) for answer in judged if answer.at_random and answer.in_frame]
    seen = correct_pass_rate(
        framed if len(framed) >= MIN_RATED else [],
        [float(bool(answer.passed)) for answer in rated],
        [answer.people or 0.0 for answer in rated],
    )
    seen = replace(seen, judge=sum(alone) / len(alone) if alone else None, judged=len(alone))
    if seen.by != "nothing":
        return seen
    why = seen.corrected.why
    if not any(answer.in_frame for answer in answers):
        why = reasons_text.NO_ROUND
    elif len(people) > len(rated):
        without = len(people) - len(rated)
        why = reasons_text.explain_few_passes(len(people), MIN_RATED, without_verdict=without)
    nothing = replace(seen.corrected, why=why)
    return replace(seen, corrected=nothing, people=nothing)
