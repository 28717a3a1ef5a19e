"""A judge that sees no difference: how often one is found in its wins, ties and losses."""

from __future__ import annotations

from functools import partial

import numpy as np

from bench.truths import Rate
from engine.evaluation.statistics.metric_estimates import RowScores, estimate_figure


def differs(rng: np.random.Generator, rows: int, ties: float) -> bool:
    """Whether a difference is called for pairs with this share of ties, the others being won as often as
    lost.
    """
    scores = np.where(rng.random(rows) < ties, 0.5, rng.integers(0, 2, rows).astype(float))
    places = np.arange(rows)
    interval, _ = estimate_figure(RowScores("judge", places, scores, bounds=(0.0, 1.0)), places)
    assert interval.low is not None
    assert interval.high is not None
    return not interval.low <= 0.5 <= interval.high


RATES = [
    Rate(
        "judging", f"{rows} pairs, {ties:.0%} ties, no difference: one seen", 0.05, 0.0, 0.07,
        partial(differs, rows=rows, ties=ties), 4_000,
    )
    for rows, ties in ((20, 0.8), (50, 0.8), (50, 0.95), (200, 0.95), (100, 0.3))
]  # fmt: skip
