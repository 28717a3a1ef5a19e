"""Coverage of a judge corrected by people, for any judge, and however items were chosen."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bench.ratings import HIGH, LOW, RARE_HIGH, holds
from bench.truths import Rate
from engine.rating.analysis.judge_correction import correct_judge
from engine.rating.analysis.prompt_selection import select_prompts

Draw = Callable[[np.random.Generator], bool | None]
DRAWS = 2_000
JUDGED = 1_000


def share_holds(rated: int, right: float, truth: float = 0.6) -> Draw:
    """Return the event that the interval of the share of good answers covers the truth, for a judge with
    accuracy `right`.
    """

    def happens(rng: np.random.Generator) -> bool | None:
        people = (rng.random(JUDGED) < truth).astype(float)
        judge = np.where(rng.random(JUDGED) < right, people, 1 - people)
        people[rng.permutation(JUDGED)[rated:]] = np.nan
        return holds(correct_judge(judge, people).corrected, truth)

    return happens


def preference_holds(rated: int, right: float) -> Draw:
    """Return the event that the interval of the preference for the first of two models covers the truth, for
    a judge that otherwise prefers a random side; 3 raters per item.
    """

    def happens(rng: np.random.Generator) -> bool | None:
        likes = rng.normal(0.3, 1, JUDGED)
        votes = np.sign(np.round(likes[:, None] + rng.normal(0, 1, (JUDGED, 3))))
        judge = np.where(
            rng.random(JUDGED) < right, np.sign(np.round(likes)), rng.choice([1.0, -1.0], JUDGED)
        )
        people = votes.mean(axis=1)
        people[rng.permutation(JUDGED)[rated:]] = np.nan
        return holds(correct_judge(judge, people).corrected, TRUE_PREFERENCE)

    return happens


def _true_preference() -> float:
    rng = np.random.default_rng(0)
    return float(np.sign(np.round(rng.normal(0.3, np.sqrt(2), 4_000_000))).mean())


TRUE_PREFERENCE = _true_preference()


def chosen_holds(rated: int, random_share: float) -> Draw:
    """Return the event that the interval of the share of good answers covers the truth, if prompts on which
    the models disagree are more likely to be rated, and harder.
    """
    wide = np.random.default_rng(0)
    truth = float((wide.random(2_000_000) < 0.9 - 0.6 * wide.random(2_000_000)).mean())

    def happens(rng: np.random.Generator) -> bool | None:
        parted = rng.random(JUDGED)
        good = (rng.random(JUDGED) < 0.9 - 0.6 * parted).astype(float)
        judge = np.where(rng.random(JUDGED) < 0.85, good, 1 - good)
        choice = select_prompts(
            {"models": parted}, rated, random_share=random_share, seed=int(rng.integers(2**31))
        )
        people, weights = np.full(JUDGED, np.nan), np.ones(JUDGED)
        people[choice.places], weights[choice.places] = good[choice.places], choice.weights
        return holds(correct_judge(judge, people, weights=weights).corrected, truth)

    return happens


RATES = [
    *(Rate("corrected", f"a judge right in {right:.0%} covers, {rated} rated", 0.95, LOW,
           RARE_HIGH if rated * (1 - right) < 2 else HIGH, share_holds(rated, right), DRAWS)
      for right in (0.6, 0.85, 0.95) for rated in (30, 100)),
    *(Rate("corrected", f"a preference covers, judge right in {right:.0%}, {rated} rated by 3", 0.95, LOW,
           HIGH, preference_holds(rated, right), DRAWS)
      for right in (0.5, 0.9) for rated in (30, 100)),
    *(Rate("corrected", f"a share of {truth:.0%} covers, judge right in {right:.0%}, {rated} rated", 0.95,
           LOW, RARE_HIGH, share_holds(rated, right, truth), DRAWS)
      for truth, right, rated in ((0.9, 0.85, 100), (0.9, 0.6, 100), (0.95, 0.6, 200))),
    *(Rate("corrected", f"prompts chosen by disagreement cover, {share:.0%} at random, {rated} rated", 0.95,
           LOW, HIGH, chosen_holds(rated, share), DRAWS)
      for share, rated in ((0.3, 60), (0.3, 150), (0.1, 100))),
]  # fmt: skip
