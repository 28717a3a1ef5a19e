"""The mean of a few values that lie between known bounds, such as shares or bits of exposure.

Student's t and the bootstrap learn nothing of what was not seen: five values at the upper bound would give an
interval of no width. Taken instead is the bootstrap of Rubin (1981), whose weights of the values are random,
with more values at the bounds, as what was not seen may lie there. Each limit has an own number of them: half
a value at the bound that it is drawn to, a tenth at the other one. (A whole value and none are the limits of
Gaffke 2005, and of shares those of Clopper and Pearson; half a value at either are Jeffreys', which near a
bound is pulled away from it: with a mean of 7.9 of 8 its upper limit lay below in 7 of 100 draws.)

In simulations (`bench/truths/runs/extraction.py`) this covers 95 to 99%. It is on the careful side near a
bound: the limit there can hardly lie wrong, so that only the other one's 2.5% are left, and where nearly
every draw has all values at the bound, hardly these. Pure and seeded.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from engine.diagnostics.statistics import resampling
from engine.diagnostics.statistics.statistics import Interval

DRAWS = 4_000
CHUNK = 2_000_000  # weights drawn at a time
FEW = 100  # values, up to which their weights are kept
AT_ITS_BOUND, AT_THE_OTHER = 0.5, 0.1  # of a value

Floats = NDArray[np.float64]
Weights = tuple[Floats, Floats, Floats]  # of the values [draws, n]; at the near and at the far bound [draws]


class BoundedMean:
    """The mean of values that lie within `low` and `high`; drawn once, for an interval at any confidence.

    Raises ValueError for no values, or one outside the bounds.
    """

    def __init__(self, values: ArrayLike, low: float, high: float) -> None:
        seen = np.asarray(values, np.float64)
        n = len(seen)
        if not n or not (seen.min() >= low and seen.max() <= high):
            raise ValueError(f"{n} values do not lie within {low:g} and {high:g}.")
        self._seen, self._low, self._high = seen, low, high
        drawn: dict[float, list[Floats]] = {low: [], high: []}
        for weights, near, far in () if n == 1 else _few(n) if n <= FEW else _drawn(n):
            inside, whole = weights @ seen, weights.sum(axis=1) + near + far
            for bound, other in ((low, high), (high, low)):
                drawn[bound].append((inside + near * bound + far * other) / whole)
        self._drawn = {bound: np.concatenate(parts) for bound, parts in drawn.items() if parts}

    def interval(self, confidence: float = 0.95) -> Interval:
        """One value gives none."""
        seen, low, high = self._seen, self._low, self._high
        n, mean = len(seen), float(seen.mean())
        if n == 1:
            return Interval(mean, None, None, 1, why="there is only one value")
        least = min(mean, float(np.quantile(self._drawn[low], (1 - confidence) / 2)))
        most = max(mean, float(np.quantile(self._drawn[high], (1 + confidence) / 2)))
        return Interval(mean, low if seen.max() == low else least, high if seen.min() == high else most, n)


def mean_interval(values: ArrayLike, low: float, high: float, *, confidence: float = 0.95) -> Interval:
    """As `BoundedMean`, at one confidence."""
    return BoundedMean(values, low, high).interval(confidence)


@lru_cache(maxsize=8)
def _few(n: int) -> tuple[Weights, ...]:
    return tuple(_drawn(n))


def _drawn(n: int) -> Iterator[Weights]:
    """The same DRAWS weights of n values at every call, a part at a time."""
    random = np.random.default_rng(0)
    for draws in resampling.parts(DRAWS, n, CHUNK):
        weights = random.standard_exponential((draws, n))
        yield weights, random.standard_gamma(AT_ITS_BOUND, draws), random.standard_gamma(AT_THE_OTHER, draws)
