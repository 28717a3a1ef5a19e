"""Which prompts people should rate next, and in what order those of a round come.

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

from engine.diagnostics.rating import davidson
from engine.diagnostics.rating.ratings import Comparisons, PairOutcome
from engine.diagnostics.rating.resampled import Counted

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
RANDOM_SHARE = 0.3
WEAK_PRIOR = 1.0  # variance of a strength of which nothing is known


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


def next_pairs(ratings: ArrayLike, uncertainty: ArrayLike, *, seed: int = 0) -> Ints:
    """The order in which candidates come: fewest ratings first, then the pair of which least is known, then
    by chance. One entry a candidate (an item with two systems)."""
    counts, unsure = np.asarray(ratings), np.asarray(uncertainty, np.float64)
    chance = np.random.default_rng(seed).random(len(counts))
    return np.lexsort((chance, -unsure, counts)).astype(np.int64)


def pair_uncertainty(comparisons: Comparisons) -> Floats:
    """Standard error of the difference of each two systems [systems, systems], as if ratings were
    independent; of pairs without any chain of comparisons it is that of two strengths of which nothing is
    known."""
    kept = comparisons.take(comparisons.counted & (comparisons.outcome != PairOutcome.BOTH_BAD))
    count = len(comparisons.systems)
    counted = Counted.of(kept, np.zeros((len(kept), 0)))
    design = davidson.Design(counted.design.x, np.full(count, 1 / WEAK_PRIOR))
    if not len(kept):
        design = davidson.Design(np.zeros((1, count)), design.penalty)
    counts = counted.whole()[None] if len(kept) else np.zeros((1, 1, 3))
    fitted = davidson.fit(design, counts)
    theta = np.column_stack([fitted.coefficients, fitted.log_nu])
    penalty = np.append(design.penalty, davidson.RIDGE)
    _, information = davidson.derivatives(design, design.products, counts, theta, penalty)
    variance = np.linalg.inv(information[0])[:count, :count]
    spread = np.diag(variance)[:, None] + np.diag(variance) - 2 * variance
    errors: Floats = np.sqrt(np.maximum(spread, 0))
    return errors
