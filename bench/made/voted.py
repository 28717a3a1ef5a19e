"""Votes of shapes whose truth is known, as comparisons, the input of the statistics of rounds.

In a shape with a third vote on disputed prompts, the third one is adjudication, as the engine requests it.
"""

from __future__ import annotations

import numpy as np

from bench.made.shapes.votes import ROUNDS, Votes
from engine.rating.analysis import davidson
from engine.rating.analysis.comparisons import Comparisons, PairOutcome


def compare(
    votes: Votes, models: int = 2, *, adjudicated: bool = False, first: int | None = None
) -> Comparisons:
    """Convert the votes, or the first of them, in their order."""
    part = slice(first)
    named = np.array([PairOutcome.TIE, PairOutcome.LEFT, PairOutcome.RIGHT], np.int64)
    outcome = named[votes.outcomes[part]]  # -1 indexes the last
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
    """Draw comparisons of raters who each answer at random, in that shape, for every pair of each prompt."""
    drawn = [ROUNDS[shape](rng, items, models) for _ in range(raters)]
    columns = [np.concatenate([getattr(each, name) for each in drawn])
               for name in ("items", "at", "first", "second", "outcomes", "inclusion")]  # fmt: skip
    items_of, at, first, second, outcomes, inclusion = columns
    who = np.repeat(np.arange(raters), [len(each.items) for each in drawn])
    return compare(Votes(items_of, who, at, first, second, outcomes, inclusion, 0.0), models)


def arena(
    votes: int,
    models: int = 59,
    *,
    items: int = 2_000,
    raters: int = 124,
    levels: np.ndarray | None = None,
    of_item: float = 0.0,
    of_rater: float = 0.0,
    ties: float = 0.2,
    rng: np.random.Generator | None = None,
) -> Comparisons:
    """Draw votes like those of a public arena: many models, two of which are compared in each vote, and many
    raters.

    levels: log odds of the models; drawn if omitted. of_item, of_rater: how much the models differ by item
    and by rater. ties: log nu.
    """
    rng = rng or np.random.default_rng(0)
    strong = rng.normal(0, 0.6, models) if levels is None else levels
    item, rater = rng.integers(0, items, votes), rng.integers(0, raters, votes)
    left = rng.integers(0, models, votes)
    right = (left + rng.integers(1, models, votes)) % models
    apart = strong[left] - strong[right]
    for spread, who, count in ((of_item, item, items), (of_rater, rater, raters)):
        if spread:
            own = rng.normal(0, spread, (count, models))
            apart = apart + own[who, left] - own[who, right]
    shares = davidson.compute_probabilities(apart, np.full(votes, ties))
    outcome = (rng.random((votes, 1)) > shares.cumsum(axis=1)[:, :2]).sum(axis=1)
    return Comparisons(
        tuple(f"s{k}" for k in range(models)), left, right, outcome.astype(np.int64), item, rater,
        tuple(f"r{k}" for k in range(raters)), tuple(map(str, range(items))),
    )  # fmt: skip
