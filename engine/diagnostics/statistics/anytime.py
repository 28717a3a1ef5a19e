"""A share with an interval that may be looked at after every answer.

For each share that might be true, a gambler bets against it by what was seen before (the mixture of all
shares, uniform: Ville 1939, Robbins 1970); were it true, the capital would reach 1 / alpha with a chance of
alpha at most, in all eternity. The capital follows from the two counts alone, so that a million answers cost
as much as ten. Each answer must be as likely as the next, whatever came before: many answers of one person
are not. Pure.
"""

from __future__ import annotations

import math

from scipy import special

from engine.diagnostics.statistics.statistics import Interval

HALVINGS = 60


def anytime_share(successes: int, n: int, *, confidence: float = 0.95) -> Interval:
    """The share, with the interval that holds at every moment. Raises ValueError unless 0 <= successes <=
    n."""
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n} trials is not a proportion.")
    if n == 0:
        return Interval(math.nan, None, None, 0, why="nobody has answered yet")
    share = successes / n
    mixed = float(special.betaln(successes + 1, n - successes + 1))
    limit = mixed + math.log(1 - confidence)  # of the likelihood: below it a share is ruled out

    def ruled_out(candidate: float) -> bool:
        likelihood = special.xlogy(successes, candidate) + special.xlogy(n - successes, 1 - candidate)
        return float(likelihood) < limit

    ends = []
    for outside in (0.0, 1.0):
        inside = share
        if not ruled_out(outside):
            ends.append(outside)
            continue
        for _ in range(HALVINGS):
            middle = (inside + outside) / 2
            inside, outside = (inside, middle) if ruled_out(middle) else (middle, outside)
        ends.append(outside)
    return Interval(share, ends[0], ends[1], n)
