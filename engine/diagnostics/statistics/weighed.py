"""Figures that are one sum over another, or follow from it: a mean, a perplexity, bits per byte.

Their intervals are those of `statistics.ratio_interval`. A perplexity's is made on its logarithm, on which
rows add up: of 20 to 100 rows BCa limits of it covered 82 to 89%. The difference of two such figures is
linearised: what each row adds to either sum, times how the figure follows the sum there. Pure: arrays in, an
`Interval` out.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from engine.diagnostics.statistics.statistics import Interval, ratio_interval

Floats = NDArray[
    np.float64
]  # sums are [units, 2]: what is summed (such as nats), and over what (such as tokens)
FIGURES = ("mean", "perplexity", "bits_per_byte")
OVERFLOW = 700.0  # nats a token, of which there is no perplexity


def interval(figure: str, sums: Floats, *, confidence: float = 0.95) -> Interval:
    """One of FIGURES over units, of which some weigh something."""
    ratio = ratio_interval(sums[:, 0], sums[:, 1], confidence=confidence)
    if figure == "perplexity":
        return _exponential(ratio)
    return ratio if figure == "mean" else _scaled(ratio, 1 / math.log(2))


def difference(figure: str, first: Floats, second: Floats, *, confidence: float = 0.95) -> Interval:
    """The first model's figure less the second's, over the same units."""
    own, other = _influences(figure, first), _influences(figure, second)
    value, weights = own[0] - other[0], (first[:, 1] + second[:, 1]) / 2
    weighs = weights > 0
    each = np.where(weighs, (own[1] - other[1]) * weights.sum() + value * weights, 0.0)
    return ratio_interval(each[weighs], weights[weighs], confidence=confidence)


def _influences(figure: str, sums: Floats) -> tuple[float, Floats]:
    """The figure, and by how much each unit moves it from where the sum would be without it [units]."""
    total = sums.sum(axis=0)
    ratio = float(total[0] / total[1])
    value, slope = AT[figure](ratio)
    return value, slope * (sums[:, 0] - ratio * sums[:, 1]) / total[1]


def _perplexity_at(nats: float) -> tuple[float, float]:
    value = math.exp(min(nats, OVERFLOW))
    return value, value


AT: dict[str, Callable[[float], tuple[float, float]]] = {  # the figure of a ratio, and its slope there
    "mean": lambda ratio: (ratio, 1.0),
    "perplexity": _perplexity_at,
    "bits_per_byte": lambda ratio: (ratio / math.log(2), 1 / math.log(2)),
}


def _scaled(ratio: Interval, factor: float) -> Interval:
    def scale(value: float | None) -> float | None:
        return None if value is None else factor * value

    scaled = replace(ratio, value=factor * ratio.value, low=scale(ratio.low), high=scale(ratio.high))
    return replace(scaled, se=scale(ratio.se), detectable=scale(ratio.detectable))


def _exponential(nats: Interval) -> Interval:
    """`se` and `detectable` as they are at the value, in units of perplexity."""
    if max(nats.value, nats.high or nats.value) > OVERFLOW:
        return Interval(math.inf, None, None, nats.n, why="it is too large to be written")
    value = math.exp(nats.value)
    low, high = (None if end is None else math.exp(end) for end in (nats.low, nats.high))
    se = None if nats.se is None else value * nats.se
    seen = None if nats.detectable is None else value * math.expm1(min(nats.detectable, OVERFLOW))
    return replace(nats, value=value, low=low, high=high, se=se, detectable=seen)
