"""The difference of two shares that were counted on different rows, with Newcombe's (1998) interval.

It puts two Wilson intervals together (his method 10), so that it stays honest where a share is 0 or 1. Pure.
"""

from __future__ import annotations

import math

from engine.diagnostics.statistics import Interval, wilson_interval


def difference(first: tuple[int, int], second: tuple[int, int]) -> Interval:
    """Share of the first minus share of the second, each (hits, rows). Raises ValueError for no rows."""
    one, two = wilson_interval(*first), wilson_interval(*second)
    assert one.low is not None
    assert one.high is not None
    assert two.low is not None
    assert two.high is not None
    value = one.value - two.value
    low = value - math.hypot(one.value - one.low, two.high - two.value)
    high = value + math.hypot(one.high - one.value, two.value - two.low)
    return Interval(value, max(-1.0, low), min(1.0, high), one.n + two.n)
