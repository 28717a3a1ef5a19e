"""Verdict on a gain, where rare rows get much worse and lengths correlate with the gain.

For every shape of `bench.made.shapes.paired_rows`, which are independent of the interval: whether the
displayed gain covers the true one, and whether a run without a gain is called learned. The training rows
have the same shape, and are four times as many.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from bench.made.shapes import SIZES
from bench.made.shapes.paired_rows import PAIRED
from bench.truths import Rate
from engine.evaluation.statistics.intervals import Interval
from engine.evaluation.training_curve.advice import CheckpointChoice
from engine.evaluation.verdicts import verdict
from engine.evaluation.verdicts.paired_measurements import HeldOut, ModelRows

TRAINED = 4  # training rows per held-out row
LEVEL = 2.0  # nats per token around which the base model's losses vary


def gain(rng: np.random.Generator, shape: str, rows: int, truth: float) -> tuple[Interval, Interval]:
    """Return the gain of one draw: over the measured rows, and as displayed."""
    drawn, trained = PAIRED[shape](rng, rows, truth), PAIRED[shape](rng, TRAINED * rows, truth)
    right = np.zeros(rows)
    return verdict.measure_gain(
        HeldOut(
            split="test",
            row_ids=np.arange(rows),
            tokens=drawn.tokens,
            base=ModelRows(drawn.base, right),
            tuned=ModelRows(drawn.tuned, right),
            population=trained.tokens,
        ),
        CheckpointChoice(),
    )


def covers(shape: str, rows: int, rng: np.random.Generator) -> bool | None:
    """Whether the interval covers the gain; None without an interval."""
    _, interval = gain(rng, shape, rows, 0.1)
    return None if interval.low is None or interval.high is None else interval.low <= 0.1 <= interval.high


def learned(shape: str, rows: int, truth: float, rng: np.random.Generator) -> bool:
    """Whether the verdict is "learned" for a gain of `truth`."""
    seen, interval = gain(rng, shape, rows, truth)
    return verdict.determine_state(interval, LEVEL, seen=seen) == "learned"


def has_interval(shape: str, rows: int) -> bool:
    """Whether any draw has an interval: 3% of the rows with most of the tokens are too few among fewer than
    300.
    """
    return rows >= 300 or not shape.startswith("3% are")


def _rates(shape: str) -> list[Rate]:
    covered = [
        Rate("learned", f"gain covers: {shape}, n {n}", 0.95, 0.93, 1, partial(covers, shape, n), 1_000)
        for n in SIZES
        if has_interval(shape, n)
    ]
    return covered + [
        Rate("learned", f"called learned at a gain of 0: {shape}, n {n}", 0.025, 0, 0.05,
             partial(learned, shape, n, 0.0), 1_000)
        for n in SIZES
    ]  # fmt: skip


SEEN = (
    ("normal, even lengths", 30, 0.7),
    ("normal, even lengths", 100, 0.25),
    ("normal, even lengths", 500, 0.07),
    ("t4, unequal lengths", 100, 0.7),
    ("t4, unequal lengths", 300, 0.25),
    ("2% lose 1 nat, even lengths", 500, 0.1),
)
RATES = [
    *(rate for shape in PAIRED for rate in _rates(shape)),
    *(
        Rate("learned", f"called learned at a gain of {truth:g}: {shape}, n {rows}", 0.8, 0.6, 1,
             partial(learned, shape, rows, truth), 500)
        for shape, rows, truth in SEEN
    ),
]  # fmt: skip
