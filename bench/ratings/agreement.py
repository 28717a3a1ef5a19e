"""Do alpha and kappa cover, and does a metric's agreement with people?"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray

from bench.ratings import HIGH, LOW, holds
from bench.truths import Rate
from engine.diagnostics.rating.raters.alpha import Level, alpha
from engine.diagnostics.rating.raters.kappa import kappa
from engine.diagnostics.rating.rows.clustered import RatingClusters
from engine.diagnostics.statistics.statistics import Interval

Draw = Callable[[np.random.Generator], bool | None]
Ints = NDArray[np.int64]
DRAWS = 1_000
ENDLESS = 200_000
# how sure items are (small: all think alike), and the mix of answers
ITEMS = {
    "fair agreement": (2.0, (0.4, 0.4, 0.2)),
    "good agreement": (0.5, (0.4, 0.4, 0.2)),
    "hardly any": (8.0, (0.4, 0.4, 0.2)),
    "one answer common": (0.5, (0.75, 0.15, 0.1)),
}
GRADES = {"grades, fair agreement": (2.0, (0.1, 0.2, 0.3, 0.3, 0.1)), "grades, good": (0.5, (0.2,) * 5)}


def _answers(rng: np.random.Generator, kind: str, items: int, raters: int) -> Ints:
    """[raters, items]: each item has a mix of answers of its own; grades are of neighbouring answers."""
    sure, base = {**ITEMS, **GRADES}[kind]
    if kind in GRADES:
        middle = rng.choice(len(base), items, p=base)
        off = rng.normal(0, sure / 2 + 0.3, (raters, items))
        return np.clip(np.round(middle + off), 0, len(base) - 1).astype(np.int64)
    mixes = rng.dirichlet(sure * np.array(base), items).cumsum(axis=1)
    return (rng.random((raters, items))[:, :, None] > mixes[None, :, :-1]).sum(axis=2).astype(np.int64)


def _alpha(answers: Ints, level: Level, resamples: int = 1_000) -> Interval:
    items = np.tile(np.arange(answers.shape[1]), answers.shape[0])
    return alpha(answers.ravel(), items, level=level, resamples=resamples).interval


@cache
def _true_alpha(kind: str, level: Level) -> float:
    return float(_alpha(_answers(np.random.default_rng(0), kind, ENDLESS, 2), level, 2).value)


def alpha_holds(kind: str, items: int, raters: int, level: Level) -> Draw:
    """Alpha of so many items and raters of each."""

    def happens(rng: np.random.Generator) -> bool | None:
        return holds(_alpha(_answers(rng, kind, items, raters), level), _true_alpha(kind, level))

    return happens


def kappa_holds(kind: str, items: int, *, of: int = 0) -> Draw:
    """Cohen's kappa, or (`of` 1) the share that agrees."""
    truth = kappa(*_answers(np.random.default_rng(0), kind, ENDLESS, 2))[of].value

    def happens(rng: np.random.Generator) -> bool | None:
        return holds(kappa(*_answers(rng, kind, items, 2))[of], truth)

    return happens


def measure_holds(items: int, raters: int, *, of: int) -> Draw:
    """Kappa (0) or the share (1) of a measure with several people an item."""

    def drawn(rng: np.random.Generator, size: int, people: int) -> tuple[Ints, Ints, RatingClusters]:
        answers = _answers(rng, "fair agreement", size, people + 1)
        item, rater = np.tile(np.arange(size), people), np.repeat(np.arange(people), size)
        return np.tile(answers[0], people), answers[1:].ravel(), RatingClusters(item, rater)

    first, second, _ = drawn(np.random.default_rng(0), ENDLESS, 1)
    truth = kappa(first, second)[of].value

    def happens(rng: np.random.Generator) -> bool | None:
        return holds(kappa(*drawn(rng, items, raters))[of], truth)

    return happens


RATES = [
    *(Rate("agreement", f"alpha covers, {kind}, {items} items, {raters} raters", 0.95, LOW, 0.98,
           alpha_holds(kind, items, raters, "nominal"), DRAWS)
      for kind in ITEMS for items, raters in ((20, 2), (50, 3), (200, 2))),
    *(Rate("agreement", f"alpha of ranks covers, {kind}, {items} items, {raters} raters", 0.95, LOW, 0.98,
           alpha_holds(kind, items, raters, "ordinal"), DRAWS)
      for kind in GRADES for items, raters in ((20, 2), (50, 3))),
    *(Rate("agreement", f"kappa covers, {kind}, {items} items", 0.95, LOW, HIGH,
           kappa_holds(kind, items), 2_000)
      for kind in ITEMS for items in (20, 50, 200)),
    *(Rate("agreement", f"{what} of a measure with people covers, {items} items, {raters} people", 0.95, LOW,
           HIGH, measure_holds(items, raters, of=of), DRAWS)
      for of, what in enumerate(("kappa", "share")) for items, raters in ((30, 2), (100, 3))),
]  # fmt: skip
