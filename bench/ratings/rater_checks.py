"""Careful raters flagged for failing known items, or as too fast; coverage of the share of correct answers.

Raters are correct at a given rate; some tire, and some items are harder than others. A rater at the pass
mark, or above, is flagged in at most 5 of 100.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from bench.ratings import holds
from bench.truths import Rate
from engine.rating.analysis.rater_checks import GRADED_KINDS, estimate_correct_share, is_surely_below
from engine.rating.analysis.rater_reliability import is_too_fast
from store.core.rating_schemas import GOLD_PASS

Draw = Callable[[np.random.Generator], bool | None]
Answering = Callable[[np.random.Generator, int, float], NDArray[np.bool_]]
SIZES = (5, 8, 12, 20, 35, 60, 100)
MARKS = (0.5, GOLD_PASS, 0.7, 0.8, 0.9)
CAREFUL = 0.9
MAX_FALSE = 0.05


def _steady(rng: np.random.Generator, n: int, accuracy: float) -> NDArray[np.bool_]:
    return rng.random(n) < accuracy


def _tiring(rng: np.random.Generator, n: int, accuracy: float) -> NDArray[np.bool_]:
    """Draw answers that are less often right at the end than at the beginning, with the same mean."""
    return rng.random(n) < accuracy + (1 - accuracy) * np.linspace(1, -1, n)


def _some_hard(rng: np.random.Generator, n: int, accuracy: float) -> NDArray[np.bool_]:
    """Draw answers of a rater who is certain on some items and hardly on others."""
    return rng.random(n) < rng.beta(2 * accuracy, 2 * (1 - accuracy), n)


SHAPES: dict[str, Answering] = {"steady": _steady, "tiring": _tiring, "some items hard": _some_hard}


def flagged(answering: Answering, n: int, accuracy: float, mark: float) -> Draw:
    """Return the event that gold or attention items, `n` of each, flag a rater of this accuracy."""

    def happens(rng: np.random.Generator) -> bool:
        return any(is_surely_below(int(answering(rng, n, accuracy).sum()), n, mark) for _ in GRADED_KINDS)

    return happens


def ever_flagged(most: int) -> Draw:
    """Return the event that a careful rater is flagged at any of the checks after each item, at the usual
    threshold.
    """

    def happens(rng: np.random.Generator) -> bool:
        right = np.cumsum(_steady(rng, most, CAREFUL))
        return any(is_surely_below(int(right[n - 1]), n, GOLD_PASS) for n in range(1, most + 1))

    return happens


def too_fast(ratings: int, raters: int) -> Draw:
    """Return the event that a rater who reads is flagged as too fast. Raters differ in pace, items
    in length.
    """

    def happens(rng: np.random.Generator) -> bool:
        pace = 12 * np.exp(rng.normal(0, 0.35, raters))
        medians = np.median(pace[:, None] * np.exp(rng.normal(0, 0.7, (raters, ratings))), axis=1)
        return is_too_fast(ratings, float(medians[0]), [float(median) for median in medians[1:]])

    return happens


def share_holds(answering: Answering, n: int, accuracy: float) -> Draw:
    """Return the event that the interval of the share of correct answers covers the truth."""
    return lambda rng: holds(estimate_correct_share(int(answering(rng, n, accuracy).sum()), n), accuracy)


def _level(name: str, draw: Draw) -> Rate:
    return Rate("rater_checks", name, MAX_FALSE, 0.0, MAX_FALSE, draw)


RATES = [
    *(_level(f"at a mark of {mark:g} flagged, {shape}, {n} items", flagged(answering, n, mark, mark))
      for shape, answering in SHAPES.items() for mark in MARKS for n in SIZES),
    *(_level(f"right in 90%, mark {mark:g}, flagged, {n} items", flagged(_steady, n, CAREFUL, mark))
      for mark in MARKS for n in SIZES),
    *(_level(f"right in 90%, flagged at any look, {n} items", ever_flagged(n)) for n in (20, 100)),
    *(_level(f"reads and is called too fast, {ratings} ratings, {raters} raters", too_fast(ratings, raters))
      for ratings in (10, 30, 100) for raters in (1, 3, 8)),
    *(Rate("rater_checks", f"share right covers, {accuracy:g}, {shape}, {n} items", 0.95, 0.93, 1.0,
           share_holds(answering, n, accuracy))
      for shape, answering in SHAPES.items() for accuracy in (0.5, 0.7, CAREFUL, 0.98) for n in SIZES),
]  # fmt: skip
