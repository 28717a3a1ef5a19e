"""Scores of two models on the same rows, from 0 to 1, prompts of a parity check, labels of classifiers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np

from bench.made.shapes.draws import Bools, Floats, Ints, draw_with


@dataclass(frozen=True)
class PairedScores:
    """Scores of rows. truth: the mean of tuned minus base."""

    base: Floats
    tuned: Floats
    truth: float


ScoredShape = Callable[[np.random.Generator, int, float], PairedScores]


def _move(rng: np.random.Generator, scores: Floats, mean: float, by: float) -> Floats:
    """Move scores with the given mean by exactly `by` on average, each by a share of its room."""
    if by == 0:
        return scores
    room, part = (1 - scores, by / (1 - mean)) if by > 0 else (scores, by / mean)
    moved: Floats = scores + np.sign(part) * room * rng.beta(4 * abs(part), 4 * (1 - abs(part)), len(scores))
    return moved


def _draw_graded(same: float, rng: np.random.Generator, rows: int, difference: float) -> PairedScores:
    """Draw rows that each rise by most of their room, fall by a part of their score, or stay the same."""
    base = rng.beta(3.5, 1.5, rows)
    up, down = 0.7 * 0.3, 0.3 * 0.7  # mean changes: share of room or score, times its mean
    rises = draw_with(rng, np.full(rows, (difference / (1 - same) + down) / (up + down)))
    share = rng.random(rows)
    tuned = np.where(rises, base + (1 - base) * (0.4 + 0.6 * share), base - base * 0.6 * share)
    return PairedScores(base, np.where(rng.random(rows) < same, base, tuned), difference)


def _draw_right_or_wrong(
    right: float, differing: float, rng: np.random.Generator, rows: int, difference: float
) -> PairedScores:
    """Draw rows of which a share `differing` is right under only one model."""
    gained, lost = (differing + difference) / 2, (differing - difference) / 2
    cells = rng.choice(4, rows, p=(right - lost, lost, gained, 1 - right - gained))
    return PairedScores((cells < 2).astype(float), np.isin(cells, (0, 2)).astype(float), difference)


def _draw_rare_ruin(share: float, rng: np.random.Generator, rows: int, difference: float) -> PairedScores:
    """Let a few rows fall from near 1 to 0; the others move by the rest of the difference."""
    base = rng.beta(18, 2, rows)
    moved = _move(rng, base, 0.9, (difference + share * 0.9) / (1 - share))
    return PairedScores(base, np.where(rng.random(rows) < share, 0.0, moved), difference)


def _draw_grades(rng: np.random.Generator, rows: int, difference: float) -> PairedScores:
    """Draw a judge's grades of 1 to 5, most of them high, with changes of one step up or down where
    possible.
    """
    grades = rng.choice(5, rows, p=(0.04, 0.06, 0.15, 0.3, 0.45))
    down = 0.2
    up = (4 * difference + down * 0.96) / 0.55
    steps = np.where(draw_with(rng, np.where(grades < 4, up, 0.0)), 1, 0)
    steps -= np.where(draw_with(rng, np.where(grades > 0, down, 0.0)), 1, 0)
    return PairedScores(grades / 4, (grades + steps) / 4, difference)


# Each generates rows whose true mean difference is the given number: up to ±0.04, an error beyond.
SCORED: dict[str, ScoredShape] = {
    "graded": partial(_draw_graded, 0.0),
    "graded, 80% tie": partial(_draw_graded, 0.8),
    "grades of five steps": _draw_grades,
    "right or wrong": partial(_draw_right_or_wrong, 0.7, 0.12),
    "right or wrong, 80% tie": partial(_draw_right_or_wrong, 0.6, 0.2),
    "right or wrong, near the ceiling": partial(_draw_right_or_wrong, 0.95, 0.05),
    "2% fall from near 1 to 0": partial(_draw_rare_ruin, 0.02),
    "5% fall from near 1 to 0": partial(_draw_rare_ruin, 0.05),
}


class ParityPrompts(NamedTuple):
    """Responses to prompts before and after a conversion, and how much each differs.

    truth: the share of destroyed prompts. mean_gap, mean_similarity: of the population.
    """

    gaps: Floats  # nats a token
    similarities: Floats  # 1: identical responses
    destroyed: Bools
    truth: float
    mean_gap: float
    mean_similarity: float


def draw_parity(
    rng: np.random.Generator, prompts: int, share: float, gap: float = 3.0, tiny: float = 0.002
) -> ParityPrompts:
    """Draw prompts, a share of which differ completely, and all others by almost nothing (0: by nothing)."""
    destroyed = rng.random(prompts) < share
    small = tiny * rng.exponential(size=prompts)
    unlike = tiny * 2 * rng.random(prompts)
    return ParityPrompts(
        np.where(destroyed, gap + small, small), np.where(destroyed, 0.0, 1 - unlike), destroyed,
        share, share * gap + tiny, (1 - share) * (1 - tiny),
    )  # fmt: skip


class Classified(NamedTuple):
    """True labels and the predictions of two classifiers, with the metrics of each one's population confusion
    matrix.
    """

    labels: Ints
    base: Ints
    tuned: Ints
    base_accuracy: float
    tuned_accuracy: float
    base_macro_f1: float
    tuned_macro_f1: float


ClassifiedShape = Callable[[np.random.Generator, int], Classified]


def confuse(shares: Floats, recalls: Floats) -> Floats:
    """Return shares by true and predicted class; errors are distributed among other classes by their
    frequency.
    """
    others = np.tile(shares, (len(shares), 1))
    np.fill_diagonal(others, 0.0)
    matrix = others / others.sum(1, keepdims=True) * (1 - recalls)[:, None]
    np.fill_diagonal(matrix, recalls)
    return np.asarray(matrix * shares[:, None], np.float64)


def measure_macro_f1(matrix: Floats) -> float:
    """Return the mean F1 over classes; 0 for a class that is never predicted correctly."""
    return float(np.mean(2 * np.diag(matrix) / (matrix.sum(0) + matrix.sum(1))))


def _predict(matrix: Floats, labels: Ints, chance: Floats) -> Ints:
    ends = np.cumsum(matrix / matrix.sum(1, keepdims=True), axis=1)
    ends[:, -1] = 1.0
    return np.asarray((chance[:, None] >= ends[labels]).sum(1), np.int64)


def classify(
    shares: tuple[float, ...],
    base_recalls: tuple[float, ...],
    tuned_recalls: tuple[float, ...],
    rng: np.random.Generator,
    rows: int,
) -> Classified:
    """Draw predictions. On 70% of the rows both classifiers face the same difficulty, so that their errors
    are correlated.
    """
    part = np.array(shares)
    base, tuned = confuse(part, np.array(base_recalls)), confuse(part, np.array(tuned_recalls))
    labels = rng.choice(len(part), rows, p=part)
    first, second = rng.random((2, rows))
    chance = np.where(rng.random(rows) < 0.7, first, second)
    return Classified(
        labels, _predict(base, labels, first), _predict(tuned, labels, chance),
        float(np.trace(base)), float(np.trace(tuned)), measure_macro_f1(base), measure_macro_f1(tuned),
    )  # fmt: skip


SIX = (0.5, 0.3, 0.1, 0.05, 0.03, 0.02)
GOOD = (0.95, 0.9, 0.8, 0.7, 0.6, 0.5)

CLASSIFIED: dict[str, ClassifiedShape] = {
    "six classes, equally good": partial(classify, SIX, GOOD, GOOD),
    "six classes, equal accuracy, rare ones given up": partial(
        classify, SIX, GOOD, (0.97, 0.9175, 0.8, 0.7, 0.4, 0.0375)
    ),
    "six classes, rare ones never predicted": partial(classify, SIX, GOOD, (0.97, 0.93, 0.8, 0.7, 0.0, 0.0)),
    "six classes, better at all": partial(
        classify, SIX, (0.9, 0.85, 0.7, 0.6, 0.5, 0.4), (0.93, 0.88, 0.75, 0.65, 0.55, 0.45)
    ),
    "two classes, 2% of one, equally good": partial(classify, (0.98, 0.02), (0.99, 0.5), (0.99, 0.5)),
    "two classes, 2% of one, better at it": partial(classify, (0.98, 0.02), (0.99, 0.5), (0.99, 0.8)),
    "near chance, equally bad": partial(classify, (0.4, 0.3, 0.3), (0.4, 0.35, 0.35), (0.4, 0.35, 0.35)),
}  # fmt: skip
