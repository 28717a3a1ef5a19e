"""Figures of a whole set of rows, such as BLEU, chrF, perplexity or macro F1, as functions of sums over rows.

Every function takes sums [draws, counts] and returns one value per draw, so that resampling is arithmetic.
Ratios of two sums have analytic intervals; a figure that can only be computed as a whole has a
delete-a-group jackknife interval. Pure functions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse, special

from engine.evaluation.statistics.intervals import Interval, ratio_interval

# BLEU (Papineni et al. 2002) and chrF (Popović 2015) are not means over rows: each row counts n-grams, the
# counts are added up, and the figure follows from the sums. The same holds for macro and weighted averages
# over classes, from the rows of each class. BLEU and chrF equal those of sacrebleu for the same counts
# (exponential smoothing; effective order).

Floats = NDArray[np.float64]
FigureOfSums = Callable[[Floats], Floats]
BLEU_ORDERS = 4
MIN_CLASS_ROWS = 10  # with fewer, intervals of class averages cover only 45 to 90%
CLASS_FIGURES = (
    "accuracy", "f1_macro", "f1_micro", "f1_weighted", "precision_macro", "precision_micro",
    "precision_weighted", "recall_macro", "recall_micro", "recall_weighted",
)  # fmt: skip

MACRO_FIGURES = tuple(name for name in CLASS_FIGURES if name.endswith("_macro"))


def mean(sums: Floats) -> Floats:
    """Compute the mean from [sum of the scores, sum of their weights]."""
    with np.errstate(invalid="ignore", divide="ignore"):
        means: Floats = sums[:, 0] / sums[:, 1]
    return means


def perplexity(sums: Floats) -> Floats:
    """Compute the perplexity from [nats, tokens]."""
    with np.errstate(over="ignore"):
        return np.exp(mean(sums))


def bits_per_byte(sums: Floats) -> Floats:
    """Compute bits per byte from [nats, bytes of the text]."""
    return mean(sums) / math.log(2)


def bleu(sums: Floats) -> Floats:
    """Compute BLEU, 0 to 100, from [words of the answers, of the references, matching n-grams of 1 to 4, all
    n-grams of 1 to 4].

    An order without a match counts as half a match, the next one without as a quarter, and so on. BLEU is
    0 if no answer has four words.
    """
    counts = np.asarray(sums, np.float64)
    answers, references = counts[:, 0], counts[:, 1]
    right, total = counts[:, 2 : 2 + BLEU_ORDERS], counts[:, 2 + BLEU_ORDERS :]
    missed = np.cumsum((right == 0) & (total > 0), axis=1)
    hits = np.where(right > 0, right, 0.5**missed)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        logs = np.where(total > 0, np.log(100 * hits / total), -np.inf)
        brevity = np.where(answers < references, np.exp(1 - references / answers), 1.0)
        figures = brevity * np.exp(logs.mean(axis=1))
    return np.where((right.sum(axis=1) > 0) & (answers > 0), figures, 0.0)


def chrf(sums: Floats, *, beta: float = 2) -> Floats:
    """Compute chrF, 0 to 100, from [n-grams of the answers, of the references, in both] for each order."""
    counts = np.asarray(sums, np.float64)
    answers, references, both = counts[:, 0::3], counts[:, 1::3], counts[:, 2::3]
    used = (answers > 0) & (references > 0)
    orders = np.maximum(used.sum(axis=1), 1)
    precision = np.where(used, both / np.where(used, answers, 1), 0).sum(axis=1) / orders
    recall = np.where(used, both / np.where(used, references, 1), 0).sum(axis=1) / orders
    below = beta**2 * precision + recall
    return np.where(below > 0, 100 * (1 + beta**2) * precision * recall / np.where(below > 0, below, 1), 0)


def count_classes(truth: ArrayLike, answers: ArrayLike, classes: int) -> sparse.csr_array:
    """Return each row's addends to the sums of `build_class_figure`: a sparse matrix [rows, 3 × classes + 1].

    An index of at least `classes` is no class: an answer that names none, or a label outside the set. Such
    a row is never right.
    """
    true, guess = np.asarray(truth, np.int64), np.asarray(answers, np.int64)
    every = np.arange(len(true))
    is_true, is_guess = true < classes, guess < classes
    right = is_true & (true == guess)
    rows = np.concatenate([every[right], every[is_true], every[is_guess], every])
    columns = np.concatenate(
        [true[right], classes + true[is_true], 2 * classes + guess[is_guess], np.full(len(true), 3 * classes)]
    )
    return sparse.csr_array((np.ones(len(rows)), (rows, columns)), shape=(len(true), 3 * classes + 1))


def build_class_figure(figure: str, classes: int) -> FigureOfSums:
    """Return one of CLASS_FIGURES as a function of [right rows of each class, its rows, rows predicted as it,
    all rows].

    A class that is neither present nor predicted is excluded from averages, as in scikit-learn.
    """

    def value(sums: Floats) -> Floats:
        counts = np.asarray(sums, np.float64)
        right, support, called = (counts[:, i * classes : (i + 1) * classes] for i in range(3))
        rows = counts[:, -1]
        if figure == "accuracy":
            shares: Floats = right.sum(axis=1) / rows
            return shares
        name, average = figure.split("_")
        if average == "micro":  # a label outside the set can't be recalled, but its row counts
            return _compute_ratio(name, right.sum(axis=1), rows, called.sum(axis=1))
        weight = support if average == "weighted" else (support + called > 0).astype(np.float64)
        below = weight.sum(axis=1)
        each = _compute_ratio(name, right, support, called)
        averages: Floats = (each * weight).sum(axis=1) / np.where(below > 0, below, 1)
        return averages

    return value


def describe_rare_classes(support: ArrayLike, labels: Sequence[str]) -> str:
    """Return why an average with equal weight for every class has no interval; empty if it has one."""
    rows = np.asarray(support, np.int64)
    rare = np.flatnonzero(rows < MIN_CLASS_ROWS)
    if not len(rare):
        return ""
    fewest = int(rare[rows[rare].argmin()])
    own = f"the class {labels[fewest]} has {rows[fewest]} {'row' if rows[fewest] == 1 else 'rows'}"
    others = (
        f", and {len(rare) - 1:,} more {'has' if len(rare) == 2 else 'have'} too few" if len(rare) > 1 else ""
    )
    return f"{own}{others} (from {MIN_CLASS_ROWS} rows of each class on)"


def _compute_ratio(name: str, right: Floats, support: Floats, called: Floats) -> Floats:
    """Compute precision, recall or F1; 0 if undefined."""
    above, below = {
        "precision": (right, called),
        "recall": (right, support),
        "f1": (2 * right, support + called),
    }[name]
    return above / np.where(below > 0, below, 1)


ESTIMATORS: dict[str, FigureOfSums] = {
    "mean": mean,
    "perplexity": perplexity,
    "bits_per_byte": bits_per_byte,
    "bleu": bleu,
    "chrf": chrf,
}


# Figures that are a ratio of two sums or a function of one: a mean, a perplexity, bits per byte.
#
# Their intervals are those of `intervals.ratio_interval`. That of a perplexity is computed on its logarithm,
# in which rows are additive: with 20 to 100 rows its BCa limits covered 82 to 89%. The difference of two such
# figures is linearized: each row's contribution to either sum, times the derivative of the figure there.

# Sums are [units, 2]: numerator (such as nats) and denominator (such as tokens).
RATIO_FIGURES = ("mean", "perplexity", "bits_per_byte")
OVERFLOW = 700.0  # nats per token above which perplexity overflows


def estimate_ratio_figure(figure: str, sums: Floats, *, confidence: float = 0.95) -> Interval:
    """Estimate one of RATIO_FIGURES over units, some of which have a positive weight."""
    ratio = ratio_interval(sums[:, 0], sums[:, 1], confidence=confidence)
    if figure == "perplexity":
        return _exponentiate_interval(ratio)
    return ratio if figure == "mean" else _scale_interval(ratio, 1 / math.log(2))


def estimate_ratio_difference(
    figure: str, first: Floats, second: Floats, *, confidence: float = 0.95
) -> Interval:
    """Estimate the first model's figure minus the second's, over the same units."""
    own, other = _compute_influences(figure, first), _compute_influences(figure, second)
    value, weights = own[0] - other[0], (first[:, 1] + second[:, 1]) / 2
    weighs = weights > 0
    each = np.where(weighs, (own[1] - other[1]) * weights.sum() + value * weights, 0.0)
    return ratio_interval(each[weighs], weights[weighs], confidence=confidence)


def _compute_influences(figure: str, sums: Floats) -> tuple[float, Floats]:
    """Return the figure, and each unit's linearized influence on it [units]."""
    total = sums.sum(axis=0)
    ratio = float(total[0] / total[1])
    value, slope = TRANSFORMED_ESTIMATES[figure](ratio)
    return value, slope * (sums[:, 0] - ratio * sums[:, 1]) / total[1]


def _compute_perplexity(nats: float) -> tuple[float, float]:
    value = math.exp(min(nats, OVERFLOW))
    return value, value


TRANSFORMED_ESTIMATES: dict[
    str, Callable[[float], tuple[float, float]]
] = {  # the figure of a ratio, and its derivative
    "mean": lambda ratio: (ratio, 1.0),
    "perplexity": _compute_perplexity,
    "bits_per_byte": lambda ratio: (ratio / math.log(2), 1 / math.log(2)),
}


def _scale_interval(ratio: Interval, factor: float) -> Interval:
    def scale(value: float | None) -> float | None:
        return None if value is None else factor * value

    scaled = replace(ratio, value=factor * ratio.value, low=scale(ratio.low), high=scale(ratio.high))
    return replace(scaled, se=scale(ratio.se), detectable=scale(ratio.detectable))


def _exponentiate_interval(nats: Interval) -> Interval:
    """Convert an interval in nats to perplexity; `se` and `detectable` are those at the value."""
    if max(nats.value, nats.high or nats.value) > OVERFLOW:
        return Interval(math.inf, None, None, nats.n, why="it is too large to display")
    value = math.exp(nats.value)
    low, high = (None if end is None else math.exp(end) for end in (nats.low, nats.high))
    se = None if nats.se is None else value * nats.se
    seen = None if nats.detectable is None else value * math.expm1(min(nats.detectable, OVERFLOW))
    return replace(nats, value=value, low=low, high=high, se=se, detectable=seen)


# Interval for a figure that can only be computed as a whole: the delete-a-group jackknife.
#
# Rows are distributed over 20 parts, whole groups to one part, and the figure is computed without each in
# turn. Its spread gives the standard error, Student's t the interval. Twenty-one computations are enough,
# where a bootstrap would need thousands.

JACKKNIFE_PARTS = 20

Indices = NDArray[np.int64]


def jackknife_interval(
    figure: Callable[[Indices], float], rows: int, groups: Any = None, *, confidence: float = 0.95
) -> Interval:
    """Return `figure(row indices)` for all rows, with an interval. With fewer than two groups there
    is none.
    """
    part_of = _assign_parts(rows, groups)
    value = float(figure(np.arange(rows)))
    parts = int(part_of.max(initial=-1)) + 1
    if parts < 2:
        return Interval(value, None, None, rows)
    left_out = np.array([figure(np.flatnonzero(part_of != part)) for part in range(parts)], float)
    if not np.isfinite(left_out).all():
        return Interval(value, None, None, rows)
    se = math.sqrt((parts - 1) / parts * np.square(left_out - left_out.mean()).sum())
    half = float(special.stdtrit(parts - 1, (1 + confidence) / 2)) * se
    return Interval(value, value - half, value + half, rows, se)


def _assign_parts(rows: int, groups: Any) -> Indices:
    """Return the part of each row; units are distributed over the parts in random order."""
    names = np.arange(rows) if groups is None else np.array([str(group) for group in groups])
    _, unit_of = np.unique(names, return_inverse=True)
    units = int(unit_of.max(initial=-1)) + 1
    dealt = np.arange(units) % max(1, min(JACKKNIFE_PARTS, units))
    return np.random.default_rng(0).permutation(dealt)[unit_of]
