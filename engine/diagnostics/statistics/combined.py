"""Estimates from different rows put together by their limits: the method of variance estimates recovery (Zou
and Donner 2008).

How far each limit lies from its estimate says how unsure it is that way, whatever interval it is of: so a
limit of the whole adds up the squares of these distances. Where every part covers as it should the whole does
too, also where the parts are skew. Of shares with Wilson's limits it is Newcombe's (1998) interval. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from scipy import special

from engine.diagnostics.statistics.statistics import Interval
from store.documents.figures.estimate import Estimate

MIN_DEGREES = 4  # of freedom, as an interval needs five rows


def difference(first: Interval, second: Interval) -> Interval:
    """First minus second; n counts the rows of both. Without limits, and with its reason, where one of them
    has none."""
    return _weighted([first, second], [1.0, -1.0])


def mean(parts: Sequence[Interval]) -> Interval:
    """Of one or more parts; n counts the rows of all. Without limits, and with its reason, where one of them
    has none."""
    return _weighted(parts, [1 / len(parts)] * len(parts))


def widened(estimate: Estimate, looks: int) -> Estimate:
    """A 95% interval as wide as one of so many needs (Bonferroni), where its rows are not there any more.
    Rows of unequal length say less than their number, so that half of them are counted in Student's t."""
    low, high, value = estimate["low"], estimate["high"], estimate["value"]
    if low is None or high is None or looks <= 1:
        return estimate
    degrees = max(MIN_DEGREES, estimate["n"] / 2 - 1)
    wider = float(special.stdtrit(degrees, 1 - 0.025 / looks) / special.stdtrit(degrees, 0.975))
    return {**estimate, "low": value - wider * (value - low), "high": value + wider * (high - value)}


def _weighted(parts: Sequence[Interval], weights: Sequence[float]) -> Interval:
    value = sum(weight * part.value for weight, part in zip(weights, parts, strict=True))
    n = sum(part.n for part in parts)
    below = above = 0.0
    for weight, part in zip(weights, parts, strict=True):
        if part.low is None or part.high is None:
            return Interval(value, None, None, n, why=part.why)
        down, up = weight * (part.value - part.low), weight * (part.high - part.value)
        below, above = below + (down if weight > 0 else up) ** 2, above + (up if weight > 0 else down) ** 2
    return Interval(value, value - math.sqrt(below), value + math.sqrt(above), n)
