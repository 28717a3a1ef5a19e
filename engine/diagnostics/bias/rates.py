"""Shares and means of paired items that come in clusters (pairs of one template), and differences of them.

Of shares the intervals are score intervals: Wilson's (1927) of one, Tango's (1998) of a paired change. Where
items come in clusters they are taken at the effective number of items, n over the design effect (Rao and
Scott 1992): a template whose answer is near its edge flips with every name. Few events say little of how
alike a cluster is, so the design effect is then never below that of an intraclass correlation of `USUAL`. Of
means they are the jackknife's over clusters (`ratio_interval`). Pure: arrays in, an `Interval` out.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from engine.diagnostics.statistics.flips import paired_change
from engine.diagnostics.statistics.statistics import Interval, ratio_interval

FEW = 10  # events: fewer, and how alike the items of a cluster are is not learned from them
USUAL = 0.3  # intraclass correlation that is taken then; bench/truths/models/bias.py has what it holds

Array = NDArray[np.float64]


def design_effect(values: ArrayLike, clusters: ArrayLike | None) -> float:
    """By how much the variance of the mean of `values` (-1, 0 or 1 each) is raised by clusters; at least
    1."""
    each = np.asarray(values, np.float64)
    if clusters is None or len(each) < 2:
        return 1.0
    sums, counts = _by_cluster(each, clusters)
    events, n, k = int(np.count_nonzero(each)), len(each), len(counts)
    least = 1.0
    if min(events, n - events) < FEW:
        size = float((counts**2).sum() / n)  # of the cluster that an item is in, in the mean
        least = 1 + (size - 1) * USUAL
    alone = float(each.var())
    if k < 2 or alone <= 0:
        return max(1.0, least)
    apart = sums - counts * each.mean()
    together = k / (k - 1) * float(np.square(apart).sum()) / n
    return max(1.0, least, together / alone)


def share(hits: ArrayLike, clusters: ArrayLike | None = None, *, confidence: float = 0.95) -> Interval:
    """Of items that are 1 (else 0), with Wilson's interval. Raises ValueError for none."""
    each = np.asarray(hits, np.float64)
    if not len(each):
        raise ValueError("There is no item to take a share of.")
    effective = len(each) / design_effect(each, clusters)
    low, high = wilson(float(each.mean()), effective, confidence)
    return Interval(float(each.mean()), low, high, len(each))


def wilson(value: float, n: float, confidence: float) -> tuple[float, float]:
    """Limits of a share of n items, which need not be whole."""
    z = float(special.ndtri((1 + confidence) / 2))
    centre = (value + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(value * (1 - value) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def share_change(
    before: ArrayLike, after: ArrayLike, clusters: ArrayLike | None = None, *, confidence: float = 0.95
) -> Interval:
    """After minus before of the same items, 0 or 1 each, with Tango's interval."""
    first, second = np.asarray(before, np.float64), np.asarray(after, np.float64)
    return signed_share(second - first, clusters, confidence=confidence)


def signed_share(
    steps: ArrayLike, clusters: ArrayLike | None = None, *, confidence: float = 0.95
) -> Interval:
    """The mean of items that are -1, 0 or 1, with Tango's interval. Raises ValueError for none."""
    each = np.asarray(steps, np.float64)
    shrunk = 1 / design_effect(each, clusters)
    lost, won = float((each < 0).sum()) * shrunk, float((each > 0).sum()) * shrunk
    return replace(paired_change(lost, won, len(each) * shrunk, confidence=confidence), n=len(each))


def mean(values: ArrayLike, clusters: ArrayLike | None = None, *, confidence: float = 0.95) -> Interval:
    """Of a number an item; n counts items, the interval is over clusters."""
    each = np.asarray(values, np.float64)
    sums, counts = _by_cluster(each, np.arange(len(each)) if clusters is None else clusters)
    return replace(ratio_interval(sums, counts, confidence=confidence), n=len(each))


def lean_change(
    base: ArrayLike, tuned: ArrayLike, clusters: ArrayLike | None = None, *, confidence: float = 0.95
) -> Interval:
    """How much further from 0 the mean of `tuned` lies than that of `base`, whichever way each leans.

    |t| - |b| is sign(ds) min(|d|, |s|) of d = t - b and s = t + b, and monotone in each: its limits are those
    at the corners of the two intervals. It lies above 0 only where d and s both leave out 0 on the same side,
    one of which is truly 0 where the leanings are equal: so no more false alarms than one interval has.
    """
    first, second = np.asarray(base, np.float64), np.asarray(tuned, np.float64)
    apart = mean(second - first, clusters, confidence=confidence)
    both = mean(second + first, clusters, confidence=confidence)
    value, n = abs(float(second.mean())) - abs(float(first.mean())), len(first)
    if apart.low is None or apart.high is None or both.low is None or both.high is None:
        return Interval(value, None, None, n, why=apart.why or both.why)
    corners = [_nearer(d, s) for d in (apart.low, apart.high) for s in (both.low, both.high)]
    return Interval(value, min(corners), max(corners), n)


def _nearer(apart: float, both: float) -> float:
    return math.copysign(1.0, apart) * math.copysign(1.0, both) * min(abs(apart), abs(both))


def apart(first: Interval, second: Interval, correlation: float = 0.0) -> Interval:
    """First minus second by the limits of both (Zou and Donner 2008), which are correlated by so much;
    without limits, and with its reason, where one of them has none. n counts what both rest on."""
    value, n = first.value - second.value, first.n + second.n
    if first.low is None or first.high is None or second.low is None or second.high is None:
        return Interval(value, None, None, n, why=first.why or second.why)
    down, up = first.value - first.low, first.high - first.value
    other_down, other_up = second.value - second.low, second.high - second.value
    below = math.sqrt(max(0.0, down**2 + other_up**2 - 2 * correlation * down * other_up))
    above = math.sqrt(max(0.0, up**2 + other_down**2 - 2 * correlation * up * other_down))
    return Interval(value, value - below, value + above, n)


def correlation(first: ArrayLike, second: ArrayLike) -> float:
    """Of two numbers an item, where it widens a difference, so below 0; else 0, which is on the safe side."""
    one_side, other = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if len(one_side) < 2 or not one_side.std() or not other.std():
        return 0.0
    return min(0.0, float(np.corrcoef(one_side, other)[0, 1]))


def _by_cluster(values: Array, clusters: ArrayLike) -> tuple[Array, Array]:
    _, place = np.unique(np.asarray(clusters), return_inverse=True)
    sums: Array = np.bincount(place, weights=values).astype(np.float64)
    return sums, np.bincount(place).astype(np.float64)
