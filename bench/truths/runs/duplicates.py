"""Repeated training rows that were learned no better than the others: how often they are called different."""

from __future__ import annotations

from functools import partial

import numpy as np

from bench.made.truth_rows import Floats, heavy, lengths
from bench.truths import Rate
from engine.evaluation.verdicts import duplicates


def differ(rng: np.random.Generator, repeated: int, once: int) -> bool | None:
    """Whether repeated and unique training rows whose loss fell equally are called different; None if there
    are too few to measure.
    """
    kinds = [_rows(rng, rows) for rows in (repeated, once)]
    change = duplicates.subtract_intervals(*(duplicates.estimate_loss_drop(*kind) for kind in kinds))
    return None if change is None else change.above or change.below


def _rows(rng: np.random.Generator, rows: int) -> tuple[Floats, Floats]:
    """Draw the loss reductions of rows in summed nats, and their tokens."""
    tokens = lengths(rng, rows)
    return tokens * (0.3 + heavy(rng, rows, spread=0.3)), tokens


RATES = [
    Rate(
        "duplicates", f"{repeated} repeated rows against {once}, lengths hundredfold: called different", 0.05,
        0.0, 0.07, partial(differ, repeated=repeated, once=once), 1_000,
    )
    for repeated, once in ((8, 200), (10, 200), (30, 100))
]  # fmt: skip
