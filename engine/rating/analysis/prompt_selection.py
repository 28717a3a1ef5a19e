"""Select the prompts people should rate next: those on which models, metrics and a judge disagree most.

Disagreement measures are rank-normalized before they are combined, so their scales don't matter. Prompts
are sampled, and weights of 1 / their probability make statistics representative of all prompts. Pure and
seeded.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import ArrayLike, NDArray

# Each measure is one number per prompt, higher for more disagreement, NaN where not measured.

Floats = NDArray[np.float64]
_WORD = re.compile(r"\w+")


def measure_disagreement(
    row_ids: Sequence[int],
    answers: Sequence[Mapping[int, str]],
    scores: Sequence[Path],
    judgements: Sequence[Path],
) -> dict[str, Floats]:
    """Return disagreement measures by name.

    `answers` and `scores` are those of each model, by row; `judgements` compare the first two models.
    """
    measures = {"words": _measure_word_difference(row_ids, answers)}
    for metric, by_model in _read_shared_metrics(scores).items():
        rows = [[by_row.get(row_id, np.nan) for by_row in by_model] for row_id in row_ids]
        measures[f"metric {metric}"] = np.ptp(np.array(rows, float), axis=1)
    for number, path in enumerate(judgements, 1):
        measures[f"judge {number}"] = _measure_judge_uncertainty(row_ids, path)
    return measures


def _measure_word_difference(row_ids: Sequence[int], answers: Sequence[Mapping[int, str]]) -> Floats:
    """Return 1 minus the Jaccard similarity of the words of two answers, averaged over pairs of models."""
    parted = np.zeros(len(row_ids))
    for place, row_id in enumerate(row_ids):
        words = [set(_WORD.findall(by_row[row_id].casefold())) for by_row in answers]
        pairs = list(itertools.combinations(words, 2))
        shares = [len(first & other) / max(1, len(first | other)) for first, other in pairs]
        parted[place] = 1 - float(np.mean(shares)) if shares else np.nan
    return parted


def _read_shared_metrics(scores: Sequence[Path]) -> dict[str, list[dict[int, float]]]:
    """Read the metrics that all models have: metric -> one mapping of row id to score per model."""
    read: list[dict[str, dict[int, float]]] = []
    for path in scores:
        by_metric: dict[str, dict[int, float]] = {}
        if path.exists():
            for row in pq.read_table(path, columns=["row_id", "metric", "score"]).to_pylist():
                if row["score"] is not None:
                    by_metric.setdefault(row["metric"], {})[row["row_id"]] = row["score"]
        read.append(by_metric)
    shared = set(read[0]).intersection(*read[1:]) if read else set()
    return {metric: [by_metric[metric] for by_metric in read] for metric in sorted(shared)}


def _measure_judge_uncertainty(row_ids: Sequence[int], path: Path) -> Floats:
    """Return 1 where the judge's two orders disagree or it calls a tie, 0 where it is certain."""
    if not path.exists():
        return np.full(len(row_ids), np.nan)
    rows = pq.read_table(path, columns=["row_id", "score"]).to_pylist()
    by_row = {row["row_id"]: row["score"] for row in rows if row["score"] is not None}
    return np.array([1 - 2 * abs(by_row.get(row_id, np.nan) - 0.5) for row_id in row_ids])


# A prompt is most informative where models, metrics and judge disagree most: its score is the mean of the
# ranks of its disagreement measures (0 to 1; unmeasured counts as 0.5). Taking only the highest scores would
# make the round's statistics those of hard prompts. So prompts are sampled with a probability proportional to
# a mix of `random_share` uniform and the rest by score (systematic sampling, for an exact count). The
# probabilities are stored, and with weights of 1 / probability statistics represent all prompts. That costs
# precision: `effective` uniformly sampled prompts would be as informative about a mean unrelated to the
# score.

Ints = NDArray[np.int64]
RANDOM_SHARE = 0.3


@dataclass(frozen=True)
class PromptSelection:
    """Sampled prompts.

    places: indices of the selected prompts, most informative first. chance: inclusion probability of each
    selected prompt. score: scores of all prompts. effective: effective number of uniformly sampled
    prompts.
    """

    places: Ints
    chance: Floats
    score: Floats
    effective: float

    @property
    def weights(self) -> Floats:
        """Weights of the selected prompts that make statistics representative of all prompts."""
        weights: Floats = 1 / self.chance
        return weights


def select_prompts(
    disagreement: Mapping[str, ArrayLike],
    count: int,
    *,
    random_share: float = RANDOM_SHARE,
    seed: int = 0,
) -> PromptSelection:
    """Select `count` prompts.

    `disagreement` has measures with one value per prompt, higher for more disagreement, NaN where not
    measured. Raises ValueError without measures, for unequal lengths, for a count above the number of
    prompts, or for an invalid share.
    """
    measures = [np.asarray(values, np.float64) for values in disagreement.values()]
    if not measures or len({len(values) for values in measures}) > 1:
        raise ValueError("disagreement: measures must have one value for each prompt, and there must be one.")
    n = len(measures[0])
    if not 0 < count <= n:
        raise ValueError(f"count: {count} of {n} prompts can't be chosen.")
    if not 0 < random_share <= 1:
        raise ValueError(f"random_share: {random_share} must be above 0 and at most 1.")
    score = np.mean([_normalize_ranks(values) for values in measures], axis=0)
    chance = _compute_inclusion_probabilities(score, count, random_share)
    random = np.random.default_rng(seed)
    order = random.permutation(n)
    points = random.random() + np.arange(count)
    ends = np.cumsum(chance[order])
    ends[-1] = count  # exact despite rounding
    places = order[np.searchsorted(ends, points, side="right")]
    places = places[np.argsort(-score[places], kind="stable")]
    weights = 1 / chance[places]
    effective = float(weights.sum() ** 2 / np.square(weights).sum())
    return PromptSelection(places.astype(np.int64), chance[places], score, effective)


def _normalize_ranks(values: Floats) -> Floats:
    """Return ranks from 0 to 1, and 0.5 where nothing was measured or all values are equal."""
    ranks = np.full(len(values), 0.5)
    has = np.isfinite(values)
    if has.sum() > 1:
        from scipy.stats import rankdata  # slow to import, and pages import this module

        ranks[has] = (rankdata(values[has]) - 0.5) / has.sum()
    return ranks


def _compute_inclusion_probabilities(score: Floats, count: int, random_share: float) -> Floats:
    """Return inclusion probabilities that sum to `count`, none above 1."""
    size = random_share + (1 - random_share) * score / score.mean()
    chance: Floats = size * count / size.sum()
    while (chance > 1).any():
        sure = chance >= 1
        rest = size[~sure]
        chance[sure] = 1
        chance[~sure] = rest * (count - sure.sum()) / rest.sum()
    return chance
