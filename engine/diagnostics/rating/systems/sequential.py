"""Whether enough is known, asked as often as one likes.

An interval that is looked at until it excludes zero always does in the end. This one holds at every moment
(Waudby-Smith and Ramdas 2024, "Estimating means of bounded random variables by betting"): for each mean that
might be true a gambler bets against it, item by item, with stakes set by the items before; were it true, the
capital would rise to 1 / alpha with a chance of alpha at most, in all eternity, so that what it rises to is
ruled out for ever. The unit is an item: the mean of its ratings of two systems, 1 for a win of the first, -1
for one of the second, 0 for a tie, once it has as many as every item is to have. Items must come in an order
that does not depend on their answers. Many pairs share alpha. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from engine.diagnostics.rating.rows.ratings import Comparisons, PairOutcome
from engine.diagnostics.statistics.statistics import Interval

GRIDS = (41, 401)  # means that are bet against at first, the more where all of the fewer are ruled out
HALVINGS = 8
MOST_STAKE = 0.5  # of the capital, at worst
STEPS = 1_000_000  # item times mean held at a time

PeekState = Literal["first", "second", "go_on", "none"]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Peek:
    """How two systems stand by now. interval: mean preference for the first, -1 to 1, over `items` items;
    state: which one is known to be preferred. waiting: items that still lack ratings. pairs: how many are
    watched."""

    first: str
    second: str
    interval: Interval
    state: PeekState
    items: int
    waiting: int
    pairs: int


def peek(
    comparisons: Comparisons,
    first: str,
    second: str,
    *,
    overlap: int = 1,
    pairs: int = 1,
    confidence: float = 0.95,
) -> Peek:
    """At two systems, of which each item is to have `overlap` ratings. Raises ValueError for none of them."""
    place = comparisons.place_of(first)
    chosen = comparisons.of_pair(place, comparisons.place_of(second)) & comparisons.counted
    scores, waiting = item_scores(comparisons.take(chosen), place, overlap)
    at = always_valid(scores, confidence=1 - (1 - confidence) / pairs)
    state: PeekState = "first" if at.above else "second" if at.below else "go_on" if len(scores) else "none"
    return Peek(first, second, at, state, len(scores), waiting, pairs)


def peek_all(comparisons: Comparisons, *, overlap: int = 1, confidence: float = 0.95) -> list[Peek]:
    """At all pairs that were compared at all, which share alpha with those that may yet be."""
    pairs = list(combinations(comparisons.systems, 2))
    peeks = [
        peek(comparisons, *pair, overlap=overlap, pairs=len(pairs), confidence=confidence) for pair in pairs
    ]
    return [seen for seen in peeks if seen.items or seen.waiting]


def item_scores(comparisons: Comparisons, first: int, overlap: int) -> tuple[Floats, int]:
    """The preference for `first` of each item that has its ratings, in the order in which they were complete,
    and how many items are not yet. Later ratings of a complete item are not counted, nor are items of which
    all ratings say that both are bad."""
    signs = np.where(comparisons.left == first, comparisons.signs, -comparisons.signs)
    ratings: dict[int, list[float]] = {}
    complete: list[float] = []
    bad = comparisons.outcome == PairOutcome.BOTH_BAD
    for item, sign, neither in zip(comparisons.item.tolist(), signs.tolist(), bad.tolist(), strict=True):
        of_item = ratings.setdefault(item, [])
        if len(of_item) >= overlap:
            continue
        of_item.append(math.nan if neither else sign)
        if len(of_item) == overlap and not np.isnan(of_item).all():
            complete.append(float(np.nanmean(of_item)))
    return np.array(complete), sum(len(of_item) < overlap for of_item in ratings.values())


def always_valid(scores: ArrayLike, *, confidence: float = 0.95) -> Interval:
    """The mean of values from -1 to 1, with an interval that holds at every moment with that confidence.

    Raises ValueError for a value outside."""
    values = np.asarray(scores, np.float64)
    n = len(values)
    if n and not (np.abs(values) <= 1).all():
        raise ValueError("scores: each must lie within -1 and 1.")
    if not n:
        return Interval(math.nan, None, None, 0, why="no item has its ratings yet")
    unit = (values + 1) / 2
    stakes = _stakes(unit, 1 - confidence)
    ruled_out = math.log(2 / (1 - confidence))

    def alive(means: Floats) -> NDArray[np.bool_]:
        return _capital(unit, stakes, means) < ruled_out

    value, ends = float(values.mean()), _ends(alive)
    if ends is None:
        return Interval(value, None, None, n, why="the preference has changed in the course of the round")
    low, high = (2 * end - 1 for end in ends)
    return Interval(value, low, high, n)


def _ends(alive: Callable[[Floats], NDArray[np.bool_]]) -> tuple[float, float] | None:
    """The outermost means that are not ruled out, looked for on a grid and then by halving; None where all
    are. Each end is one that is ruled out."""
    for points in GRIDS:
        means = np.linspace(0, 1, points)
        places = np.flatnonzero(alive(means))
        if len(places):
            break
    else:
        return None
    inside = means[[places[0], places[-1]]]
    outside = means[[max(places[0] - 1, 0), min(places[-1] + 1, points - 1)]]
    for _ in range(HALVINGS):
        middle = (inside + outside) / 2
        lives = alive(middle)
        inside, outside = np.where(lives, middle, inside), np.where(lives, outside, middle)
    return float(outside[0]), float(outside[1])


def _stakes(unit: Floats, alpha: float) -> Floats:
    """What is bet on each item, from the items before it: the predictable plug-in of the empirical Bernstein
    bound."""
    n = len(unit)
    every = np.arange(1, n + 1)
    means = (0.5 + np.cumsum(unit)) / (every + 1)
    spread = (0.25 + np.cumsum((unit - means) ** 2)) / (every + 1)
    before = np.append(0.25, spread[:-1])
    stakes: Floats = np.sqrt(2 * math.log(2 / alpha) / (before * every * np.log(1 + every)))
    return stakes


def _capital(unit: Floats, stakes: Floats, means: Floats) -> Floats:
    """The largest logarithm that the capital of either gambler reached against each mean."""
    largest = np.empty(len(means))
    at_once = max(1, STEPS // len(unit))
    for start in range(0, len(means), at_once):
        some = means[start : start + at_once]
        off = unit[:, None] - some
        with np.errstate(divide="ignore"):
            up = np.minimum(stakes[:, None], MOST_STAKE / some)
            down = np.minimum(stakes[:, None], MOST_STAKE / (1 - some))
        rising = np.cumsum(np.log1p(up * off), axis=0)
        falling = np.cumsum(np.log1p(-down * off), axis=0)
        largest[start : start + at_once] = np.logaddexp(rising, falling).max(axis=0)
    return largest
