"""Coverage of means and differences of scores on scales of 2 to 10 points, and of an overall figure."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray

from bench.ratings import HIGH, LOW, RARE_HIGH, holds
from bench.truths import Rate
from engine.rating.analysis.rates import (
    CriterionScores,
    compute_criterion_differences,
    compute_criterion_means,
)

Draw = Callable[[np.random.Generator], bool | None]
Floats = NDArray[np.float64]
DRAWS = 2_000
ENDLESS = 100_000
OVERALL = "all"


def _draw(rng: np.random.Generator, items: int, raters: int, points: tuple[int, ...]) -> CriterionScores:
    """Draw the scores of each rater for both models on each item by each criterion. An item improves an
    answer on all criteria, a rater is lenient or strict, and the second model is slightly worse.
    """
    item, rater, system, criterion = (
        part.ravel()
        for part in np.meshgrid(
            np.arange(items), np.arange(raters), [0, 1], np.arange(len(points)), indexing="ij"
        )
    )
    likes = np.linspace(-0.1, 0.1, raters) if raters > 1 else np.zeros(1)
    of_item = rng.normal(0, 0.15, (items, 2))[item, system]
    good = 0.6 - 0.08 * system + likes[rater] + of_item + rng.normal(0, 0.2, len(item))
    best = np.array(points)[criterion]
    score = np.clip(np.round(1 + good * (best - 1)), 1, best)
    return CriterionScores.of(
        [f"s{k}" for k in system], item.tolist(), rater.tolist(), [f"c{k}" for k in criterion],
        score.tolist(), scales={f"c{place}": (1, count) for place, count in enumerate(points)},
    )  # fmt: skip


@cache
def _truth(raters: int, points: tuple[int, ...], of: str) -> tuple[float, float]:
    """Return the mean of the first model, and by how much the second is lower. It takes a second, so it is
    computed when a rate is drawn and not when this module is imported.
    """
    scores = _draw(np.random.default_rng(0), ENDLESS // raters, raters, points)
    scores = scores.overall(OVERALL) if of == OVERALL else scores
    own = [
        float(scores.score[(scores.system == system) & (scores.criterion == 0)].mean()) for system in (0, 1)
    ]
    return own[0], own[0] - own[1]


def score_holds(items: int, raters: int, points: tuple[int, ...], of: str, *, apart: bool) -> Draw:
    """Return the event that the interval of the mean by one criterion, or over all, or of the difference of
    two models, covers the truth for these raters.
    """

    def happens(rng: np.random.Generator) -> bool | None:
        mean, difference = _truth(raters, points, of)
        scores = _draw(rng, items, raters, points)
        scores = scores.overall(OVERALL) if of == OVERALL else scores
        if apart:
            return holds(compute_criterion_differences(scores, "s0", "s1", compared=1)[of], difference)
        return holds(compute_criterion_means(scores)["s0", of], mean)

    return happens


def all_hold(items: int, raters: int, points: tuple[int, ...]) -> Draw:
    """Return the event that the intervals of the differences by all criteria, corrected for their number,
    cover the truth at once.
    """
    draws = {f"c{place}": (count,) for place, count in enumerate(points)}

    def happens(rng: np.random.Generator) -> bool | None:
        truths = {name: _truth(raters, own, "c0")[1] for name, own in draws.items()}
        differences = compute_criterion_differences(_draw(rng, items, raters, points), "s0", "s1")
        given = [holds(differences[name], truth) for name, truth in truths.items()]
        return None if None in given else all(given)

    return happens


def _rate(name: str, draw: Draw, high: float = HIGH) -> Rate:
    return Rate("rubrics", name, 0.95, LOW, high, draw, DRAWS)


RATES = [
    *(_rate(f"{'difference' if apart else 'mean'} covers, {points} points, {items} items, {raters} raters",
            score_holds(items, raters, (points,), "c0", apart=apart), 1.0 if points == 2 else RARE_HIGH)
      for points in (2, 3, 10) for items, raters in ((10, 1), (30, 3), (100, 2)) for apart in (False, True)),
    *(_rate(f"overall {'difference' if apart else 'mean'} covers, {items} items, {raters} raters",
            score_holds(items, raters, (2, 5, 10), OVERALL, apart=apart))
      for items, raters in ((10, 1), (30, 3), (100, 2)) for apart in (False, True)),
    *(_rate(f"three differences cover together, {items} items, {raters} raters",
            all_hold(items, raters, (2, 5, 10)), RARE_HIGH) for items, raters in ((20, 2), (100, 2))),
]  # fmt: skip
