"""Equal models, each held against the best of them: how often any is called different."""

from __future__ import annotations

from functools import partial

import numpy as np

from bench.truth_rows import heavy, lengths
from bench.truths import Rate
from engine.diagnostics import comparison, seeds


def one_differs(rng: np.random.Generator, models: int, rows: int) -> bool:
    """Of so many equal models, on the same rows, one is told from the one with the lowest loss."""
    tokens = lengths(rng, rows)
    losses = tokens * (2 + heavy(rng, rows, spread=0.5) + heavy(rng, models, rows, spread=0.1))
    best, *others = losses[np.argsort(losses.sum(axis=1))]
    comparisons = comparison.pairs(models)
    found = (
        comparison.difference("A", "B", best, other, tokens, comparisons=comparisons)
        for other in reversed(others)  # the last is the farthest, so that most draws end with the first
    )
    return any(one.separated for one in found)


def one_setting_differs(rng: np.random.Generator, settings: int, repeats: int, rows: int) -> bool:
    """Of so many equal settings, each run with so many seeds, one is told from the best."""
    tokens = lengths(rng, rows)
    by_seed = rng.normal(0, 0.02, (settings, repeats, 1)) + heavy(rng, settings, repeats, rows, spread=0.1)
    losses = tokens * (2 + heavy(rng, rows, spread=0.5) + by_seed)
    known = seeds.spread(list(losses), tokens)
    assert known is not None
    best, *others = losses[np.argsort(losses.sum(axis=(1, 2)))]
    confidence = 1 - 0.05 / comparison.pairs(settings)
    found = (seeds.difference(best, other, tokens, known, confidence=confidence) for other in others)
    return any(one.above or one.below for one in found)


RATES = [
    *(
        Rate(
            "comparisons", f"{models} equal models, {rows} rows: one called different", 0.05, 0.0, 0.07,
            partial(one_differs, models=models, rows=rows), 1_000,
        )
        for models, rows in ((2, 50), (5, 30), (5, 100), (10, 100), (20, 100))
    ),
    *(
        Rate(
            "comparisons", f"{settings} equal settings of {repeats} seeds: one called different", 0.05, 0.0,
            0.07, partial(one_setting_differs, settings=settings, repeats=repeats, rows=100),
        )
        for settings, repeats in ((3, 2), (5, 3))
    ),
]  # fmt: skip
