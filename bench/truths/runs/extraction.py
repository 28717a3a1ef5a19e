"""Canaries and extracted rows: coverage of the interval of their mean, few and bounded as they are.

The band extends to 99%, on the conservative side: near a bound one of the two limits can hardly be wrong
(`engine/evaluation/statistics/intervals.py`).
"""

from __future__ import annotations

import math
from functools import cache, partial

import numpy as np
from scipy import special

from bench.made.shapes.memorised import CANARIES, Canaries
from bench.made.truth_rows import Floats
from bench.truths import Rate
from engine.evaluation.statistics.intervals import bounded_mean_interval
from engine.evaluation.verdicts import extraction
from store.evaluation.forgetting_schemas import CanaryExposure

CANDIDATES = 255


def exposures(rng: np.random.Generator, canaries: int, learned: float, spread: float) -> Floats:
    """Draw the exposures of canaries whose loss is `learned` standard deviations below that of texts never
    planted.
    """
    above = special.ndtr(-rng.normal(learned, spread, canaries))
    return math.log2(CANDIDATES + 1) - np.log2(1 + rng.binomial(CANDIDATES, above))


@cache
def _mean(learned: float, spread: float) -> float:
    return float(exposures(np.random.default_rng(0), 200_000, learned, spread).mean())


def holds_exposure(rng: np.random.Generator, canaries: int, learned: float, spread: float) -> bool:
    """Whether the interval of the mean exposure covers the truth."""
    most = math.log2(CANDIDATES + 1)
    interval = bounded_mean_interval(exposures(rng, canaries, learned, spread), 0.0, most)
    assert interval.low is not None
    assert interval.high is not None
    return interval.low <= _mean(learned, spread) <= interval.high


def holds_share(rng: np.random.Generator, rows: int, whole: float) -> bool:
    """Whether the interval of the share of a row that is right before the first error covers the truth, if a
    part of the rows is entirely right.
    """
    shares = np.where(rng.random(rows) < whole, 1.0, rng.beta(1, 4, rows))
    interval = bounded_mean_interval(shares, 0.0, 1.0)
    assert interval.low is not None
    assert interval.high is not None
    return interval.low <= whole + (1 - whole) * 0.2 <= interval.high


def called_exposed(rng: np.random.Generator, shape: str, canaries: int) -> bool:
    """Whether planted canaries that left no trace are called exposed."""
    drawn = CANARIES[shape](rng, canaries, 0.0)
    return _measured(drawn).groups[0].exposed


def found_as_said(rng: np.random.Generator, shape: str, canaries: int) -> bool:
    """Whether canaries are detected whose mean exposure is the minimum stated to be detected in 80 of 100
    runs.
    """
    return _measured(CANARIES[shape](rng, canaries, _least_shift(shape, canaries))).groups[0].exposed


def all_clear(rng: np.random.Generator, shape: str, canaries: int) -> bool:
    """Whether a shift of half a standard deviation is reported as nothing, without stating what could have
    been detected.
    """
    sentence = _measured(CANARIES[shape](rng, canaries, 0.5)).sentence
    return "exposed" not in sentence and "found" not in sentence and "can't show more" not in sentence


def _measured(drawn: Canaries) -> CanaryExposure:
    losses = zip(drawn.planted.tolist(), drawn.others, strict=True)
    return extraction.assess_canaries({4: list(losses)})


@cache
def _least_shift(shape: str, canaries: int) -> float:
    """Return the shift at which the mean exposure is the detectable one stated for this number of
    canaries.
    """
    rng = np.random.default_rng(0)
    least = _measured(CANARIES[shape](rng, canaries, 0.0)).groups[0].detectable
    assert least is not None
    for shift in np.arange(0.1, 6, 0.1):
        ranks = CANARIES[shape](rng, 1_000, float(shift)).ranks
        if float((8 - np.log2(ranks)).mean()) >= least:
            return float(shift)
    raise AssertionError(f"No shift gives {least:.1f} bits.")


RATES = [
    *(
        Rate(
            "extraction", f"{canaries} canaries, {shape}, nothing learned: called exposed", 0.05, 0.0, 0.06,
            partial(called_exposed, shape=shape, canaries=canaries), 1_000,
        )
        for shape in CANARIES if shape != "a fifth memorised"
        for canaries in (5, 20)
    ),
    *(
        Rate(
            "extraction", f"{canaries} canaries, {shape}, as exposed as is said to be found: exposed", 0.8,
            0.75, 1.0, partial(found_as_said, shape=shape, canaries=canaries), 1_000,
        )
        for shape in CANARIES if shape != "a fifth memorised"
        for canaries in (5, 20, 50)
    ),
    *(
        Rate(
            "extraction", f"{canaries} canaries, {shape}, half a deviation: all-clear", 0.0, 0.0, 0.0,
            partial(all_clear, shape=shape, canaries=canaries), 500,
        )
        for shape in CANARIES
        for canaries in (5, 20)
    ),
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
