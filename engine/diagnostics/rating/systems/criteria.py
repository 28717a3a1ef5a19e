"""Scores by criterion and passes: means, differences and shares with intervals over items and raters.

Two systems are compared where one rater scored the answers of both to one item, so that what an item or a
rater is like cancels out. Intervals of the differences are corrected for the number of criteria (Bonferroni),
and of pairs of systems where several are compared. Pure.
"""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np

from engine.diagnostics.rating.rows import clustered
from engine.diagnostics.rating.rows.clustered import RatingClusters
from engine.diagnostics.rating.rows.graded import CriterionScores, Passes
from engine.diagnostics.statistics.statistics import Interval


def criterion_means(scores: CriterionScores) -> dict[tuple[str, str], Interval]:
    """Of each system and criterion that has a score."""
    means: dict[tuple[str, str], Interval] = {}
    for s, system in enumerate(scores.systems):
        for c, criterion in enumerate(scores.criteria):
            chosen = (scores.system == s) & (scores.criterion == c)
            if chosen.any():
                clusters = scores.clusters(chosen)
                means[system, criterion] = clustered.mean(
                    scores.score[chosen], clusters, bounds=scores.scales[c]
                )
    return means


def criterion_differences(
    scores: CriterionScores, first: str, second: str, *, compared: int = 0, confidence: float = 0.95
) -> dict[str, Interval]:
    """First minus second by each criterion. compared: differences that are told beside each other, as many as
    there are criteria where 0. Raises ValueError for a system without scores."""
    for name in (first, second):
        if name not in scores.systems:
            raise ValueError(f"{name!r} is none of {', '.join(scores.systems)}.")
    places = scores.systems.index(first), scores.systems.index(second)
    level = 1 - (1 - confidence) / max(1, compared or len(scores.criteria))
    return {
        criterion: _paired(scores, place, *places, level) for place, criterion in enumerate(scores.criteria)
    }


def _paired(scores: CriterionScores, criterion: int, first: int, second: int, confidence: float) -> Interval:
    """Over raters' scores of both answers to an item."""
    both = _both(scores, criterion, first, second)
    weight_of = dict(zip(scores.item.tolist(), scores.item_weights.tolist(), strict=True))
    if not both:
        return Interval(math.nan, None, None, 0, why="no rater scored both answers to an item")
    item, rater = np.array(list(both)).T
    weight = np.array([weight_of[key] for key in item.tolist()])
    worst, best = scores.scales[criterion]
    widest = best - worst
    return clustered.mean(
        list(both.values()),
        RatingClusters(item, rater, weight),
        bounds=(-widest, widest),
        confidence=confidence,
    )


def _both(scores: CriterionScores, criterion: int, first: int, second: int) -> dict[tuple[int, int], float]:
    """Item and rater -> the difference, where that rater scored both answers."""
    cells: dict[tuple[int, int], dict[int, float]] = {}
    for entry in np.flatnonzero(scores.criterion == criterion):
        key = int(scores.item[entry]), int(scores.rater[entry])
        cells.setdefault(key, {})[int(scores.system[entry])] = float(scores.score[entry])
    return {
        key: cell[first] - cell[second] for key, cell in cells.items() if first in cell and second in cell
    }


def fewest_raters(scores: CriterionScores) -> int:
    """Of all means and differences that have ratings, how many raters the one with the fewest rests on:
    whether all of them tell of other people, too."""
    present = np.unique(scores.system).tolist()
    counts = [
        len(np.unique(scores.rater[(scores.criterion == c) & (scores.system == s)]))
        for c in range(len(scores.criteria))
        for s in present
    ]
    counts += [
        len({rater for _, rater in _both(scores, c, first, second)})
        for c in range(len(scores.criteria))
        for first, second in combinations(present, 2)
    ]
    return min((count for count in counts if count), default=0)


def pass_rates(passes: Passes) -> dict[str, Interval]:
    """The share of each system's answers that passed."""
    rates = {}
    for place, system in enumerate(passes.systems):
        chosen = passes.system == place
        if chosen.any():
            rates[system] = clustered.share(passes.passed[chosen], passes.clusters(chosen))
    return rates
