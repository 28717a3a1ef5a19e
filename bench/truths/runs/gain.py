"""Coverage of the interval of a gain in loss per token, for all distributions of gains and lengths."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from bench.truths import Rate
from engine.evaluation.statistics.intervals import Interval, ratio_interval

Floats = NDArray[np.float64]
Drawn = Callable[[np.random.Generator, int], Floats]
SIGMA = 1.2  # sigma of log-normal gains: their skewness is 11


def even(rng: np.random.Generator, n: int) -> Floats:
    """Return rows of equal length."""
    return np.full(n, 50.0)


def unequal(rng: np.random.Generator, n: int) -> Floats:
    """Draw log-normal lengths (sigma 1): among 100 rows the longest is about a hundred times the shortest."""
    return np.maximum(1, np.round(np.exp(rng.normal(4, 1, n))))


def some_long(rng: np.random.Generator, n: int) -> Floats:
    """Draw lengths of which one in twenty is a hundred times as long as the others."""
    return np.where(rng.random(n) < 0.05, 2_000.0, 20.0)


def normal(rng: np.random.Generator, n: int) -> Floats:
    """Draw gains per token around 0."""
    return rng.normal(0, 1, n)


def heavy(rng: np.random.Generator, n: int) -> Floats:
    """Draw from Student's t with 4 degrees of freedom."""
    return rng.standard_t(4, n)


def skewed(rng: np.random.Generator, n: int) -> Floats:
    """Draw log-normal values less their mean."""
    return np.exp(rng.normal(0, SIGMA, n)) - np.exp(SIGMA**2 / 2)


def interval(rng: np.random.Generator, gains: Drawn, lengths: Drawn, n: int, mean: float = 0.0) -> Interval:
    """Return the interval of one draw of rows whose gains per token have this mean."""
    tokens = lengths(rng, n)
    return ratio_interval(tokens * (mean + gains(rng, n)), tokens)


def _covers(gains: Drawn, lengths: Drawn, n: int, rng: np.random.Generator) -> bool | None:
    given = interval(rng, gains, lengths, n)
    if given.low is None or given.high is None:
        return None
    return given.low <= 0 <= given.high


def _sure_of_one_long_row(rng: np.random.Generator) -> bool:
    tokens = np.r_[10_000.0, np.full(29, 20.0)]
    return ratio_interval(tokens * rng.normal(0, 1, 30), tokens).low is not None


def _rate(gains: Drawn, lengths: Drawn, n: int, name: str) -> Rate:
    return Rate("gain", f"{name}, n {n}", 0.95, 0.93, 0.97, partial(_covers, gains, lengths, n), 4_000)


RATES = [
    *(_rate(normal, even, n, "interval covers, normal gains, even lengths") for n in (10, 50, 500)),
    *(_rate(normal, unequal, n, "interval covers, normal gains, log-normal lengths") for n in (10, 50, 500)),
    *(_rate(heavy, unequal, n, "interval covers, t4 gains, log-normal lengths") for n in (10, 20, 100, 500)),
    *(_rate(heavy, some_long, n, "interval covers, t4 gains, 5% of rows 100 times as long")
      for n in (10, 20, 100, 500)),
    *(_rate(skewed, even, n, "interval covers, log-normal gains, sigma 1.2") for n in (50, 100, 500)),
    Rate("gain", "an interval where one of 30 rows has 10,000 tokens, the others 20", 0, 0, 0,
         _sure_of_one_long_row, 200),
]  # fmt: skip
