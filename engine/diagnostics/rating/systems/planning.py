"""How many more ratings it takes until two systems can be told apart, by simulation of the fitted model.

Rounds are drawn in which the two differ by as much as was fitted, with as many ties, and with ratings that
say as little each as those of this round did (its interval against that of independent ones). Counted is how
many ratings it takes until the interval of the difference leaves out zero in 80 of 100 rounds. The answer is
no surer than the difference: it is rounded to one digit. That it would take more than `most` says nothing of
whether the two are equal: that is said where the whole interval lies within EQUAL_WITHIN of one half. Pure
and seeded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from engine.diagnostics.phrasing import significant
from engine.diagnostics.rating.systems.davidson import chances
from engine.diagnostics.rating.systems.strengths import StrengthDifference, Strengths

DRAWS = 2_000
EQUAL_WITHIN = 0.1  # of decided ratings: two are equal of which each wins 40 to 60%
GROWTH = 1.1  # from one size that is tried to the next

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class MoreRatings:
    """count: so many more of all systems, rounded; 0: the two are told apart. at_least: more than `count`.
    None where nothing can be said, and `why` says for what reason. equal: by the interval they are as good as
    equal."""

    count: int | None
    at_least: bool = False
    equal: bool = False
    why: str = ""


def more_ratings(
    strengths: Strengths, first: str, second: str, *, most: int = 5_000, power: float = 0.8
) -> MoreRatings:
    """Until first and second are told apart with that power. Raises ValueError for what was not compared."""
    difference = strengths.difference(first, second)
    if difference.verdict in ("better", "worse"):
        return MoreRatings(0)
    at, error = difference.interval, difference.interval.se
    if at.low is None or at.high is None or not error:
        return MoreRatings(None, why=at.why or "so far all ratings say the same")
    share = difference.share
    assert share.low is not None
    assert share.high is not None
    equal = share.low >= 0.5 - EQUAL_WITHIN and share.high <= 0.5 + EQUAL_WITHIN
    log_nu = math.log(max(strengths.ties.value, 1e-6))
    shares = chances(np.array(at.value), np.array(log_nu))
    beyond = _beyond(difference, error)
    said_each = _information(shares) * error**2 * strengths.n  # ratings of this round that say as much as one
    size = strengths.n * GROWTH
    while size <= strengths.n + most:
        if _power(shares, size / said_each, beyond) >= power:
            return MoreRatings(int(significant(size - strengths.n, 1)), equal=equal)
        size *= GROWTH
    return MoreRatings(most, at_least=True, equal=equal)


def _information(shares: Floats) -> float:
    """Of one rating of the two, about the difference of their log strengths (nu known, which costs
    little)."""
    lead, decided = float(shares[0] - shares[1]), float(shares[0] + shares[1])
    return (decided - lead * lead) / 4


def _beyond(difference: StrengthDifference, error: float) -> float:
    """How many standard errors the nearer limit of the interval lies away: what must be exceeded."""
    at = difference.interval
    assert at.low is not None
    assert at.high is not None
    z = float(special.ndtri(0.975))
    return max(z, (at.high - at.low) / 2 / error)


def _power(shares: Floats, votes: float, beyond: float) -> float:
    """How often so many independent votes tell the two apart."""
    random = np.random.default_rng(0)
    counts = random.multinomial(max(1, round(votes)), shares, DRAWS) + 0.5
    apart = np.log(counts[:, 0] / counts[:, 1])
    error = np.sqrt(1 / counts[:, 0] + 1 / counts[:, 1])
    return float((np.abs(apart) > beyond * error).mean())
