"""How far two raters, or people and a metric or a judge, agree: Cohen's kappa, and how often they prefer
the same.

Kappa's interval is on a logarithmic scale, over items and raters; of under MIN_COMMON items there is
none. The unit of uncertainty is the item; both bad names no preference and is left out. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse, special

from engine.evaluation.statistics import clustered
from engine.evaluation.statistics.clustered import RatingClusters
from engine.evaluation.statistics.intervals import Interval
from engine.rating.analysis.comparisons import Comparisons, PairOutcome, Tally, select_votes
from engine.rating.analysis.rates import build_clusters

# Cohen's kappa: how far two raters, or a metric and people, agree beyond what their habits explain.
#
# 1 - (share that disagrees) / (share that would by chance). The interval is on the scale of its logarithm,
# where kappa is not bounded by 1, with errors over items (and raters, `clustered.py`) of both shares. Where
# nobody disagreed yet the share that may is Wilson's. Where both give one answer alone, nothing is expected
# by chance and kappa is not defined. Of under MIN_COMMON items there is none: of ten its interval left
# out the truth in 21 of 100 rounds. Pure.

MIN_COMMON = 20  # items, under which there is no kappa
MIN_OTHERS = 8  # of them with another answer than the commonest, likewise

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Kappa:
    """Cohen's kappa of two raters, and the share of common items on which they agree."""

    first: str
    second: str
    interval: Interval
    share: Interval


class PairwiseKappas(NamedTuple):
    """of_pairs: of some pairs of raters, or of all. pairs: how many have an item in common."""

    of_pairs: list[Kappa]
    pairs: int


def compute_kappas(comparisons: Comparisons, *, most: int | None = None) -> PairwiseKappas:
    """Of each two raters with a common item, in the order of raters; of the `most` pairs with most of them
    where there are more."""
    rated, outcome = select_votes(comparisons)
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
        agreed = cohen_kappa(outcome[mine], outcome[theirs], clusters)
        of_pairs.append(Kappa(rated.raters[mine_at], rated.raters[other], *agreed))
    return PairwiseKappas(of_pairs, len(first))


def cohen_kappa(
    first: ArrayLike, second: ArrayLike, clusters: RatingClusters | None = None, *, confidence: float = 0.95
) -> tuple[Interval, Interval]:
    """Kappa and the share that agrees, of two answers to each of the same things; without `clusters` each is
    an item of its own."""
    answers = np.asarray(first), np.asarray(second)
    n = len(answers[0])
    clusters = clusters or RatingClusters(np.arange(n), np.zeros(n, np.int64))
    agree = (answers[0] == answers[1]).astype(np.float64)
    share = clustered.estimate_share(agree, clusters, confidence=confidence)
    if not n:
        return Interval(math.nan, None, None, 0, why="they have no item in common"), share
    if (items := math.floor(clusters.effective_items + 1e-9)) < MIN_COMMON:
        why = f"{items} common {'item is' if items == 1 else 'items are'} too few (from {MIN_COMMON} on)"
        if items < clusters.items:
            why = f"items of so unequal weight say as much as {items} would: too few (from {MIN_COMMON} on)"
        return Interval(math.nan, None, None, n, why=why), share
    chance, moved, commonest = _compute_chance_agreement(*answers, clusters.shares)
    if chance >= 1:
        why = "both always gave the same answer, so that no disagreement is expected by chance either"
        return Interval(math.nan, None, None, n, why=why), share
    if len(np.unique(answers[0])) == 1 or len(np.unique(answers[1])) == 1:
        why = "one of the two always gave the same answer, which says nothing of agreement"
        return Interval(0.0, None, None, n, why=why), share
    apart = (1 - share.value) / (1 - chance)
    others = int(((answers[0] != commonest) | (answers[1] != commonest)).sum())
    if others < MIN_OTHERS:
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


def _compute_chance_agreement(
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


# A metric, or a judge, held against people: how often it prefers what they prefer.
#
# A cheap measure may stand for people where it agrees with them as well as they do with each other, so that
# figure stands beside it, from the same items. The unit of uncertainty is the item. Ratings that both are bad
# name no preference and are left out; a metric's tie agrees with a tie alone. Each item and pair counts once,
# or as its chance to be rated says. Pure.

PreferenceFunction = Callable[[str, str, str], float | None]


@dataclass(frozen=True)
class HumanAgreement:
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


def measure_human_agreement(
    name: str, comparisons: Comparisons, prefers: PreferenceFunction
) -> HumanAgreement:
    """`prefers(item, first, second)`: above 0 where the measure prefers the first system's answer, below
    where the second's, 0 for a tie, None or NaN where it says nothing."""
    rated, outcome = select_votes(comparisons)
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
    clusters = build_clusters(rated.take(has))
    beyond, share = cohen_kappa(its[has], theirs[has], clusters)
    both = has & (its != 0) & (theirs != 0)
    decided = clustered.estimate_share(its[both] == theirs[both], build_clusters(rated.take(both)))
    between = estimate_inter_rater_agreement(rated.take(has), outcome[has])
    return HumanAgreement(name, share, beyond, decided, between, int(has.sum()), int((~has).sum()))


def estimate_inter_rater_agreement(rated: Comparisons, outcome: NDArray[np.int64]) -> Interval:
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
        return clustered.estimate_share(shares, clusters)
    return clustered.estimate_mean(shares, clusters, bounds=(0.0, 1.0))
