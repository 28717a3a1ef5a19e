"""Votes of shapes whose truth is known, as comparisons: what the statistics of rounds take.

Of a shape with a third vote on disputed prompts the third one is adjudication, as the engine asks for it.
"""

from __future__ import annotations

import numpy as np

from bench.made.shapes.votes import ROUNDS, Votes
from engine.diagnostics.rating.rows.ratings import Comparisons, PairOutcome


def compare(
    votes: Votes, models: int = 2, *, adjudicated: bool = False, first: int | None = None
) -> Comparisons:
    """The votes, or the first of them, in their order."""
    part = slice(first)
    named = np.array([PairOutcome.TIE, PairOutcome.LEFT, PairOutcome.RIGHT], np.int64)
    outcome = named[votes.outcomes[part]]  # -1 is the last
    alike = bool(np.ptp(votes.inclusion) == 0)
    raters = votes.raters[part]
    return Comparisons(
        tuple(f"s{k}" for k in range(models)), votes.first[part], votes.second[part],
        outcome, votes.items[part], raters,
        tuple(f"r{k}" for k in range(int(votes.raters.max()) + 1)),
        tuple(f"i{k}" for k in range(int(votes.items.max()) + 1)),
        weights=None if alike else 1 / votes.inclusion[part],
        adjudication=raters == 2 if adjudicated else None,
    )  # fmt: skip


def toss(rng: np.random.Generator, shape: str, items: int, models: int, raters: int) -> Comparisons:
    """Raters who each toss coins of that shape for every pair of each prompt."""
    drawn = [ROUNDS[shape](rng, items, models) for _ in range(raters)]
    columns = [np.concatenate([getattr(each, name) for each in drawn])
               for name in ("items", "at", "first", "second", "outcomes", "inclusion")]  # fmt: skip
    items_of, at, first, second, outcomes, inclusion = columns
    who = np.repeat(np.arange(raters), [len(each.items) for each in drawn])
    return compare(Votes(items_of, who, at, first, second, outcomes, inclusion, 0.0), models)
