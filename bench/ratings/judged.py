"""Coverage of the share of good responses by a judge corrected by people, also near none and near all."""

from __future__ import annotations

import numpy as np

from bench.ratings import holds
from bench.ratings.corrected import Draw
from bench.truths import Rate
from engine.rating.analysis.judge_correction import correct_pass_rate

DRAWS = 2_000
JUDGED = 500


def covers(rated: int, right: float, truth: float) -> Draw:
    """Return the event that the interval covers the truth, for a judge with accuracy `right` and raters of a
    separate random sample of answers.
    """

    def happens(rng: np.random.Generator) -> bool | None:
        people = (rng.random(JUDGED + rated) < truth).astype(float)
        judge = np.where(rng.random(JUDGED + rated) < right, people, 1 - people)
        return holds(correct_pass_rate(judge[rated:], judge[:rated], people[:rated]).corrected, truth)

    return happens


RATES = [
    Rate("judged", f"{rated} rated, a judge right in {right:.0%}, {truth:.0%} good", 0.95,
         0.93, 1.0, covers(rated, right, truth),
         DRAWS)
    for rated in (20, 50, 100, 200) for right in (0.5, 0.7, 0.85, 0.95)
    for truth in (0.02, 0.1, 0.6, 0.95)
]  # fmt: skip
