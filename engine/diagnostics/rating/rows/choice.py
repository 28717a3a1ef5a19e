"""Which prompts people should rate next.

A prompt tells most where models, metrics and judge are least at one: its score is the mean of the ranks of
its measures of disagreement (0 to 1; what was not measured counts as the middle). Taking the highest ones
alone would make the round's figures those of hard prompts. So a prompt is drawn by chance, one in proportion
to `random_share` of an even chance and the rest of its score (systematic sampling, so that exactly as many
are drawn): what each one's chance was is kept, and with weights of 1 / chance figures are those of all
prompts. That costs: `effective` evenly drawn prompts would say as much of a mean that has nothing to do with
the score. Pure and seeded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
RANDOM_SHARE = 0.3


@dataclass(frozen=True)
class Choice:
    """places: the chosen prompts, most telling first; chance: what each one's was, by place in `places`;
    score: of all prompts. effective: so many evenly drawn prompts say as much."""

    places: Ints
    chance: Floats
    score: Floats
    effective: float

    @property
    def weights(self) -> Floats:
        """Of the chosen ones, with which figures are those of all prompts."""
        weights: Floats = 1 / self.chance
        return weights


def choose(
    disagreement: Mapping[str, ArrayLike],
    count: int,
    *,
    random_share: float = RANDOM_SHARE,
    seed: int = 0,
) -> Choice:
    """`count` prompts. `disagreement`: measures, more where more is parted, NaN where not measured, one value
    a prompt. Raises ValueError for no measure, unequal lengths, more than there are, or a bad share."""
    measures = [np.asarray(values, np.float64) for values in disagreement.values()]
    if not measures or len({len(values) for values in measures}) > 1:
        raise ValueError("disagreement: measures must have one value for each prompt, and there must be one.")
    n = len(measures[0])
    if not 0 < count <= n:
        raise ValueError(f"count: {count} of {n} prompts can't be chosen.")
    if not 0 < random_share <= 1:
        raise ValueError(f"random_share: {random_share} must be above 0 and at most 1.")
    score = np.mean([_ranked(values) for values in measures], axis=0)
    chance = _chances(score, count, random_share)
    random = np.random.default_rng(seed)
    order = random.permutation(n)
    points = random.random() + np.arange(count)
    ends = np.cumsum(chance[order])
    ends[-1] = count  # whatever rounding did
    places = order[np.searchsorted(ends, points, side="right")]
    places = places[np.argsort(-score[places], kind="stable")]
    weights = 1 / chance[places]
    effective = float(weights.sum() ** 2 / np.square(weights).sum())
    return Choice(places.astype(np.int64), chance[places], score, effective)


def _ranked(values: Floats) -> Floats:
    """Ranks from 0 to 1, the middle where nothing was measured or all are the same."""
    ranks = np.full(len(values), 0.5)
    has = np.isfinite(values)
    if has.sum() > 1:
        from scipy.stats import rankdata  # dear, and the screens import this file

        ranks[has] = (rankdata(values[has]) - 0.5) / has.sum()
    return ranks


def _chances(score: Floats, count: int, random_share: float) -> Floats:
    """Chances that sum to `count`, none above 1."""
    size = random_share + (1 - random_share) * score / score.mean()
    chance: Floats = size * count / size.sum()
    while (chance > 1).any():
        sure = chance >= 1
        rest = size[~sure]
        chance[sure] = 1
        chance[~sure] = rest * (count - sure.sum()) / rest.sum()
    return chance
