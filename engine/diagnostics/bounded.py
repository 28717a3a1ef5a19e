"""The mean of a few values that lie between known bounds, such as shares or bits of exposure.

Student's t and the bootstrap learn nothing of what was not seen: five values at the upper bound would give an
interval of no width. Taken instead is the bootstrap of Rubin (1981), whose weights of the values are random,
with half a value more at either bound: of values that are 0 or 1 that is the interval of Jeffreys (Brown, Cai
and DasGupta 2001), and like that one it reaches a bound at which all values lie. Pure and seeded.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from engine.diagnostics.statistics import Interval

DRAWS = 4_000
CHUNK = 2_000_000  # weights drawn at a time
AT_A_BOUND = 0.5  # of a value


def mean_interval(values: ArrayLike, low: float, high: float, *, confidence: float = 0.95) -> Interval:
    """The mean of values that lie within `low` and `high`; one value gives no interval.

    Raises ValueError for no values, or one outside the bounds.
    """
    seen = np.asarray(values, np.float64)
    n = len(seen)
    if not n or not (seen.min() >= low and seen.max() <= high):
        raise ValueError(f"{n} values do not lie within {low:g} and {high:g}.")
    mean = float(seen.mean())
    if n == 1:
        return Interval(mean, None, None, 1)
    random, at_once = np.random.default_rng(0), max(1, CHUNK // n)
    drawn = []
    for start in range(0, DRAWS, at_once):
        draws = min(at_once, DRAWS - start)
        weights, ends = random.standard_exponential((draws, n)), random.standard_gamma(AT_A_BOUND, (draws, 2))
        drawn.append((weights @ seen + ends @ [low, high]) / (weights.sum(axis=1) + ends.sum(axis=1)))
    limits = np.quantile(np.concatenate(drawn), [(1 - confidence) / 2, (1 + confidence) / 2])
    least, most = min(float(limits[0]), mean), max(float(limits[1]), mean)
    return Interval(mean, low if seen.max() == low else least, high if seen.min() == high else most, n)
