"""Training and held-out rows that differ only in difficulty: false findings of memorization; true ones."""

from __future__ import annotations

from functools import partial

import numpy as np

from bench.made.truth_rows import heavy
from bench.truths import Rate
from engine.evaluation.verdicts import membership_inference


def remembers(
    rng: np.random.Generator, rows: int, *, shift: float = 0.0, memory: float = 0.0, slope: float = 0.8
) -> bool:
    """Whether memorization is reported for this number of rows of each kind. Training rows are `shift` nats
    harder for both models; tuning reduces every row's loss by a share, and that of training rows by
    `memory` more nats.
    """
    members, others = (_losses(rng, rows, *kind, slope) for kind in ((shift, memory), (0.0, 0.0)))
    return membership_inference.determine_state(members, others) == "remembers"


def _losses(
    rng: np.random.Generator, rows: int, harder: float, memory: float, slope: float
) -> membership_inference.PairedScores:
    base = 2 + harder + heavy(rng, rows, spread=0.4)
    tuned = slope * base + 0.2 - memory + heavy(rng, rows, spread=0.15)
    return {"base": {"loss": base}, "tuned": {"loss": tuned}}


RATES = [
    *(
        Rate(
            "membership", f"{rows} + {rows} rows, harder by {shift:g}, loss times {slope:g}: remembers", 0.05,
            0.0, 0.07, partial(remembers, rows=rows, shift=shift, slope=slope), 1_000,
        )
        for rows, shift, slope in (
            (3, 0.0, 0.8), (5, 0.0, 0.8), (10, 0.3, 0.8), (30, 0.3, 0.6), (100, 0.3, 0.8), (100, -0.3, 1.2),
            (300, 0.3, 0.6),
        )
    ),
    Rate(
        "membership", "100 + 100 rows, 0.15 nats of memory, harder by 0.3: remembers", 1.0, 0.95, 1.0,
        partial(remembers, rows=100, shift=0.3, memory=0.15), 1_000,
    ),
]  # fmt: skip
