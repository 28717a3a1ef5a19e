"""How often does watching a round raise a false alarm, and how soon does it end where there is a
difference?"""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import numpy as np

from bench.truths import Rate
from engine.diagnostics.rating.systems.sequential import always_valid

PEEKS = 10_000  # one after each item
PREFERENCES = {  # shares of items for the first, without preference, and for the second
    "half ties": (0.25, 0.5, 0.25),
    "no ties": (0.5, 0.0, 0.5),
    "nearly all ties": (0.05, 0.9, 0.05),
}


def ever_told_apart(shares: tuple[float, float, float], raters: int) -> Callable[[np.random.Generator], bool]:
    """Equal systems are told apart at any of so many peeks; an item is the mean of its raters, who are alike.

    What is ruled out stays so, so that the last look has seen what all before it would have."""

    def happens(rng: np.random.Generator) -> bool:
        leaning = rng.choice([1.0, 0.0, -1.0], (PEEKS, 1), p=shares)
        own = rng.choice([1.0, 0.0, -1.0], (PEEKS, raters), p=shares)
        scores = np.where(rng.random((PEEKS, raters)) < 0.5, leaning, own).mean(axis=1)
        at = always_valid(scores)
        return at.above or at.below or bool(at.why)

    return happens


def any_pair(systems: int, items: int) -> Callable[[np.random.Generator], bool]:
    """Any two of so many equal systems are told apart, all pairs rated of each item."""
    pairs = list(combinations(range(systems), 2))

    def happens(rng: np.random.Generator) -> bool:
        levels = rng.normal(0, 1, (items, systems))
        confidence = 1 - 0.05 / len(pairs)
        for first, second in pairs:
            chance = 1 / (1 + np.exp(levels[:, second] - levels[:, first]))
            at = always_valid(np.where(rng.random(items) < chance, 1.0, -1.0), confidence=confidence)
            if at.above or at.below or at.why:
                return True
        return False

    return happens


def told_in_time(preference: float, items: int) -> Callable[[np.random.Generator], bool]:
    """A true mean preference is told apart after so many items, 30% of which are ties."""
    shares = (0.35 + preference / 2, 0.3, 0.35 - preference / 2)

    def happens(rng: np.random.Generator) -> bool:
        return always_valid(rng.choice([1.0, 0.0, -1.0], items, p=shares)).above

    return happens


RATES = [
    *(Rate("sequential", f"{name}, {raters} raters an item: a false alarm in {PEEKS:,} peeks", 0.05, 0.0,
           0.05, ever_told_apart(shares, raters), 500)
      for name, shares in PREFERENCES.items() for raters in (1, 3)),
    Rate("sequential", "6 equal systems, 500 items: a false alarm for any pair", 0.05, 0.0, 0.05,
         any_pair(6, 500), 300),
    *(Rate("sequential", f"mean preference {preference:g}: told apart within {items} items", 0.8, 0.7, 1.0,
           told_in_time(preference, items), 500)
      for preference, items in ((0.5, 35), (0.3, 100), (0.2, 320))),
]  # fmt: skip
