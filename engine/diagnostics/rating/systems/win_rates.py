"""How often a system won, tied and lost, how often both were bad, and what the side did.

Shares of ratings in which each item and pair counts once, or as often as its chance to be rated says, with
intervals over items and raters (`clustered.py`). A tie is named a tie; the one figure
that counts it as half a win says so. Which side was shown left is drawn by chance, so that the share of
decided ratings that it won is the side's doing. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine.diagnostics.rating.rows import clustered
from engine.diagnostics.rating.rows.clustered import RatingClusters
from engine.diagnostics.rating.rows.ratings import Bools, Comparisons, Floats, PairOutcome
from engine.diagnostics.statistics.statistics import Interval


@dataclass(frozen=True)
class WinRates:
    """Shares of all ratings of a system; score: of those in which not both were bad, with ties as half."""

    wins: Interval
    ties: Interval
    losses: Interval
    both_bad: Interval
    score: Interval
    n: int


@dataclass(frozen=True)
class PositionEffect:
    """share: of decided ratings that the left side won. why: it does not say what the side does."""

    share: Interval
    why: str = ""


def clusters_of(comparisons: Comparisons) -> RatingClusters:
    """Its items and raters, and what each rating weighs."""
    return RatingClusters(comparisons.item, comparisons.rater, comparisons.vote_weights)


def win_rates(comparisons: Comparisons, system: str, other: str | None = None) -> WinRates:
    """Of a system against all others that it met, or against one. Raises ValueError for none of them."""
    place = comparisons.place_of(system)
    chosen = (comparisons.left == place) | (comparisons.right == place)
    if other is not None:
        chosen &= comparisons.of_pair(place, comparisons.place_of(other))
    rated = comparisons.take(chosen & comparisons.counted)
    toward = (np.where(rated.left == place, rated.signs, -rated.signs) + 1) / 2
    tie, bad = (rated.outcome == outcome for outcome in (PairOutcome.TIE, PairOutcome.BOTH_BAD))
    decided, clusters = ~(tie | bad), clusters_of(rated)

    def share(hits: Floats | Bools) -> Interval:
        return clustered.share(hits, clusters)

    score = clustered.mean(toward[~bad], clusters_of(rated.take(~bad)), bounds=(0.0, 1.0))
    return WinRates(
        share(toward * decided), share(tie), share((1 - toward) * decided), share(bad), score, len(rated)
    )


def both_bad_rate(comparisons: Comparisons) -> Interval:
    """Share of all ratings that say that neither answer is any good."""
    rated = comparisons.take(comparisons.counted)
    return clustered.share(rated.outcome == PairOutcome.BOTH_BAD, clusters_of(rated))


def position(comparisons: Comparisons) -> PositionEffect:
    """What being shown left does."""
    rated = comparisons.take(comparisons.counted)
    decided = rated.take(rated.outcome < PairOutcome.TIE)
    share = clustered.share(decided.outcome == PairOutcome.LEFT, clusters_of(decided))
    why = "models stood mostly on one side each" if rated.stood_on_one_side else ""
    return PositionEffect(share, why)
