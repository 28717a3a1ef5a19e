"""The share of good answers of many, by a judge that people correct on a few of them drawn at random.

Answers come in two kinds, those that the judge passes and those that it fails. How many there are of each is
known from all that it judged; how many of each are good is known from people. Put together (stratified after
the fact, which for a judge that says yes or no is what the power-tuned form of prediction-powered inference
estimates) it is right whatever the judge is like, and a judge that knows something makes the interval
narrower. Each kind has Wilson's interval, so that shares near none and all are covered too: the t-interval of
`corrected` has none where all rated answers are good, and there it left out 7 to 9 of 100 truths at 30
ratings. Of FEW or fewer answers that people call good, or not good, Wilson's limits swing with n and left out
up to 9: there they reach as far as those of Clopper and Pearson. Where people have rated under LEAST of a
kind, what they say is taken alone.

In simulations (`bench/ratings/judged.py`) 93 to 100% are covered, from 20 ratings on, with judges that are
right in 50 to 95% and shares of 2 to 98%. Pure.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from engine.diagnostics.statistics.statistics import Interval

LEAST_RATED = 20
LEAST = 5  # of each kind
FEW = 5


@dataclass(frozen=True)
class JudgedShare:
    """corrected: the judge with people's ratings; people: the rated answers alone; judge: of all that it
    judged, not to be relied on. by: what the corrected one rests on."""

    corrected: Interval
    people: Interval
    judge: float | None
    judged: int
    rated: int
    agree: int  # rated answers of which judge and people say the same
    by: Literal["both", "people", "nothing"]


def judged_share(passed: ArrayLike, rated_by_judge: ArrayLike, rated: ArrayLike) -> JudgedShare:
    """passed: what the judge says of answers drawn at random, 0 or 1. Of answers drawn at random that people
    rated, what the judge and what they say (the share of them that passed it), from 0 to 1.

    Raises ValueError for unequal lengths.
    """
    of_all, of_judge, of_people = (np.asarray(side, float) for side in (passed, rated_by_judge, rated))
    if of_judge.shape != of_people.shape:
        raise ValueError(f"{of_judge.shape} and {of_people.shape} are not one value each of an answer.")
    n, judge = len(of_people), float(of_all.mean()) if len(of_all) else None
    agree = int(((of_people >= 0.5) == (of_judge >= 0.5)).sum())
    if n < LEAST_RATED:
        why = f"people have rated {n} of them; from {LEAST_RATED} on they can correct the judge"
        nothing = Interval(math.nan, None, None, n, why=why)
        return JudgedShare(nothing, nothing, judge, len(of_all), n, agree, "nothing")
    quantile = float(special.stdtrit(n - 2, 0.975))
    people = _wilson(float(of_people.sum()), n, quantile)
    kinds = [of_people[of_judge >= 0.5], of_people[of_judge < 0.5]]
    if judge is None or min(map(len, kinds)) < LEAST:
        return JudgedShare(people, people, judge, len(of_all), n, agree, "people")
    shares = [_wilson(float(kind.sum()), len(kind), quantile) for kind in kinds]
    whole = _together(shares, judge, len(of_all), quantile)
    return JudgedShare(whole, people, judge, len(of_all), n, agree, "both")


def _together(shares: list[Interval], passed: float, judged: int, quantile: float) -> Interval:
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
    if min(good, n - good) <= FEW:
        low = min(low, float(special.betaincinv(good, n - good + 1, 0.025))) if good else 0.0
        high = max(high, float(special.betaincinv(good + 1, n - good, 0.975))) if good < n else 1.0
    return Interval(share, max(0.0, min(share, low)), min(1.0, max(share, high)), n)
