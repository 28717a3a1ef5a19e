"""Recovery of the effect of length and the like, and the difference left with these held equal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np

from bench.made.rating_round import Round
from bench.ratings import HIGH, LOW, holds, together
from bench.truths import Rate
from engine.rating.analysis.strengths import estimate_strengths

Draw = Callable[[np.random.Generator], bool | None]
DRAWS = 600
RESAMPLES = 300
ENDLESS = 60_000  # items that represent the population
ROUNDS = {
    "50 items, no taste for length": Round((0.5, 0.0), items=50, raters=1, of_item=0.0),
    "100 items, longer liked": Round((0.3, 0.0), items=100, raters=2, of_item=0.0, taste=1.0, longer=0.5),
    "100 items of unequal difficulty, longer liked, 2 raters each": Round(
        (0.3, 0.0), items=100, raters=2, overlap=2, taste=1.0, longer=0.5
    ),
    "4 systems, 150 items, longer liked": Round(
        (0.9, 0.6, 0.3, 0.0), items=150, raters=3, apart=2, taste=0.7, longer=0.2
    ),
}


@cache
def _truth(round_: Round) -> tuple[float, tuple[float, ...]]:
    """Return the coefficient of length and the differences of all pairs at equal length; if items vary, for a
    very large number of them.
    """
    if not round_.of_item:
        levels = round_.strengths
        return round_.taste, tuple(levels[i] - levels[j] for i, j in round_.pairs)
    rng = np.random.default_rng(0)
    many = replace(round_, items=ENDLESS, overlap=1)
    fitted = estimate_strengths(many.draw(rng, many.people(rng)), covariates=["length"], resamples=2)
    return fitted.coefficients[0].interval.value, tuple(pair.interval.value for pair in fitted.differences)


def coefficient_holds(round_: Round) -> Draw:
    """Return the event that the interval of the effect of one unit of log length covers the truth."""

    def happens(rng: np.random.Generator) -> bool | None:
        fitted = estimate_strengths(
            round_.draw(rng, round_.people(rng)), covariates=["length"], resamples=RESAMPLES
        )
        return holds(fitted.coefficients[0].interval, _truth(round_)[0])

    return happens


def differences_hold(round_: Round) -> Draw:
    """Return the event that the intervals of all differences at equal length cover the truth at once."""

    def happens(rng: np.random.Generator) -> bool | None:
        fitted = estimate_strengths(
            round_.draw(rng, round_.people(rng)), covariates=["length"], resamples=RESAMPLES
        )
        truths = _truth(round_)[1]
        return together(
            [holds(pair.interval, true) for pair, true in zip(fitted.differences, truths, strict=True)]
        )

    return happens


RATES = [
    *(Rate("covariates", f"length's coefficient covers, {name}", 0.95, LOW, HIGH, coefficient_holds(round_),
           DRAWS)
      for name, round_ in ROUNDS.items()),
    *(Rate("covariates", f"differences at equal length cover, {name}", 0.95, LOW, HIGH,
           differences_hold(round_), DRAWS) for name, round_ in ROUNDS.items()),
]  # fmt: skip
