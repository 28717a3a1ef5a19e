"""Courses of training: losses of evaluations by row, a live metric of two runs, diverging losses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import product

import numpy as np

from bench.made.shapes.draws import (
    Floats,
    Ints,
    Noise,
    draw_course,
    draw_lengths,
    draw_normal,
    draw_t25,
    draw_with,
)

STEPS_APART = 50
PLATEAU = 2.0  # nats a token


@dataclass(frozen=True)
class Course:
    """Losses per token, with one line per evaluation and one column per row.

    truth: the change of the expected loss from the middle evaluation to the last, in nats per token.
    expected: the expected loss at each evaluation.
    """

    steps: Ints
    losses: Floats
    tokens: Floats
    expected: Floats
    truth: float


CourseShape = Callable[[np.random.Generator, int, int], Course]
Trend = Callable[[Floats], Floats]  # function of the share of training done, from 0 to 1


def _stay(done: Floats) -> Floats:
    return np.full(len(done), PLATEAU)


def _settle(done: Floats) -> Floats:
    """Fall over the first 40%, ever more slowly, then stay constant."""
    return PLATEAU + np.maximum(0, 1 - done / 0.4) ** 2


def _fall(done: Floats) -> Floats:
    return PLATEAU + 0.4 * (1 - done)


def _fall_slowly(done: Floats) -> Floats:
    return PLATEAU + 0.5 * np.exp(-3 * done)


def _rise(done: Floats) -> Floats:
    """Fall over the first half, then rise by a tenth."""
    return PLATEAU + np.where(done < 0.5, 1.6 * (0.5 - done), 0.4 * (done - 0.5))


def _rise_slightly(done: Floats) -> Floats:
    return PLATEAU + np.where(done < 0.5, 1.6 * (0.5 - done), 0.08 * (done - 0.5))


def _draw_course(
    trend: Trend, noise: Noise, relative: float, rng: np.random.Generator, evaluations: int, rows: int
) -> Course:
    """Draw a course. The step noise, shared by all rows of an evaluation, is `relative` to the loss; rows add
    their own noise.
    """
    steps = STEPS_APART * np.arange(1, evaluations + 1)
    expected = trend(np.linspace(0, 1, evaluations))
    level = expected + PLATEAU * relative * noise(rng, evaluations)
    hard = rng.exponential(size=rows) - 1
    losses = level[:, None] + 0.8 * hard + 0.05 * rng.normal(size=(evaluations, rows))
    change = float(expected[-1] - expected[evaluations // 2])
    return Course(steps, losses, draw_lengths(rng, rows), expected, change)


TRENDS: dict[str, Trend] = {
    "flat": _stay,
    "settled": _settle,
    "falling": _fall,
    "falling ever more slowly": _fall_slowly,
    "rising": _rise,
    "rising slightly": _rise_slightly,
}
STEP_NOISES: dict[str, tuple[Noise, float]] = {
    "no step noise": (draw_normal, 0.0),
    "0.5% step noise, AR(0.7)": (partial(draw_course, correlation=0.7), 0.005),
    "1% step noise, AR(0.7)": (partial(draw_course, correlation=0.7), 0.01),
    "2% step noise, AR(0.7)": (partial(draw_course, correlation=0.7), 0.02),
    "2% step noise": (draw_normal, 0.02),
    "2% step noise, t2.5": (draw_t25, 0.02),
}

# Called with evaluations and rows.
COURSES: dict[str, CourseShape] = {
    f"{trend}, {noise}": partial(_draw_course, TRENDS[trend], *STEP_NOISES[noise])
    for trend, noise in product(TRENDS, STEP_NOISES)
}


@dataclass(frozen=True)
class LiveMetrics:
    """Accuracy at the steps of two runs on the same rows. truth: mean of second minus first."""

    steps: Ints
    first: Floats
    second: Floats
    truth: float


LiveShape = Callable[[np.random.Generator, int, int, float], LiveMetrics]
STEP_POINTS = 0.015


def _draw_live(
    correlation: float, rng: np.random.Generator, evaluations: int, rows: int, difference: float
) -> LiveMetrics:
    """Draw the accuracies. Rows are easy or hard for both runs; each evaluation deviates by 1.5 points, as
    the weights fluctuate.
    """
    easy = rng.uniform(0.45, 0.9, rows)

    def draw_run(level: float) -> Floats:
        wander = np.clip(draw_course(rng, evaluations, correlation), -4, 4)  # symmetric: the mean is 0
        chance = easy + level + STEP_POINTS * wander[:, None]
        return np.asarray(draw_with(rng, chance).mean(1), np.float64)

    steps = STEPS_APART * np.arange(1, evaluations + 1)
    return LiveMetrics(steps, draw_run(0.0), draw_run(difference), difference)


# Called with evaluations, rows and the true difference (0: none), of at most 0.02 either way.
LIVE: dict[str, LiveShape] = {
    "steps independent": partial(_draw_live, 0.0),
    "steps AR(0.7)": partial(_draw_live, 0.7),
}


@dataclass(frozen=True)
class TrainingLosses:
    """Loss of each training step. truth: whether training diverges; expected: without noise."""

    losses: Floats
    expected: Floats
    truth: bool


DivergingShape = Callable[[np.random.Generator, int], TrainingLosses]


def _draw_training(trend: Trend, diverges: bool, rng: np.random.Generator, steps: int) -> TrainingLosses:
    """Draw losses. Batches vary by a tenth of the loss around a mean that is exactly the expected one."""
    expected = trend(np.linspace(0, 1, steps))
    return TrainingLosses(expected * np.exp(rng.normal(-0.005, 0.1, steps)), expected, diverges)


def _explode(start: float, lasts: float, done: Floats) -> Floats:
    """Fall from 3, then rise to 11: about as bad as guessing among a vocabulary's tokens."""
    fallen = 3 - 0.8 * np.minimum(done, start) / max(start, 0.01)
    return np.asarray(fallen + (11 - fallen) * np.clip((done - start) / lasts, 0, 1), np.float64)


def _spike(done: Floats) -> Floats:
    """Return a course with a temporary spike halfway, which is no divergence."""
    return np.asarray(3 - 0.8 * done + 5 * np.exp(-(((done - 0.5) / 0.02) ** 2)), np.float64)


def _learn(done: Floats) -> Floats:
    return 2.2 + 0.8 * np.exp(-5 * done)


DIVERGING: dict[str, DivergingShape] = {
    "diverges at once": partial(_draw_training, partial(_explode, 0.0, 0.1), True),
    "diverges half way": partial(_draw_training, partial(_explode, 0.5, 0.1), True),
    "creeps up": partial(_draw_training, partial(_explode, 0.2, 0.8), True),
    "diverges at the very end": partial(_draw_training, partial(_explode, 0.9, 0.1), True),
    "spike that heals": partial(_draw_training, _spike, False),
    "learns": partial(_draw_training, _learn, False),
    "flat": partial(_draw_training, _stay, False),
}
