"""Coverage of strengths in arenas so large that votes are resampled by one step each, and equal systems."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.made.voted import arena
from bench.ratings import LOW, holds, together
from bench.truths import Rate
from engine.rating.analysis.comparisons import Comparisons
from engine.rating.analysis.strengths import estimate_strengths

Draw = Callable[[np.random.Generator], bool | None]
DRAWS = 200
CAREFUL = 0.98  # for raters who hardly differ, which is not known beforehand
ARENAS = {  # so large that resamples take one step each
    "12 systems, 6,000 votes on 4,000 items": {"models": 12, "votes": 6_000, "items": 4_000, "of_item": 0.8},
    "12 systems, 6,000 votes on 4,000 items, 30 raters of unlike taste": {
        "models": 12, "votes": 6_000, "items": 4_000, "raters": 30, "of_item": 0.5, "of_rater": 0.5,
    },
    "59 systems, 9,000 votes on 100 items": {"models": 59, "votes": 9_000, "items": 100, "of_item": 0.5},
}  # fmt: skip


def _votes(shape: str, rng: np.random.Generator, *, equal: bool = False, **more: Any) -> Comparisons:
    asked = ARENAS[shape] | more
    apart = 0.0 if equal else 1.0
    return arena(levels=np.linspace(-apart, apart, asked["models"]), rng=rng, **asked)


def votes_hold(shape: str) -> Draw:
    """Return the event that the intervals of all pairwise differences of an arena cover the truth at once,
    for the population of items and raters.
    """

    def happens(rng: np.random.Generator) -> bool | None:
        fitted, truth = estimate_strengths(_votes(shape, rng)), _arena_truth(shape)
        pairs = combinations(range(len(truth)), 2)
        return together(
            [
                holds(pair.interval, truth[i] - truth[j])
                for pair, (i, j) in zip(fitted.differences, pairs, strict=True)
            ]
        )

    return happens


@cache
def _arena_truth(shape: str) -> NDArray[np.float64]:
    """Return the strengths for a very large number of votes, items and raters, so that items and raters
    hardly repeat.
    """
    endless = {"votes": 30_000 * ARENAS[shape]["models"], "items": 200_000, "raters": 200_000}
    votes = _votes(shape, np.random.default_rng(1), **endless)
    return np.array([at.value for at in estimate_strengths(votes, resamples=2).strengths])


def any_of_votes_better(shape: str) -> Draw:
    """Return the event that any two of an arena's equal systems are called different."""

    def happens(rng: np.random.Generator) -> bool:
        pairs = estimate_strengths(_votes(shape, rng, equal=True)).differences
        return any(pair.verdict in ("better", "worse") for pair in pairs)

    return happens


RATES = [
    *(Rate("arenas", f"all pairs at once cover, {name}", 0.95, LOW, CAREFUL, votes_hold(name), DRAWS)
      for name in ARENAS),
    *(Rate("arenas", f"equal, any called better, {name}", 0.05, 0.0, 0.07, any_of_votes_better(name), DRAWS)
      for name in list(ARENAS)[:2]),
]  # fmt: skip
