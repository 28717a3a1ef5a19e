"""By how much validation loss moves from step to step for no reason that lasts, and whether a rise is beyond
it.

Rows that two validations share can't tell this: they say how unlike the two models are, not whether the next
model will be like the later one. The course itself shows it. A course that overfits falls to its best step
and rises after it; what such a course does not explain (the residuals of isotonic regression either way) is
noise of steps. A short or smooth course shows little of it, so that it is taken together with a noise of
USUAL of the loss, which counts as much as WEIGHT residuals would. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

from engine.diagnostics.course.validation import Validation
from engine.diagnostics.statistics.statistics import Interval, ratio_interval

USUAL = 0.005  # of the loss
WEIGHT = 4.0  # degrees of freedom
ROUGH_USUAL, ROUGH_WEIGHT, ROUGH_MOST = 0.016, 2.0, 3.0  # of a rise: of the loss; see `of_rough`
# Of a second difference, where the noise has a variance of 1: nearer to that of noise that lasts
# (autoregressive, 0.7: 1.4) than of noise that doesn't (6).
CHANGE_VARIANCE = 1.8
DESCENT = 0.7  # the best step is the luckiest, by which residuals are too small: 1 - 0.7/sqrt(steps) of them

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class StepNoise:
    """`sigma` (in the unit of the loss) of one validation, known from so many degrees of freedom."""

    sigma: float
    degrees: float

    def beyond_one(self, steps: int) -> float:
        """How far the last of so many validations lies above the lowest by noise alone in 2.5 of 100 courses
        at most (Bonferroni over the steps that could have been the lowest)."""
        return self._reach(float(special.stdtrit(self.degrees, 1 - 0.025 / max(1, steps - 1))))

    def _reach(self, quantile: float) -> float:
        return quantile * math.sqrt(2) * self.sigma


def mean_loss(validation: Validation) -> float:
    """The loss a token; not a number where one row's is not."""
    return float(np.sum(validation["loss_sums"]) / np.sum(validation["tokens"]))


def mean_losses(validations: Sequence[Validation]) -> Floats:
    """Of each of them."""
    return np.array([mean_loss(validation) for validation in validations])


def of_course(losses: Floats) -> StepNoise:
    """From the mean losses [validations], which are finite."""
    best = int(losses.argmin())
    falling, above = _residuals(losses[: best + 1][::-1]), _residuals(losses[best:])
    squares = (falling[0] + above[0]) / (1 - DESCENT / math.sqrt(len(losses)))
    free = falling[1] + above[1]
    usual = (USUAL * abs(float(losses[best]))) ** 2
    return StepNoise(math.sqrt((WEIGHT * usual + squares) / (WEIGHT + free)), WEIGHT + free)


def of_rise(losses: Floats) -> StepNoise:
    """The noise that a rise after the best step is held against: no less than that rise is rough.

    Levels that may rise explain most of a few noisy values, and noise that lasts over steps looks like a
    trend: with a noise of 2%, flat courses of 5 and 10 validations were called overfitting in 24 and 9 of
    100, and in 22 and 23 where it is 0.7 of the noise before. What lies before the best step is a turn, and
    says nothing of noise.
    """
    fitted, best = of_course(losses), int(losses.argmin())
    rough = of_rough(losses[best:], ROUGH_USUAL * abs(float(losses[best])))
    return StepNoise(max(fitted.sigma, rough.sigma), rough.degrees)


def of_rough(values: Floats, usual: float) -> StepNoise:
    """From how much the slope changes (second differences), whatever the trend; taken together with a noise
    of `usual`, in the unit of the values, which counts as much as ROUGH_WEIGHT of them, and no more than
    ROUGH_MOST times it: a loss that runs away is rough, too."""
    changes = np.diff(values, 2)
    weight = ROUGH_WEIGHT + len(changes)
    squares = ROUGH_WEIGHT * usual * usual + float(np.square(changes).sum()) / CHANGE_VARIANCE
    return StepNoise(min(math.sqrt(squares / weight), ROUGH_MOST * usual), weight + 2)


def with_reach(rows: Interval, reach: float) -> Interval:
    """An interval over rows with `reach`, the noise of steps, added to its limits in squares (as Zou and
    Donner 2008 put limits of two estimates together)."""
    if rows.low is None or rows.high is None or not reach:
        return rows
    low, high = math.hypot(rows.value - rows.low, reach), math.hypot(rows.high - rows.value, reach)
    return Interval(rows.value, rows.value - low, rows.value + high, rows.n)


def _residuals(rising: Floats) -> tuple[float, int]:
    """Sum of squares about the rising course that fits best, and values less levels of that course (its
    expected sum, in units of the variance: Meyer and Woodroofe 2000)."""
    fit = optimize.isotonic_regression(rising)
    return float(np.square(rising - fit.x).sum()), len(rising) - (len(fit.blocks) - 1)


def rise(before: Validation, after: Validation, confidence: float, reach: float = 0.0) -> Interval:
    """Rise of the loss a token from one validation to another, on the same rows in the same order.

    reach: of the noise of steps (`with_reach`). Raises ValueError where the rows differ.
    """
    if not np.array_equal(np.asarray(before["row_ids"]), np.asarray(after["row_ids"])):
        raise ValueError(f"Validations at steps {before['step']} and {after['step']} are of different rows.")
    change = np.asarray(after["loss_sums"], np.float64) - np.asarray(before["loss_sums"], np.float64)
    rows = ratio_interval(change, before["tokens"], confidence=confidence)
    return with_reach(rows, reach)
