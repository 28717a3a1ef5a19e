"""Ratings of single answers as arrays: scores by criterion, passes, and ranks among the answers to one item.

As in `ratings.py`, what does not fit is refused with a ValueError that names the field and the entry. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.diagnostics.rating.rows.clustered import RatingClusters
from engine.diagnostics.rating.rows.ratings import Comparisons, PairOutcome, check_places, placed

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Scale = tuple[float, float]  # the worst score and the best
FIVE_POINTS: Scale = (1, 5)


@dataclass(frozen=True)
class Graded:
    """What ratings of single answers share: which system's answer, to which item, by whom. weights: 1 /
    chance of the item to be rated at all, where not all had the same."""

    systems: tuple[str, ...]
    system: Ints
    item: Ints
    rater: Ints
    raters: tuple[str, ...]
    items: tuple[str, ...]
    weights: Floats | None = None

    def __post_init__(self) -> None:
        n = len(self.system)
        for field, names in (("system", self.systems), ("item", self.items), ("rater", self.raters)):
            check_places(field, getattr(self, field), n, len(names))
        if self.weights is not None and np.shape(self.weights) != (n,):
            raise ValueError(f"weights: {np.shape(self.weights)} is not one for each of {n} ratings.")

    def __len__(self) -> int:
        return len(self.system)

    @property
    def item_weights(self) -> Floats:
        """Of each rating, that of its item."""
        return np.ones(len(self)) if self.weights is None else self.weights

    def clusters(self, chosen: Bools) -> RatingClusters:
        """Of these ratings of one system by one criterion: each item counts once, or as its chance says,
        however many rated it."""
        _, place, ratings = np.unique(self.item[chosen], return_inverse=True, return_counts=True)
        return RatingClusters(
            self.item[chosen], self.rater[chosen], self.item_weights[chosen] / ratings[place]
        )


def _graded(
    system: Sequence[str], item: Sequence[object], rater: Sequence[object], weights: Sequence[float] | None
) -> dict[str, Any]:
    systems, items, raters = placed(system), placed(item), placed(rater)
    return {"systems": systems.names, "system": systems.places, "item": items.places, "rater": raters.places,
            "raters": raters.names, "items": items.names,
            "weights": None if weights is None else np.asarray(weights, np.float64)}  # fmt: skip


@dataclass(frozen=True)
class CriterionScores(Graded):
    """Scores, each of one answer by one criterion; scales: of each criterion."""

    criteria: tuple[str, ...] = ()
    scales: tuple[Scale, ...] = ()
    criterion: Ints = None  # type: ignore[assignment]
    score: Floats = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        super().__post_init__()
        check_places("criterion", self.criterion, len(self), len(self.criteria))
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
        """From names; scales: by criterion, five points of one that is not there."""
        criteria = placed(criterion)
        of_each = tuple((scales or {}).get(name, FIVE_POINTS) for name in criteria.names)
        return cls(
            **_graded(system, item, rater, weights), criteria=criteria.names, criterion=criteria.places,
            scales=of_each, score=np.asarray(score, np.float64),
        )  # fmt: skip

    def overall(self, name: str) -> CriterionScores:
        """One score of each rating over all criteria under this name: each counts the same, from 0 for its
        worst point to 100 for its best. A rating without a score by each of them has none."""
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
class Passes(Graded):
    """Whether one answer passed."""

    passed: Bools = None  # type: ignore[assignment]

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
        """From names."""
        return cls(**_graded(system, item, rater, weights), passed=np.asarray(passed, bool))


@dataclass(frozen=True)
class Ranks(Graded):
    """The rank that one rater gave one answer among those to its item: 1 is best, equal ranks are ties.
    Entries of one ranking stand in the order in which the answers were shown."""

    rank: Ints = None  # type: ignore[assignment]

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
        """From names."""
        return cls(**_graded(system, item, rater, weights), rank=np.asarray(rank, np.int64))


def comparisons_of(ranks: Ranks) -> Comparisons:
    """The comparisons that rankings imply, each of two answers. Those of one ranking are not independent: all
    that resamples them takes items and raters, and never comparisons."""
    _, first_entry, ranking, sizes = np.unique(
        np.column_stack([ranks.item, ranks.rater]) @ [len(ranks.raters) + 1, 1],
        return_index=True, return_inverse=True, return_counts=True,
    )  # fmt: skip
    entries = np.lexsort((np.arange(len(ranking)), first_entry[ranking]))  # rankings in their order
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
