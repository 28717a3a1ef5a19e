"""The difference of two shares that were counted on different rows, with Newcombe's (1998) interval.

Two Wilson intervals put together (his method 10), so that it stays honest where a share is 0 or 1. Pure.
"""

from __future__ import annotations

from dataclasses import replace

from engine.diagnostics.statistics import combined
from engine.diagnostics.statistics.statistics import Interval, wilson_interval


def difference(first: tuple[int, int], second: tuple[int, int]) -> Interval:
    """Share of the first minus share of the second, each (hits, rows). Raises ValueError for no rows."""
    apart = combined.difference(wilson_interval(*first), wilson_interval(*second))
    assert apart.low is not None
    assert apart.high is not None
    return replace(apart, low=max(-1.0, apart.low), high=min(1.0, apart.high))
