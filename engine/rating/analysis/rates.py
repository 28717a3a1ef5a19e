"""Ratings of single answers as arrays; win rates, pass rates and scores.

Shares and means have intervals over items and raters (`clustered`); each item and pair counts once, or by
its sampling weight. Two systems' scores are compared where one rater scored both answers to an item;
differences are corrected for the number of criteria and pairs (Bonferroni). Pure functions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.evaluation.statistics import clustered
from engine.evaluation.statistics.clustered import RatingClusters
from engine.evaluation.statistics.intervals import Interval
from engine.rating.analysis import reasons_text
from engine.rating.analysis.comparisons import (
    Bools,
    Comparisons,
    Floats,
    PairOutcome,
    check_indices,
    index_names,
)

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
Scale = tuple[float, float]  # worst and best score
FIVE_POINTS: Scale = (1, 5)


@dataclass(frozen=True)
class GradedAnswers:
    """Fields shared by ratings of single answers: the system, the item and the rater.

    weights: 1 / probability that the item was selected for rating, if probabilities differ.
    """

    systems: tuple[str, ...]
    system: IntArray
    item: IntArray
    rater: IntArray
    raters: tuple[str, ...]
    items: tuple[str, ...]
    weights: FloatArray | None = None

    def __post_init__(self) -> None:
        n = len(self.system)
        for field, names in (("system", self.systems), ("item", self.items), ("rater", self.raters)):
            check_indices(field, getattr(self, field), n, len(names))
        if self.weights is not None and np.shape(self.weights) != (n,):
            raise ValueError(f"weights: {np.shape(self.weights)} is not one for each of {n} ratings.")

    def __len__(self) -> int:
        return len(self.system)

    @property
    def item_weights(self) -> FloatArray:
        """Item weight of each rating."""
        return np.ones(len(self)) if self.weights is None else self.weights

    def clusters(self, chosen: BoolArray) -> RatingClusters:
        """Return clusters of the chosen ratings of one system on one criterion.

        Each item counts once, or by its sampling weight, regardless of its number of ratings.
        """
        _, place, ratings = np.unique(self.item[chosen], return_inverse=True, return_counts=True)
        return RatingClusters(
            self.item[chosen], self.rater[chosen], self.item_weights[chosen] / ratings[place]
        )


def _build_fields(
    system: Sequence[str], item: Sequence[object], rater: Sequence[object], weights: Sequence[float] | None
) -> dict[str, Any]:
    systems, items, raters = index_names(system), index_names(item), index_names(rater)
    return {"systems": systems.names, "system": systems.places, "item": items.places, "rater": raters.places,
            "raters": raters.names, "items": items.names,
            "weights": None if weights is None else np.asarray(weights, np.float64)}  # fmt: skip


@dataclass(frozen=True)
class CriterionScores(GradedAnswers):
    """Scores of answers by criterion; `scales` has the range of each criterion."""

    criteria: tuple[str, ...] = ()
    scales: tuple[Scale, ...] = ()
    criterion: IntArray = None  # type: ignore[assignment]
    score: FloatArray = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        super().__post_init__()
        check_indices("criterion", self.criterion, len(self), len(self.criteria))
        if np.shape(self.score) != (len(self),):
            raise ValueError(f"score: {np.shape(self.score)} is not one for each of {len(self)} ratings.")
        if len(self.scales) != len(self.criteria):
            raise ValueError(
                f"scales: {len(self.scales)} are not one for each of {len(self.criteria)} criteria."
            )
        worst, best = np.array(self.scales, np.float64).reshape(-1, 2)[self.criterion].T
        wrong = np.flatnonzero(~((self.score >= worst) & (self.score <= best)))
        if len(wrong):
            place = wrong[0]
            scale = f"{worst[place]:g} to {best[place]:g}"
            raise ValueError(f"score: entry {place} is {self.score[place]:g}, not {scale}.")

    @classmethod
    def of(
        cls,
        system: Sequence[str],
        item: Sequence[object],
        rater: Sequence[object],
        criterion: Sequence[str],
        score: Sequence[float],
        weights: Sequence[float] | None = None,
        scales: Mapping[str, Scale] | None = None,
    ) -> CriterionScores:
        """Create scores from names; `scales` is by criterion, with five points as the default."""
        criteria = index_names(criterion)
        of_each = tuple((scales or {}).get(name, FIVE_POINTS) for name in criteria.names)
        return cls(
            **_build_fields(system, item, rater, weights), criteria=criteria.names, criterion=criteria.places,
            scales=of_each, score=np.asarray(score, np.float64),
        )  # fmt: skip

    def overall(self, name: str) -> CriterionScores:
        """Average each rating over all criteria, as a criterion with the given name.

        Criteria have equal weight and are scaled from 0 (worst) to 100 (best). Ratings that lack a
        criterion are left out.
        """
        sums: dict[tuple[int, int, int], list[float]] = {}
        weight_of: dict[int, float] = dict(zip(self.item.tolist(), self.item_weights.tolist(), strict=True))
        for entry, key in enumerate(
            zip(self.system.tolist(), self.item.tolist(), self.rater.tolist(), strict=True)
        ):
            worst, best = self.scales[self.criterion[entry]]
            sums.setdefault(key, []).append(100 * (float(self.score[entry]) - worst) / (best - worst))
        whole = {key: parts for key, parts in sums.items() if len(parts) == len(self.criteria)}
        system, item, rater = np.array(list(whole), np.int64).reshape(-1, 3).T
        return CriterionScores(
            self.systems, system, item, rater, self.raters, self.items,
            np.array([weight_of[place] for place in item.tolist()]),
            criteria=(name,), scales=((0.0, 100.0),), criterion=np.zeros(len(item), np.int64),
            score=np.array([np.mean(parts) for parts in whole.values()], np.float64),
        )  # fmt: skip


@dataclass(frozen=True)
class Passes(GradedAnswers):
    """Pass or fail verdicts on answers."""

    passed: BoolArray = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        super().__post_init__()
        if np.shape(self.passed) != (len(self),):
            raise ValueError(f"passed: {np.shape(self.passed)} is not one for each of {len(self)} ratings.")

    @classmethod
    def of(
        cls,
        system: Sequence[str],
        item: Sequence[object],
        rater: Sequence[object],
        passed: Sequence[bool],
        weights: Sequence[float] | None = None,
    ) -> Passes:
        """Create passes from names."""
        return cls(**_build_fields(system, item, rater, weights), passed=np.asarray(passed, bool))


@dataclass(frozen=True)
class Ranks(GradedAnswers):
    """Ranks that raters gave the answers to an item: 1 is best, equal ranks are ties.

    Entries of one ranking are in the order in which the answers were shown.
    """

    rank: IntArray = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        super().__post_init__()
        if np.shape(self.rank) != (len(self),):
            raise ValueError(f"rank: {np.shape(self.rank)} is not one for each of {len(self)} answers.")

    @classmethod
    def of(
        cls,
        system: Sequence[str],
        item: Sequence[object],
        rater: Sequence[object],
        rank: Sequence[int],
        weights: Sequence[float] | None = None,
    ) -> Ranks:
        """Create ranks from names."""
        return cls(**_build_fields(system, item, rater, weights), rank=np.asarray(rank, np.int64))


def derive_comparisons(ranks: Ranks) -> Comparisons:
    """Return the pairwise comparisons that rankings imply.

    Comparisons of one ranking are not independent, so resampling must be by items and raters, never by
    comparisons.
    """
    _, first_entry, ranking, sizes = np.unique(
        np.column_stack([ranks.item, ranks.rater]) @ [len(ranks.raters) + 1, 1],
        return_index=True, return_inverse=True, return_counts=True,
    )  # fmt: skip
    entries = np.lexsort((np.arange(len(ranking)), first_entry[ranking]))  # rankings in their original order
    sizes = sizes[np.argsort(first_entry)]
    starts = np.cumsum(sizes) - sizes
    pairs = np.zeros((int((sizes * (sizes - 1) // 2).sum()), 2), np.int64)
    ends = np.cumsum(sizes * (sizes - 1) // 2)
    for size in np.unique(sizes[sizes > 1]).tolist():
        chosen, combined = sizes == size, np.array([*combinations(range(size), 2)])
        places = (ends[chosen] - len(combined))[:, None] + np.arange(len(combined))
        pairs[places] = entries[starts[chosen][:, None, None] + combined]
    first, second = pairs.T
    apart = ranks.rank[first] - ranks.rank[second]
    outcome = np.where(apart < 0, PairOutcome.LEFT, np.where(apart > 0, PairOutcome.RIGHT, PairOutcome.TIE))
    return Comparisons(
        ranks.systems, ranks.system[first], ranks.system[second], outcome.astype(np.int64),
        ranks.item[first], ranks.rater[first], ranks.raters, ranks.items,
        weights=None if ranks.weights is None else ranks.weights[first],
    )  # fmt: skip


# Win rates. Ties are reported as ties; only `score` counts them as half a win. The side shown left is random,
# so the share of decided ratings that it won measures the effect of the side.


@dataclass(frozen=True)
class WinRates:
    """Shares of all ratings of a system.

    score: share of wins among ratings that aren't "both bad", with ties as half a win.
    """

    wins: Interval
    ties: Interval
    losses: Interval
    both_bad: Interval
    score: Interval
    n: int


@dataclass(frozen=True)
class PositionEffect:
    """Share of decided ratings that the left side won; `why` says why it doesn't measure the effect of the
    side.
    """

    share: Interval
    why: str = ""


def build_clusters(comparisons: Comparisons) -> RatingClusters:
    """Return the items, raters and vote weights of the comparisons."""
    return RatingClusters(comparisons.item, comparisons.rater, comparisons.vote_weights)


def compute_win_rates(comparisons: Comparisons, system: str, other: str | None = None) -> WinRates:
    """Return a system's win rates against all systems it met, or against one.

    Raises ValueError for an unknown system.
    """
    place = comparisons.place_of(system)
    chosen = (comparisons.left == place) | (comparisons.right == place)
    if other is not None:
        chosen &= comparisons.of_pair(place, comparisons.place_of(other))
    rated = comparisons.take(chosen & comparisons.counted)
    toward = (np.where(rated.left == place, rated.signs, -rated.signs) + 1) / 2
    tie, bad = (rated.outcome == outcome for outcome in (PairOutcome.TIE, PairOutcome.BOTH_BAD))
    decided, clusters = ~(tie | bad), build_clusters(rated)

    def share(hits: Floats | Bools) -> Interval:
        return clustered.estimate_share(hits, clusters)

    score = clustered.estimate_mean(toward[~bad], build_clusters(rated.take(~bad)), bounds=(0.0, 1.0))
    return WinRates(
        share(toward * decided), share(tie), share((1 - toward) * decided), share(bad), score, len(rated)
    )


def compute_both_bad_rate(comparisons: Comparisons) -> Interval:
    """Return the share of all ratings that are "both bad"."""
    rated = comparisons.take(comparisons.counted)
    return clustered.estimate_share(rated.outcome == PairOutcome.BOTH_BAD, build_clusters(rated))


def measure_position_effect(comparisons: Comparisons) -> PositionEffect:
    """Measure the effect of being shown on the left."""
    rated = comparisons.take(comparisons.counted)
    decided = rated.take(rated.outcome < PairOutcome.TIE)
    share = clustered.estimate_share(decided.outcome == PairOutcome.LEFT, build_clusters(decided))
    why = reasons_text.STOOD_ON_ONE_SIDE if rated.stood_on_one_side else ""
    return PositionEffect(share, why)


# Systems are compared within raters and items, so that effects of the item and the rater cancel out.


def compute_criterion_means(scores: CriterionScores) -> dict[tuple[str, str], Interval]:
    """Return the mean score of each system and criterion with scores."""
    means: dict[tuple[str, str], Interval] = {}
    for s, system in enumerate(scores.systems):
        for c, criterion in enumerate(scores.criteria):
            chosen = (scores.system == s) & (scores.criterion == c)
            if chosen.any():
                clusters = scores.clusters(chosen)
                means[system, criterion] = clustered.estimate_mean(
                    scores.score[chosen], clusters, bounds=scores.scales[c]
                )
    return means


def compute_criterion_differences(
    scores: CriterionScores, first: str, second: str, *, compared: int = 0, confidence: float = 0.95
) -> dict[str, Interval]:
    """Return first minus second for each criterion.

    `compared` is the number of differences to correct for, the number of criteria if 0. Raises ValueError
    for a system without scores.
    """
    for name in (first, second):
        if name not in scores.systems:
            raise ValueError(f"{name!r} is none of {', '.join(scores.systems)}.")
    places = scores.systems.index(first), scores.systems.index(second)
    level = 1 - (1 - confidence) / max(1, compared or len(scores.criteria))
    return {
        criterion: _compute_paired_difference(scores, place, *places, level)
        for place, criterion in enumerate(scores.criteria)
    }


def _compute_paired_difference(
    scores: CriterionScores, criterion: int, first: int, second: int, confidence: float
) -> Interval:
    """Return the mean difference over raters' scores of both answers to an item."""
    both = _pair_scores(scores, criterion, first, second)
    weight_of = dict(zip(scores.item.tolist(), scores.item_weights.tolist(), strict=True))
    if not both:
        return Interval(math.nan, None, None, 0, why=reasons_text.NO_SCORED_PAIRS)
    item, rater = np.array(list(both)).T
    weight = np.array([weight_of[key] for key in item.tolist()])
    worst, best = scores.scales[criterion]
    widest = best - worst
    return clustered.estimate_mean(
        list(both.values()),
        RatingClusters(item, rater, weight),
        bounds=(-widest, widest),
        confidence=confidence,
    )


def _pair_scores(
    scores: CriterionScores, criterion: int, first: int, second: int
) -> dict[tuple[int, int], float]:
    """Return the difference by item and rater, where that rater scored both answers."""
    cells: dict[tuple[int, int], dict[int, float]] = {}
    for entry in np.flatnonzero(scores.criterion == criterion):
        key = int(scores.item[entry]), int(scores.rater[entry])
        cells.setdefault(key, {})[int(scores.system[entry])] = float(scores.score[entry])
    return {
        key: cell[first] - cell[second] for key, cell in cells.items() if first in cell and second in cell
    }


def count_fewest_raters(scores: CriterionScores) -> int:
    """Return the smallest number of raters behind any mean or difference that has ratings.

    It tells whether all of them generalize to other raters.
    """
    present = np.unique(scores.system).tolist()
    counts = [
        len(np.unique(scores.rater[(scores.criterion == c) & (scores.system == s)]))
        for c in range(len(scores.criteria))
        for s in present
    ]
    counts += [
        len({rater for _, rater in _pair_scores(scores, c, first, second)})
        for c in range(len(scores.criteria))
        for first, second in combinations(present, 2)
    ]
    return min((count for count in counts if count), default=0)


def compute_pass_rates(passes: Passes) -> dict[str, Interval]:
    """Return the share of each system's answers that passed."""
    rates = {}
    for place, system in enumerate(passes.systems):
        chosen = passes.system == place
        if chosen.any():
            rates[system] = clustered.estimate_share(passes.passed[chosen], passes.clusters(chosen))
    return rates
