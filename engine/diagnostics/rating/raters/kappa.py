"""Cohen's kappa: how far two raters, or a metric and people, agree beyond what their habits explain.

1 - (share that disagrees) / (share that would by chance). The interval is on the scale of its logarithm,
where kappa is not bounded by 1, with errors over items (and raters, `clustered.py`) of both shares. Where
nobody disagreed yet the share that may is Wilson's. Where both give one answer alone, nothing is expected by
chance and kappa is not defined. Of under LEAST_COMMON items there is none: of ten its interval left out the
truth in 21 of 100 rounds. Pure.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse, special

from engine.diagnostics.rating.rows import clustered
from engine.diagnostics.rating.rows.clustered import RatingClusters
from engine.diagnostics.rating.rows.ratings import Comparisons
from engine.diagnostics.rating.rows.votes import votes
from engine.diagnostics.statistics.statistics import Interval

LEAST_COMMON = 20  # items, under which there is no kappa
LEAST_OTHERS = 8  # of them with another answer than the commonest, likewise

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Kappa:
    """Cohen's kappa of two raters, and the share of common items on which they agree."""

    first: str
    second: str
    interval: Interval
    share: Interval


class Kappas(NamedTuple):
    """of_pairs: of some pairs of raters, or of all. pairs: how many have an item in common."""

    of_pairs: list[Kappa]
    pairs: int


def kappas(comparisons: Comparisons, *, most: int | None = None) -> Kappas:
    """Of each two raters with a common item, in the order of raters; of the `most` pairs with most of them
    where there are more."""
    rated, outcome = votes(comparisons)
    raters = len(rated.raters)
    units, unit = np.unique(rated.unit, return_inverse=True)
    place = np.full((raters, len(units)), -1, np.int32)  # of each rater's vote on each unit
    place[rated.rater, unit] = np.arange(len(rated))
    given = sparse.csr_array((place >= 0).astype(np.float64))
    common = np.triu((given @ given.T).toarray(), 1)
    first, second = np.nonzero(common)
    chosen = np.arange(len(first))
    if most is not None:
        chosen = np.sort(np.argsort(-common[first, second], kind="stable")[:most])
    of_pairs = []
    for mine_at, other in zip(first[chosen], second[chosen], strict=True):
        mine, theirs = place[mine_at], place[other]
        both = (mine >= 0) & (theirs >= 0)
        mine, theirs = mine[both], theirs[both]
        weight = None if rated.weights is None else rated.weights[mine]
        clusters = RatingClusters(rated.item[mine], np.zeros(len(mine), np.int64), weight)
        agreed = kappa(outcome[mine], outcome[theirs], clusters)
        of_pairs.append(Kappa(rated.raters[mine_at], rated.raters[other], *agreed))
    return Kappas(of_pairs, len(first))


def kappa(
    first: ArrayLike, second: ArrayLike, clusters: RatingClusters | None = None, *, confidence: float = 0.95
) -> tuple[Interval, Interval]:
    """Kappa and the share that agrees, of two answers to each of the same things; without `clusters` each is
    an item of its own."""
    answers = np.asarray(first), np.asarray(second)
    n = len(answers[0])
    clusters = clusters or RatingClusters(np.arange(n), np.zeros(n, np.int64))
    agree = (answers[0] == answers[1]).astype(np.float64)
    share = clustered.share(agree, clusters, confidence=confidence)
    if not n:
        return Interval(math.nan, None, None, 0, why="they have no item in common"), share
    if (items := math.floor(clusters.effective_items + 1e-9)) < LEAST_COMMON:
        why = f"{items} common {'item is' if items == 1 else 'items are'} too few (from {LEAST_COMMON} on)"
        if items < clusters.items:
            why = f"items of so unequal weight say as much as {items} would: too few (from {LEAST_COMMON} on)"
        return Interval(math.nan, None, None, n, why=why), share
    chance, moved, commonest = _by_chance(*answers, clusters.shares)
    if chance >= 1:
        why = "both always gave the same answer, so that no disagreement is expected by chance either"
        return Interval(math.nan, None, None, n, why=why), share
    if len(np.unique(answers[0])) == 1 or len(np.unique(answers[1])) == 1:
        why = "one of the two always gave the same answer, which says nothing of agreement"
        return Interval(0.0, None, None, n, why=why), share
    apart = (1 - share.value) / (1 - chance)
    others = int(((answers[0] != commonest) | (answers[1] != commonest)).sum())
    if others < LEAST_OTHERS:
        why = f"only {others} of {n} have any answer but the commonest, so that chance is hardly known"
        return Interval(1 - apart, None, None, n, why=why), share
    if apart == 0:
        assert share.low is not None
        return Interval(1.0, 1 - (1 - share.low) / (1 - chance), 1.0, n), share
    influence = ((1 - agree) / (1 - share.value) - 1 + moved / (1 - chance)) * clusters.shares
    spread = clusters.spread(influence[:, None])
    error = math.sqrt(float(spread.variance[0]))
    reach = math.exp(float(special.stdtrit(spread.degrees[0], (1 + confidence) / 2)) * error)
    return Interval(1 - apart, max(-1.0, 1 - apart * reach), 1 - apart / reach, n, error * apart), share


def _by_chance(
    first: NDArray[np.generic], second: NDArray[np.generic], weight: Floats
) -> tuple[float, Floats, object]:
    """The share that would agree by chance, by how much each entry moves it (times n), and the commonest
    answer."""
    labels, place = np.unique(np.concatenate([first, second]), return_inverse=True)
    mine, other = place[: len(first)], place[len(first) :]
    shares = [np.bincount(places, weight, len(labels)) for places in (mine, other)]
    chance = float(shares[0] @ shares[1])
    moved: Floats = (shares[1][mine] + shares[0][other] - 2 * chance).astype(np.float64)
    commonest = labels[np.bincount(place).argmax()]
    return chance, moved, commonest
