"""Agreement between two raters, or between people and a metric or judge: Cohen's kappa and preference shares.

The unit of uncertainty is the item. Ratings of "both bad" name no preference and are left out. Pure
functions.
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
from engine.rating.analysis import reasons_text
from engine.rating.analysis.comparisons import Comparisons, PairOutcome, Tally, select_votes
from engine.rating.analysis.rates import build_clusters

# Cohen's kappa: 1 - (share of disagreement) / (share of disagreement expected by chance). The interval is
# computed on the log scale, where kappa is not bounded by 1, with the errors of both shares over items (and
# raters, `clustered.py`). Where there is no disagreement yet, its share is bounded by Wilson's interval.
# Where both raters give only one answer, no disagreement is expected by chance and kappa is undefined. There
# is no kappa below MIN_COMMON items: with ten, the interval missed the true value in 21 of 100 rounds.

MIN_COMMON = 20  # minimum number of items for a kappa
MIN_OTHERS = 8  # minimum number of those with an answer other than the most common one

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Kappa:
    """Cohen's kappa of two raters, and the share of common items on which they agree."""

    first: str
    second: str
    interval: Interval
    share: Interval


class PairwiseKappas(NamedTuple):
    """Kappas of rater pairs.

    `of_pairs` may cover only some of the pairs; `pairs` is the number of pairs with an item in common.
    """

    of_pairs: list[Kappa]
    pairs: int


def compute_kappas(comparisons: Comparisons, *, most: int | None = None) -> PairwiseKappas:
    """Compute kappa for each pair of raters with a common item, in the order of raters.

    With `most`, only that many pairs with the most common items are computed.
    """
    rated, outcome = select_votes(comparisons)
    raters = len(rated.raters)
    units, unit = np.unique(rated.unit, return_inverse=True)
    place = np.full((raters, len(units)), -1, np.int32)  # index of each rater's vote on each unit
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
    """Return kappa and the share of agreement of two answers to each of the same things.

    Without `clusters`, each entry is its own item.
    """
    answers = np.asarray(first), np.asarray(second)
    n = len(answers[0])
    clusters = clusters or RatingClusters(np.arange(n), np.zeros(n, np.int64))
    agree = (answers[0] == answers[1]).astype(np.float64)
    share = clustered.estimate_share(agree, clusters, confidence=confidence)
    if not n:
        return Interval(math.nan, None, None, 0, why=reasons_text.NO_COMMON_ITEMS), share
    if (items := math.floor(clusters.effective_items + 1e-9)) < MIN_COMMON:
        unequal = items < clusters.items
        why = reasons_text.explain_few_common_items(items, MIN_COMMON, unequal=unequal)
        return Interval(math.nan, None, None, n, why=why), share
    chance, moved, commonest = _compute_chance_agreement(*answers, clusters.shares)
    if chance >= 1:
        return Interval(math.nan, None, None, n, why=reasons_text.BOTH_CONSTANT), share
    if len(np.unique(answers[0])) == 1 or len(np.unique(answers[1])) == 1:
        return Interval(0.0, None, None, n, why=reasons_text.ONE_CONSTANT), share
    apart = (1 - share.value) / (1 - chance)
    others = int(((answers[0] != commonest) | (answers[1] != commonest)).sum())
    if others < MIN_OTHERS:
        why = reasons_text.explain_few_other_answers(others, n)
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
    """Return the agreement expected by chance, the influence of each entry on it (times n), and the most
    common answer.
    """
    labels, place = np.unique(np.concatenate([first, second]), return_inverse=True)
    mine, other = place[: len(first)], place[len(first) :]
    shares = [np.bincount(places, weight, len(labels)) for places in (mine, other)]
    chance = float(shares[0] @ shares[1])
    moved: Floats = (shares[1][mine] + shares[0][other] - 2 * chance).astype(np.float64)
    commonest = labels[np.bincount(place).argmax()]
    return chance, moved, commonest


# A cheap measure can replace people where it agrees with them as well as they agree with each other, so the
# agreement between people is reported beside it, for the same items. A metric's tie agrees only with a tie.
# Each item and pair counts once, or by the inverse of its sampling probability.

PreferenceFunction = Callable[[str, str, str], float | None]


@dataclass(frozen=True)
class HumanAgreement:
    """Agreement of a metric or judge with people.

    share: share of people's votes that the measure agrees with. kappa: agreement beyond chance. decided: the
    same share where both the vote and the measure prefer one answer. between_people: how often two people
    agree, on items with two or more votes. missing: number of votes for which the measure has no value.
    """

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
    """Measure how often a metric or judge agrees with people's votes.

    `prefers(item, first, second)` returns a value above 0 where the measure prefers the first system's
    answer, below 0 where it prefers the second's, 0 for a tie, and None or NaN where it has no value.
    """
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
    """Estimate how often two people who voted on the same item and pair agree.

    The estimate is the mean over items and pairs of the share of vote pairs that are equal, with an interval
    over items.
    """
    tally = Tally.of(rated, outcome)
    n = tally.counts.sum(axis=1)
    several = n >= 2
    if not several.any():
        return Interval(math.nan, None, None, 0, why=reasons_text.NO_SHARED_VOTES)
    alike = (tally.counts * (tally.counts - 1)).sum(axis=1)
    shares, items = alike[several] / (n * (n - 1))[several], tally.item[several]
    clusters = RatingClusters(items, np.zeros(len(items), np.int64), tally.weight[several])
    if np.isin(shares, (0, 1)).all():
        return clustered.estimate_share(shares, clusters)
    return clustered.estimate_mean(shares, clusters, bounds=(0.0, 1.0))
