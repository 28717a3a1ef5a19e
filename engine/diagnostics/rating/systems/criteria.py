"""Scores by criterion and passes: means, differences and shares with intervals over items and raters.

Two systems are compared where one rater scored the answers of both to one item, so that what an item or a
rater is like cancels out. Intervals of the differences are corrected for the number of criteria (Bonferroni).
Pure.
"""

from __future__ import annotations

import math

import numpy as np

from engine.diagnostics.rating.rows import clustered
from engine.diagnostics.rating.rows.clustered import RatingClusters
from engine.diagnostics.rating.rows.graded import LEAST_SCORE, MOST_SCORE, CriterionScores, Passes
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
                    scores.score[chosen], clusters, bounds=(LEAST_SCORE, MOST_SCORE)
                )
    return means


def criterion_differences(
    scores: CriterionScores, first: str, second: str, *, confidence: float = 0.95
) -> dict[str, Interval]:
    """First minus second by each criterion. Raises ValueError for a system without scores."""
    for name in (first, second):
        if name not in scores.systems:
            raise ValueError(f"{name!r} is none of {', '.join(scores.systems)}.")
    places = scores.systems.index(first), scores.systems.index(second)
    level = 1 - (1 - confidence) / max(1, len(scores.criteria))
    return {
        criterion: _paired(scores, place, *places, level) for place, criterion in enumerate(scores.criteria)
    }


def _paired(scores: CriterionScores, criterion: int, first: int, second: int, confidence: float) -> Interval:
    """Over raters' scores of both answers to an item."""
    cells: dict[tuple[int, int], dict[int, float]] = {}
    weight_of = dict(zip(scores.item.tolist(), scores.item_weights.tolist(), strict=True))
    for entry in np.flatnonzero(scores.criterion == criterion):
        key = int(scores.item[entry]), int(scores.rater[entry])
        cells.setdefault(key, {})[int(scores.system[entry])] = float(scores.score[entry])
    both = {
        key: cell[first] - cell[second] for key, cell in cells.items() if first in cell and second in cell
    }
    if not both:
        return Interval(math.nan, None, None, 0, why="no rater scored both answers to an item")
    item, rater = np.array(list(both)).T
    weight = np.array([weight_of[key] for key in item.tolist()])
    widest = MOST_SCORE - LEAST_SCORE
    return clustered.mean(
        list(both.values()),
        RatingClusters(item, rater, weight),
        bounds=(-widest, widest),
        confidence=confidence,
    )


def pass_rates(passes: Passes) -> dict[str, Interval]:
    """The share of each system's answers that passed."""
    rates = {}
    for place, system in enumerate(passes.systems):
        chosen = passes.system == place
        if chosen.any():
            rates[system] = clustered.share(passes.passed[chosen], passes.clusters(chosen))
    return rates
