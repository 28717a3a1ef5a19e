"""A metric, or a judge, held against people: how often it prefers what they prefer.

A cheap measure may stand for people where it agrees with them as well as they do with each other, so that
figure stands beside it, from the same items. The unit of uncertainty is the item. Ratings that both are bad
name no preference and are left out; a metric's tie agrees with a tie alone. Each item and pair counts once,
or as its chance to be rated says. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.diagnostics.rating.raters.kappa import kappa
from engine.diagnostics.rating.rows import clustered
from engine.diagnostics.rating.rows.clustered import RatingClusters
from engine.diagnostics.rating.rows.ratings import Comparisons, PairOutcome
from engine.diagnostics.rating.rows.votes import Tally, votes
from engine.diagnostics.rating.systems.win_rates import clusters_of
from engine.diagnostics.statistics.statistics import Interval

Floats = NDArray[np.float64]
Prefers = Callable[[str, str, str], float | None]


@dataclass(frozen=True)
class AgainstPeople:
    """share: of people's votes that the measure agrees with, kappa: beyond chance; decided: the same share
    where people's vote and the measure both prefer one. between_people: how often two people agree, on items
    with two votes or more. missing: votes on what the measure says nothing of."""

    name: str
    share: Interval
    kappa: Interval
    decided: Interval
    between_people: Interval
    n: int
    missing: int


def against_people(name: str, comparisons: Comparisons, prefers: Prefers) -> AgainstPeople:
    """`prefers(item, first, second)`: above 0 where the measure prefers the first system's answer, below
    where the second's, 0 for a tie, None or NaN where it says nothing."""
    rated, outcome = votes(comparisons)
    sound = outcome != PairOutcome.BOTH_BAD
    rated, outcome = rated.take(sound), outcome[sound]
    theirs = np.array([1.0, -1.0, 0.0])[outcome]
    answered = {
        unit: prefers(rated.items[item], rated.systems[first], rated.systems[second])
        for unit, item, first, second in zip(
            rated.unit.tolist(), rated.item, rated.lower, rated.upper, strict=True
        )
    }
    its = np.array([math.nan if (sign := answered[u]) is None else sign for u in rated.unit.tolist()], float)
    its = np.sign(its)
    has = np.isfinite(its)
    clusters = clusters_of(rated.take(has))
    beyond, share = kappa(its[has], theirs[has], clusters)
    both = has & (its != 0) & (theirs != 0)
    decided = clustered.share(its[both] == theirs[both], clusters_of(rated.take(both)))
    between = between_people(rated.take(has), outcome[has])
    return AgainstPeople(name, share, beyond, decided, between, int(has.sum()), int((~has).sum()))


def between_people(rated: Comparisons, outcome: NDArray[np.int64]) -> Interval:
    """How often two people who voted on the same agree: the mean over items and pairs of the share of pairs
    of votes that are alike, with an interval over items."""
    tally = Tally.of(rated, outcome)
    n = tally.counts.sum(axis=1)
    several = n >= 2
    if not several.any():
        return Interval(math.nan, None, None, 0, why="no item has two votes")
    alike = (tally.counts * (tally.counts - 1)).sum(axis=1)
    shares, items = alike[several] / (n * (n - 1))[several], tally.item[several]
    clusters = RatingClusters(items, np.zeros(len(items), np.int64), tally.weight[several])
    if np.isin(shares, (0, 1)).all():
        return clustered.share(shares, clusters)
    return clustered.mean(shares, clusters, bounds=(0.0, 1.0))
