"""Effects of training on one data set for another: a tuned model against its base on the same held-out rows.

The figure of a cell is the relative gain, 1 - (loss tuned / loss base) over all rows, so that data sets of
hard and easy texts share a scale; its interval resamples whole rows of both models together. Its p-value
is the share of random swaps of base and tuned model within rows that give as large a difference. If no
swap does, it is the tail of Student's t, at most the smallest p-value that so many swaps can give. Holm's
correction is over the cells that are judged together, including the own data set of a run. All of this is
about rows: the variation between training seeds is not included. Pure functions: arrays in, documents out.

Backward transfer over a sequence of tasks is the effect of later training on what earlier training
reached.

BWT = mean over i < T of (R_T,i - R_i,i) (Lopez-Paz and Ranzato 2017), where R_j,i is the relative gain on
the rows of task i after run j: both over the base model's loss on these rows, so that values below 0 mean
forgetting. Rows of different tasks are independent, so the limits of the mean follow from those of each
task (Zou and Donner 2008), which are of its rows alone.

Distances between data sets, and between trainings, may predict transfer before it is measured.

Data sets: 1 - the cosine of their mean embeddings, with an interval over rows. Trainings: the cosine of
their weight changes. A change has as many numbers as the model, so each matrix is hashed down to some
thousand (count sketch, Charikar et al. 2002): inner products are preserved in expectation, and the error
of a cosine over many matrices is negligible.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, NotRequired, TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from engine.evaluation.statistics import intervals
from engine.evaluation.statistics.intervals import Interval, get_limits, ratio_interval, wilson_interval
from engine.evaluation.statistics.proportions import estimate_paired_change, holm, mcnemar
from store.transfer.schemas import (
    BackwardTransfer,
    ModelLevel,
    Similarity,
    TaskTransfer,
    TransferCell,
    TransferFigure,
    WeightCosine,
)

SWAPS = 10_000
SIGNS_PER_BATCH = 2_000_000  # signs drawn at a time
ALPHA = 0.05
STARS = ((0.001, "***"), (0.01, "**"), (ALPHA, "*"))
MIN_PAIRS = 10  # fewer pairs are always inconclusive
TransferMeasure = Literal["relative", "right"]
MEASURES: tuple[TransferMeasure, ...] = ("relative", "right")

Floats = NDArray[np.float64]


class CellRows(NamedTuple):
    """Results of one model on the rows of a cell, in the same order for all models.

    Summed nats and tokens of each row, and whether every token of its answer is the most likely one, so
    that greedy decoding gives exactly this answer.
    """

    loss: ArrayLike
    tokens: ArrayLike
    right: ArrayLike


class CellFigures(TypedDict):
    """Figures of a `TransferCell`."""

    n: int
    tokens: int
    relative: TransferFigure
    change: TransferFigure
    right: TransferFigure
    base: ModelLevel
    tuned: ModelLevel


def compute_level(rows: CellRows) -> ModelLevel:
    """Compute the loss and accuracy of one model on rows."""
    hits = np.asarray(rows.right, np.bool_)
    return {
        "n": len(hits),
        "tokens": int(np.sum(np.asarray(rows.tokens))),
        "loss": ratio_interval(rows.loss, rows.tokens).to_estimate(),
        "right": wilson_interval(int(hits.sum()), len(hits)).to_estimate(),
    }


def compare(base: CellRows, tuned: CellRows) -> CellFigures:
    """Compare both models on the same rows. Raises ValueError for no rows, or a non-finite loss."""
    before, after = (np.asarray(side.loss, np.float64) for side in (base, tuned))
    tokens = np.asarray(base.tokens, np.float64)
    if not np.isfinite(before).all() or not np.isfinite(after).all():
        raise ValueError("non-finite loss")
    relative = ratio_interval(before - after, np.maximum(before, 1e-12))
    change = ratio_interval(after - before, tokens)
    p = permutation_test(after - before)
    first, second = (np.asarray(side.right, np.bool_) for side in (base, tuned))
    lost, won = int((first & ~second).sum()), int((second & ~first).sum())
    right = estimate_paired_change(lost, won, len(first))
    return {
        "n": len(before),
        "tokens": int(tokens.sum()),
        "relative": _build_figure(relative, p),
        "change": _build_figure(change, p),
        "right": _build_figure(right, mcnemar(lost, won)),
        "base": compute_level(CellRows(before, tokens, first)),
        "tuned": compute_level(CellRows(after, tokens, second)),
    }


def _build_figure(interval: Interval, p: float) -> TransferFigure:
    return TransferFigure(**vars(interval.to_estimate()), p=p, detectable=interval.detectable)


def permutation_test(differences: ArrayLike, *, swaps: int = SWAPS, seed: int = 0) -> float:
    """Return the two-sided p-value of the sum of paired differences, under exchangeable models."""
    values = np.asarray(differences, np.float64)
    values = values[values != 0]
    n = len(values)
    if n < 2:
        return 1.0
    seen = abs(values.sum()) * (1 - 1e-9)
    random = np.random.default_rng(seed)
    hits = 0
    for count in intervals.draw_batches(swaps, n, SIGNS_PER_BATCH):
        signs = random.integers(0, 2, (count, n)) * 2 - 1
        hits += int((np.abs(signs @ values) >= seen).sum())
    finest = 1 / (swaps + 1)
    if hits:
        return (hits + 1) / (swaps + 1)
    se = values.std(ddof=1) * math.sqrt(n)
    tail = float(2 * special.stdtr(n - 1, -abs(values.sum()) / se)) if se > 0 else 2.0 ** (1 - n)
    return min(finest, max(tail, 2.0 ** (1 - n)))  # no smaller p-value with n rows


class JudgedCell(TransferCell):
    """A cell judged together with others.

    sure: `figure`, the selected measure, is significant after Holm's correction, and its interval agrees.
    """

    figure: TransferFigure
    p_holm: float
    stars: str
    sure: bool
    run_name: NotRequired[str]
    source: NotRequired[str]  # data set that the run was trained on
    target: NotRequired[str]  # data set that it is measured on
    own: NotRequired[bool]  # whether they are the same
    earlier: NotRequired[bool]  # whether a run it continued from was trained on the target


def judge_cells(cells: Sequence[TransferCell], measure: TransferMeasure = "relative") -> list[JudgedCell]:
    """Judge `measure` of each cell among all of them; other fields are preserved."""
    adjusted = holm([cell[measure].p for cell in cells])
    judged_cells: list[JudgedCell] = []
    for cell, p in zip(cells, adjusted, strict=True):
        figure = cell[measure]
        ends = get_limits(figure)
        sure = bool(p < ALPHA and ends and (ends[0] > 0 or ends[1] < 0))
        stars = next((mark for limit, mark in STARS if p < limit), "") if sure else ""
        judged_cells.append({**cell, "figure": figure, "p_holm": p, "stars": stars, "sure": sure})
    return judged_cells


@dataclass(kw_only=True)
class Correlation:
    """A rank correlation with its interval; value is None under three pairs, or if one side is constant."""

    value: float | None
    low: float | None
    high: float | None
    n: int  # pairs
    p: float | None
    state: Literal["few", "unclear", "sure"]


def spearman(first: ArrayLike, second: ArrayLike, *, confidence: float = 0.95) -> Correlation:
    """Return the rank correlation with Bonett and Wright's (2000) interval.

    Pairs that share a run or a data set are not independent, so the interval is somewhat too narrow.
    """
    from scipy import stats  # imported here: takes half a second

    x, y = np.asarray(first, np.float64), np.asarray(second, np.float64)
    kept = np.isfinite(x) & np.isfinite(y)
    x, y = x[kept], y[kept]
    n = len(x)
    correlation = Correlation(
        value=None, low=None, high=None, n=n, p=None, state="few",
    )  # fmt: skip
    if n < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return correlation
    rho = float(stats.spearmanr(x, y).statistic)
    correlation.value = rho
    if n > 3:
        width = special.ndtri((1 + confidence) / 2) * math.sqrt((1 + rho**2 / 2) / (n - 3))
        middle = math.atanh(max(-1 + 1e-12, min(1 - 1e-12, rho)))
        low, high = math.tanh(middle - width), math.tanh(middle + width)
        correlation.low, correlation.high = low, high
        correlation.p = float(2 * special.ndtr(-abs(middle) / math.sqrt((1 + rho**2 / 2) / (n - 3))))
        if n >= MIN_PAIRS:
            correlation.state = "sure" if low > 0 or high < 0 else "unclear"
    return correlation


@dataclass(frozen=True)
class Task:
    """An earlier task: summed losses of its rows under the base model and two later models.

    then: after its own training. now: after the whole sequence.
    """

    name: str
    base: ArrayLike
    then: ArrayLike
    now: ArrayLike


def compute_backward_transfer(tasks: Sequence[Task]) -> BackwardTransfer:
    """Compute the backward transfer of one task or more, as shares of the base model's loss.

    Raises ValueError for no task, no rows, or a non-finite loss.
    """
    if not tasks:
        raise ValueError("a sequence has at least two tasks")
    terms = []
    for task in tasks:
        base, then, now = (np.asarray(side, np.float64) for side in (task.base, task.then, task.now))
        terms.append(ratio_interval(then - now, np.maximum(base, 1e-12)))
    whole = intervals.average_estimates(terms)
    named: list[TaskTransfer] = [
        TaskTransfer(name=task.name, **vars(term.to_estimate()))
        for task, term in zip(tasks, terms, strict=True)
    ]
    return BackwardTransfer(**vars(whole.to_estimate()), tasks=named)


WIDTH = 4_096  # numbers in the sketch of a matrix
DRAWS = 300
MAX_ROWS = 3_000  # rows of a data set; more don't change its mean noticeably


Floats32 = NDArray[np.float32]


@dataclass(frozen=True)
class Sketch:
    """Sketch of a run's weight change.

    Names of its matrices, the layer of each (-1: none), exact norms, and `values` float32 [matrices,
    WIDTH].
    """

    names: Sequence[str]
    layers: Sequence[int]
    norms: Sequence[float]
    values: Floats32


def compute_sketch(change: NDArray[Any], seed: int) -> Floats32:
    """Hash a matrix down to WIDTH numbers; the same matrix must have the same seed in every run."""
    flat = np.ascontiguousarray(change, np.float64).ravel()
    code = np.random.default_rng(seed).integers(0, 2 * WIDTH, len(flat), dtype=np.int32)
    signed = np.where(code & 1, flat, -flat)
    return np.bincount(code >> 1, signed, WIDTH).astype(np.float32)


def compute_weight_cosine(first: Sketch, second: Sketch) -> WeightCosine:
    """Return the cosine of two weight changes; value is None if one changed nothing.

    A matrix that only one run changed counts as unchanged in the other.
    """
    places = {name: place for place, name in enumerate(second.names)}
    shared = [(i, places[name]) for i, name in enumerate(first.names) if name in places]
    products = {
        i: float(first.values[i].astype(np.float64) @ second.values[j].astype(np.float64)) for i, j in shared
    }
    whole = float(np.linalg.norm(first.norms) * np.linalg.norm(second.norms))
    by_layer: dict[int, list[tuple[float, float, float]]] = {}
    for i, j in shared:
        if first.layers[i] >= 0:
            by_layer.setdefault(first.layers[i], []).append(
                (products[i], first.norms[i] ** 2, second.norms[j] ** 2)
            )
    sums = [np.sum(parts, axis=0) for _, parts in sorted(by_layer.items())]
    layers = [dot / np.sqrt(a * b) for dot, a, b in sums if a * b > 0]
    low, high = np.quantile(layers, [0.025, 0.975]) if layers else (None, None)
    return {
        "value": _clip_cosine(sum(products.values()) / whole) if whole else None,
        "low": None if low is None else _clip_cosine(float(low)),
        "high": None if high is None else _clip_cosine(float(high)),
        "n": len(layers),
        "matrices": len(shared),
    }


def _clip_cosine(cosine: float) -> float:
    return max(-1.0, min(1.0, cosine))


def compute_embedding_distance(first: NDArray[Any], second: NDArray[Any], *, seed: int = 0) -> Similarity:
    """Return 1 - cosine of the mean embeddings, given [rows, dimensions] of each set.

    Rows without words (all 0) are left out; value is None if a set has no other rows.
    """
    random = np.random.default_rng(seed)
    sides = [_sample_rows(side, random) for side in (first, second)]
    n = min(len(side) for side in sides)
    if not n:
        return {"value": None, "low": None, "high": None, "n": 0}
    value = float(_compute_cosine_distance(*(side.mean(axis=0)[None] for side in sides))[0])
    if n < 2:
        return {"value": value, "low": None, "high": None, "n": n}
    means = [random.multinomial(len(s), [1 / len(s)] * len(s), DRAWS) @ s / len(s) for s in sides]
    drawn = _compute_cosine_distance(*means)
    # resampled means are farther apart than the sets: both ends are corrected for that (Efron's pivot)
    low, high = (2 * value - float(q) for q in np.quantile(drawn, [0.975, 0.025]))
    return {"value": value, "low": max(0.0, low), "high": max(0.0, high), "n": n}


def _sample_rows(vectors: NDArray[Any], random: np.random.Generator) -> Floats:
    kept = np.flatnonzero(np.any(np.asarray(vectors) != 0, axis=1))
    if len(kept) > MAX_ROWS:
        kept = np.sort(random.choice(kept, MAX_ROWS, replace=False))
    return np.asarray(vectors[kept], np.float64)


def _compute_cosine_distance(first: Floats, second: Floats) -> Floats:
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    distances: Floats = 1 - (first * second).sum(axis=1) / np.maximum(norms, 1e-300)
    return np.maximum(distances, 0.0)
