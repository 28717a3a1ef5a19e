"""Coverage of the intervals of strengths, alone and for all pairs at once, and equal systems."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray

from bench.made.rating_round import POPULATION, Round
from bench.ratings import HIGH, LOW, holds, together
from bench.truths import Rate
from engine.rating.analysis.strengths import estimate_strengths

Draw = Callable[[np.random.Generator], bool | None]
DRAWS = 1_000
CAREFUL = 0.98  # with five raters, whose differences can hardly be estimated
RESAMPLES = 400  # per draw: limits vary more than those shown, by less than 3% of their distance
NOISY = {"noise": 0.5, "side": (0.3, 0.5), "random": 0.4}  # of raters

TWO = {
    "10 items, 1 rater": Round((0.5, 0.0), items=10, raters=1),
    "10 items, 3 raters each": Round((0.5, 0.0), items=10, raters=3, overlap=3, **NOISY),
    "30 items, far apart": Round((1.5, 0.0), items=30, raters=1),
    "30 items of very unequal difficulty, 2 raters each": Round(
        (0.8, 0.0), items=30, raters=2, overlap=2, of_item=2.0
    ),
    "100 items, 3 noisy raters each": Round((0.5, 0.0), items=100, raters=3, overlap=3, **NOISY),
    "100 items, 2 raters of unlike taste": Round((0.5, 0.0), items=100, raters=2, of_rater=0.8),
    "100 items, most ties": Round((0.5, 0.0), nu=6.0, items=100, raters=3, overlap=2),
    "500 items, 4 raters, 2 each, 20% both bad": Round(
        (0.3, 0.0), items=500, raters=4, overlap=2, bad=0.2, **NOISY
    ),
}
MANY = {
    "3 systems, 30 items, all pairs by 2 raters": Round((1.0, 0.5, 0.0), items=30, raters=2, apart=0),
    "4 systems, 50 items, 2 pairs of each by 3 raters": Round(
        (0.9, 0.5, 0.3, 0.0), items=50, raters=3, apart=2, overlap=3, **NOISY
    ),
    "6 systems, 60 items, 3 pairs of each": Round(
        (1.5, 1.0, 0.6, 0.3, 0.2, 0.0), items=60, raters=2, apart=3
    ),
    "6 systems, 200 items, 3 pairs of each": Round(
        (1.5, 1.0, 0.6, 0.3, 0.2, 0.0), items=200, raters=4, apart=3, **NOISY
    ),
}
OTHERS = {
    "5 raters of one taste, 100 items": Round((0.5, 0.0), items=100, raters=5),
    "5 raters of like taste, 100 items": Round((0.5, 0.0), items=100, raters=5, of_rater=0.3),
    "5 raters of like taste, 100 items, 3 each": Round(
        (0.5, 0.0), items=100, raters=5, overlap=3, of_rater=0.3
    ),
    "5 raters of unlike taste, 300 items": Round((0.5, 0.0), items=300, raters=5, of_rater=0.8),
    "8 noisy raters of like taste, 200 items, 2 each": Round(
        (0.5, 0.0), items=200, raters=8, overlap=2, of_rater=0.3, **NOISY
    ),
    "8 raters of unlike taste, 300 items": Round((0.5, 0.0), items=300, raters=8, of_rater=0.8),
    "20 raters of like taste, 200 items, 2 each": Round(
        (0.5, 0.0), items=200, raters=20, overlap=2, of_rater=0.3
    ),
    "5 raters of like taste, 4 systems, 200 items": Round(
        (0.9, 0.5, 0.3, 0.0), items=200, raters=5, apart=2, overlap=2, of_rater=0.3
    ),
}
EQUAL = {
    "2 systems, 30 items": Round((0.0, 0.0), items=30, raters=1),
    "6 systems, 100 items, 3 pairs of each": Round((0.0,) * 6, items=100, raters=3, apart=3),
    "6 systems, 100 items, 5 raters": Round((0.0,) * 6, items=100, raters=5, apart=3, of_rater=0.3),
}


@cache
def _of_all_raters(round_: Round) -> NDArray[np.float64]:
    """Return the strengths averaged over the population of raters."""
    return round_.truth(round_.people(np.random.default_rng(0), POPULATION))[0]


def pairs_hold(round_: Round, *, others: bool = False) -> Draw:
    """Return the event that the intervals of all pairwise differences cover the truth at once, for these
    raters or for the population (`others`).
    """

    def happens(rng: np.random.Generator) -> bool | None:
        people = round_.people(rng)
        fitted = estimate_strengths(round_.draw(rng, people), resamples=RESAMPLES)
        truth = _of_all_raters(round_) if others else round_.truth(people)[0]
        return together(
            [
                holds(pair.interval, truth[i] - truth[j])
                for pair, (i, j) in zip(fitted.differences, round_.pairs, strict=True)
            ]
        )

    return happens


def first_holds(round_: Round) -> Draw:
    """Return the event that the interval of the first system's strength, relative to the mean of all, covers
    the truth.
    """

    def happens(rng: np.random.Generator) -> bool | None:
        people = round_.people(rng)
        return holds(
            estimate_strengths(round_.draw(rng, people), resamples=RESAMPLES).strengths[0],
            round_.truth(people)[0][0],
        )

    return happens


def ties_hold(round_: Round) -> Draw:
    """Return the event that the interval of Davidson's nu covers the truth."""

    def happens(rng: np.random.Generator) -> bool | None:
        people = round_.people(rng)
        return holds(
            estimate_strengths(round_.draw(rng, people), resamples=RESAMPLES).ties, round_.truth(people)[1]
        )

    return happens


def any_better(round_: Round) -> Draw:
    """Return the event that any two equal systems are called different."""

    def happens(rng: np.random.Generator) -> bool:
        pairs = estimate_strengths(round_.draw(rng, round_.people(rng))).differences
        return any(pair.verdict in ("better", "worse") for pair in pairs)

    return happens


RATES = [
    *(Rate("strengths", f"difference of two covers, {name}", 0.95, LOW, HIGH, pairs_hold(round_), DRAWS)
      for name, round_ in TWO.items()),
    *(Rate("strengths", f"all pairs at once cover, {name}", 0.95, LOW, HIGH, pairs_hold(round_), DRAWS)
      for name, round_ in MANY.items()),
    *(Rate("strengths", f"a strength covers, {name}", 0.95, LOW, HIGH, first_holds(round_), DRAWS)
      for name, round_ in list(MANY.items())[1:3]),
    *(Rate("strengths", f"of other raters it covers, {name}", 0.95, LOW, CAREFUL,
           pairs_hold(round_, others=True), DRAWS) for name, round_ in OTHERS.items()),
    *(Rate("strengths", f"ties cover, {name}", 0.95, LOW, HIGH, ties_hold(TWO[name]), DRAWS)
      for name in ("30 items of very unequal difficulty, 2 raters each", "100 items, 3 noisy raters each")),
    *(Rate("strengths", f"equal, any called better, {name}", 0.05, 0.0, 0.07, any_better(round_), DRAWS)
      for name, round_ in EQUAL.items()),
]  # fmt: skip
