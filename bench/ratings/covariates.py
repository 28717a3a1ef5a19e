"""Do length and its like come back, and what is left of a difference once they are held equal?"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

from bench.made.rating_round import Round
from bench.ratings import HIGH, LOW, holds
from bench.truths import Rate
from engine.diagnostics.rating.strengths import strengths

Draw = Callable[[np.random.Generator], bool | None]
DRAWS = 600
RESAMPLES = 300
ENDLESS = 60_000  # items that stand for all there are
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
def _truth(round_: Round) -> tuple[float, float]:
    """Length's coefficient and the first difference at equal length; where items differ, of endless ones."""
    if not round_.of_item:
        return round_.taste, round_.strengths[0] - round_.strengths[1]
    rng = np.random.default_rng(0)
    many = Round(**{**vars_of(round_), "items": ENDLESS, "overlap": 1})
    fitted = strengths(many.draw(rng, many.people(rng)), covariates=["length"], resamples=2)
    return fitted.coefficients[0].interval.value, fitted.differences[0].interval.value


def vars_of(round_: Round) -> dict[str, object]:
    """Its settings."""
    return {name: getattr(round_, name) for name in round_.__dataclass_fields__}


def coefficient_holds(round_: Round) -> Draw:
    """What one more of log length adds."""

    def happens(rng: np.random.Generator) -> bool | None:
        fitted = strengths(round_.draw(rng, round_.people(rng)), covariates=["length"], resamples=RESAMPLES)
        return holds(fitted.coefficients[0].interval, _truth(round_)[0])

    return happens


def difference_holds(round_: Round) -> Draw:
    """What is left of the difference of the first two at equal length."""

    def happens(rng: np.random.Generator) -> bool | None:
        fitted = strengths(round_.draw(rng, round_.people(rng)), covariates=["length"], resamples=RESAMPLES)
        return holds(fitted.differences[0].interval, _truth(round_)[1])

    return happens


RATES = [
    *(Rate("covariates", f"length's coefficient covers, {name}", 0.95, LOW, HIGH, coefficient_holds(round_),
           DRAWS)
      for name, round_ in ROUNDS.items()),
    *(Rate("covariates", f"difference at equal length covers, {name}", 0.95, LOW,
           0.995 if len(round_.strengths) > 2 else HIGH, difference_holds(round_), DRAWS)
      for name, round_ in ROUNDS.items()),
]  # fmt: skip
