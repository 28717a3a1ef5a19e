"""How good people find the answers: shares with intervals that may be watched, and a candidate against the
live version."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from engine.diagnostics.statistics.combined import difference
from engine.diagnostics.statistics.statistics import Interval, ratio_interval


@dataclass(frozen=True)
class CandidateDifference:
    """Share of thumbs up, candidate less live; callers: on either side."""

    interval: Interval
    live_callers: int
    candidate_callers: int


def candidate_difference(
    live_up: ArrayLike, live_thumbs: ArrayLike, candidate_up: ArrayLike, candidate_thumbs: ArrayLike
) -> CandidateDifference:
    """Of each caller how many thumbs and how many up, by side: a caller with many thumbs counts as one who
    said much and not as many people. Both sides must be dealt by caller, as a gateway that is sticky does."""
    sides = [np.asarray(side, np.float64) for side in (live_thumbs, candidate_thumbs)]
    callers = [int((side > 0).sum()) for side in sides]
    if not all(callers):
        without = "the live version" if not callers[0] else "the candidate"
        nothing = Interval(
            float("nan"), None, None, sum(callers), why=f"nobody has said anything of {without}"
        )
        return CandidateDifference(nothing, *callers)
    live, candidate = ratio_interval(live_up, sides[0]), ratio_interval(candidate_up, sides[1])
    return CandidateDifference(difference(candidate, live), *callers)
