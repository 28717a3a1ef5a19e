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
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

from engine.diagnostics.course.validation import Validation
from engine.diagnostics.statistics.statistics import Interval, ratio_interval

USUAL = 0.005  # of the loss
WEIGHT = 4.0  # degrees of freedom
TABLED = (
    4,
    6,
    9,
    14,
    20,
    40,
)  # degrees at which the range is asked for, which takes a tenth of a second each
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

    def beyond_all(self, steps: int) -> float:
        """The same of any of so many validations above any earlier one (Tukey's studentised range, of which
        the later one is the upper end in half of the cases)."""
        degrees = max(tabled for tabled in TABLED if tabled <= self.degrees)
        return self._reach(_range_quantile(steps, degrees) / math.sqrt(2))

    def _reach(self, quantile: float) -> float:
        return quantile * math.sqrt(2) * self.sigma


def mean_loss(validation: Validation) -> float:
    """The loss a token; not a number where one row's is not."""
    return float(np.sum(validation["loss_sums"]) / np.sum(validation["tokens"]))


def mean_losses(validations: Sequence[Validation]) -> Floats:
    """Of each of them."""
    return np.array([mean_loss(validation) for validation in validations])


@cache
def _range_quantile(steps: int, degrees: int) -> float:
    from scipy import stats  # here: half a second, and the screens only draw

    return float(stats.studentized_range.ppf(0.95, max(2, steps), degrees))


def of_course(losses: Floats) -> StepNoise:
    """From the mean losses [validations], which are finite."""
    best = int(losses.argmin())
    falling, above = _residuals(losses[: best + 1][::-1]), _residuals(losses[best:])
    squares = (falling[0] + above[0]) / (1 - DESCENT / math.sqrt(len(losses)))
    free = falling[1] + above[1]
    usual = (USUAL * abs(float(losses[best]))) ** 2
    return StepNoise(math.sqrt((WEIGHT * usual + squares) / (WEIGHT + free)), WEIGHT + free)


def _residuals(rising: Floats) -> tuple[float, int]:
    """Sum of squares about the rising course that fits best, and values less levels of that course (its
    expected sum, in units of the variance: Meyer and Woodroofe 2000)."""
    fit = optimize.isotonic_regression(rising)
    return float(np.square(rising - fit.x).sum()), len(rising) - (len(fit.blocks) - 1)


def rise(before: Validation, after: Validation, confidence: float, reach: float = 0.0) -> Interval:
    """Rise of the loss a token from one validation to another, on the same rows in the same order.

    `reach`, the noise of steps, is added to the limits over rows in squares (as Zou and Donner 2008 put
    limits of two estimates together). Raises ValueError where the rows differ.
    """
    if not np.array_equal(np.asarray(before["row_ids"]), np.asarray(after["row_ids"])):
        raise ValueError(f"Validations at steps {before['step']} and {after['step']} are of different rows.")
    change = np.asarray(after["loss_sums"], np.float64) - np.asarray(before["loss_sums"], np.float64)
    rows = ratio_interval(change, before["tokens"], confidence=confidence)
    if rows.low is None or rows.high is None or not reach:
        return rows
    low, high = math.hypot(rows.value - rows.low, reach), math.hypot(rows.high - rows.value, reach)
    return Interval(rows.value, rows.value - low, rows.value + high, rows.n)
