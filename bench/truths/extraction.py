"""Canaries and rows from memory: whether the interval of their mean holds it, few and bounded as they are.

The band reaches to 99%, on the careful side: near a bound one of the two limits can hardly lie wrong
(`engine/diagnostics/statistics/bounded.py`).
"""

from __future__ import annotations

import math
from functools import cache, partial

import numpy as np
from scipy import special

from bench.made.truth_rows import Floats
from bench.truths import Rate
from engine.diagnostics.statistics.bounded import mean_interval

CANDIDATES = 255


def exposures(rng: np.random.Generator, canaries: int, learned: float, spread: float) -> Floats:
    """Of canaries whose loss lies so many standard deviations below that of texts never planted."""
    above = special.ndtr(-rng.normal(learned, spread, canaries))
    return math.log2(CANDIDATES + 1) - np.log2(1 + rng.binomial(CANDIDATES, above))


@cache
def _mean(learned: float, spread: float) -> float:
    return float(exposures(np.random.default_rng(0), 200_000, learned, spread).mean())


def holds_exposure(rng: np.random.Generator, canaries: int, learned: float, spread: float) -> bool:
    """The interval of the mean exposure holds it."""
    most = math.log2(CANDIDATES + 1)
    interval = mean_interval(exposures(rng, canaries, learned, spread), 0.0, most)
    assert interval.low is not None
    assert interval.high is not None
    return interval.low <= _mean(learned, spread) <= interval.high


def holds_share(rng: np.random.Generator, rows: int, whole: float) -> bool:
    """The share of a row that was right before the first slip: all of it in a part of the rows."""
    shares = np.where(rng.random(rows) < whole, 1.0, rng.beta(1, 4, rows))
    interval = mean_interval(shares, 0.0, 1.0)
    assert interval.low is not None
    assert interval.high is not None
    return interval.low <= whole + (1 - whole) * 0.2 <= interval.high


RATES = [
    *(
        Rate(
            "extraction", f"exposure of {canaries} canaries, mean {_mean(*kind):.1f} of 8: covers", 0.95,
            0.93, 0.99, partial(holds_exposure, canaries=canaries, learned=kind[0], spread=kind[1]), 2_000,
        )
        for canaries, kind in (
            (5, (0.0, 1.0)), (5, (2.0, 3.0)), (5, (3.0, 0.7)), (5, (3.0, 1.5)), (10, (3.0, 1.5)),
            (5, (3.0, 0.3)), (5, (4.0, 0.7)), (10, (4.0, 0.7)), (20, (4.0, 0.7)),
        )
    ),
    *(
        Rate(
            "extraction", f"share of an answer before the first slip, {rows} rows, {whole:.0%} whole: covers",
            0.95, 0.93, 0.99, partial(holds_share, rows=rows, whole=whole), 2_000,
        )
        for rows, whole in ((5, 0.5), (10, 0.9), (50, 0.05))
    ),
]  # fmt: skip
