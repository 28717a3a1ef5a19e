"""Predicted memory and time of a run, corrected by the measurements of runs on this device.

The logarithm of measured over predicted is assumed normal with a prior: few runs move the factor little
and leave its interval wide. Runs with other settings, methods and tasks have less weight. Pure functions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import special

# Correction factor for the next prediction, and its remaining uncertainty, from past measurements.
#
# The logarithm of measured over predicted is assumed normal, with a prior on its mean (predictions are right)
# and on its spread (as found by benchmarks). Runs of another kind (method and task) have less weight. Few
# runs move the factor little and leave the interval wide; many dominate the prior. Predictions must be
# uncorrected ones, or the correction would feed on itself.

OTHER_KIND = 0.3  # weight of a run of another kind


@dataclass(frozen=True)
class Prior:
    """Prior belief: the `spread` of log(measured / predicted) with `degrees` of freedom, and a mean of 0 with
    the weight of `runs` runs.
    """

    spread: float
    degrees: float
    runs: float


# 53 runs on a CPU (bench/costs/memory.py): 48 within 15% of the prediction, all within 25%.
MEMORY = Prior(spread=0.08, degrees=8, runs=1)
# Steps of twelve kinds of run (bench/costs/time.py): the median of measured over predicted is 1.10, with a
# log spread of 0.22, and of 0.48 for the first prediction on a machine, before rates were known well. So a
# first prediction, whose own mean is unknown too, has a spread of 0.25 * sqrt(1 + 1 / 0.3) = 0.52.
TIME = Prior(spread=0.25, degrees=10, runs=0.3)


@dataclass(frozen=True)
class MeasuredPrediction:
    """Prediction and measurement of one run, in the same unit, and its kind."""

    predicted: float
    measured: float
    kind: str


@dataclass(frozen=True)
class Correction:
    """Measured over predicted for the next run: `factor`, with its prediction interval.

    n: runs that it is based on; same: how many of them are of the same kind.
    """

    factor: float
    low: float
    high: float
    n: int
    same: int
    confidence: float

    @property
    def factors(self) -> tuple[float, float, float]:
        """(low, factor, high)."""
        return self.low, self.factor, self.high

    def sentence(self, what: str) -> str:
        """Describe what the interval of `what` is based on."""
        if not self.n:
            return f"No run on this device has measured its {what} yet; the interval is that of benchmarks."
        runs = f"{self.n} run{'s' * (self.n != 1)} on this device"
        return f"Corrected by {runs} ({self.same} with this method and task): times {self.factor:.2f}."


def correct_prediction(
    pairs: Iterable[MeasuredPrediction], kind: str, prior: Prior, *, confidence: float = 0.95
) -> Correction:
    """Compute the correction for a run of that kind, from runs on the same device.

    Pairs with a number that is not above 0 are ignored.
    """
    used = [
        p for p in pairs if p.predicted > 0 and p.measured > 0 and math.isfinite(p.measured / p.predicted)
    ]
    logs = [(math.log(p.measured / p.predicted), 1.0 if p.kind == kind else OTHER_KIND) for p in used]
    weight = sum(w for _, w in logs)
    mean = sum(w * y for y, w in logs) / (weight + prior.runs)
    squares = sum(w * (y - mean) ** 2 for y, w in logs) + prior.runs * mean**2
    degrees = prior.degrees + weight
    spread = math.sqrt((prior.degrees * prior.spread**2 + squares) / degrees)
    width = float(special.stdtrit(degrees, (1 + confidence) / 2)) * spread
    half = width * math.sqrt(1 + 1 / (weight + prior.runs))
    same = sum(p.kind == kind for p in used)
    low, factor, high = (math.exp(mean + shift) for shift in (-half, 0.0, half))
    return Correction(factor, low, high, len(used), same, confidence)


# How long a run will take, from the times of runs on this device: a range that covers nine of ten.
#
# It is for the whole course: what early stopping may save depends on the data, and is reported separately.
# The logarithm of the whole course's time over the prediction is assumed normal around a mean specific to the
# device, with less weight for runs with other settings and hardly any for outliers (the first run on a
# machine, whose rates were not yet known). Only the training part gets shorter by stopping; the evaluation is
# run in any case. If steps were timed before, or from MIN_RUNS runs of a method on, no end of the range is
# further from the middle than MAX_RANGE_FACTOR: if such a range doesn't cover nine of ten, the sentence says
# how many it does.

COVERAGE_TARGET = 0.96  # share of runs to cover: 90%, plus what small samples and outliers lose
COVERAGE_REPORTED = 0.9
MAX_RANGE_FACTOR = 1.5  # from the middle to an end, once steps were timed or there are MIN_RUNS of the method
MIN_RUNS = 3
OTHER_SETTINGS, OTHER_KIND_OF_RUN = 0.5, 0.15  # weights of runs
NOISE, NOISE_DEGREES = 0.1, 6.0  # log spread at the same settings, its degrees (docs/benchmarks.md)
TAILS = 3.0  # degrees of freedom in the weights of outliers
# Whole runs over the prediction from timed steps (bench/costs/time.py). For similar steps the spread is a
# guess between that and the one without timed steps.
TIMED = Prior(spread=0.19, degrees=10, runs=3)
TIMED_SIMILAR = Prior(spread=0.25, degrees=10, runs=3)
StepsTimed = Literal["none", "own", "alike"]
PRIORS: dict[StepsTimed, Prior] = {"none": TIME, "own": TIMED, "alike": TIMED_SIMILAR}


@dataclass(frozen=True)
class TimedRun:
    """Seconds predicted for the whole course (`counted`), and seconds taken.

    `kind`: method and task; `settings`: what else affects the speed. course: share of the planned steps
    that were taken. training: share of the prediction that is proportional to the course.
    """

    counted: float
    taken: float
    kind: str
    settings: str = ""
    course: float = 1.0
    training: float = 0.0

    @property
    def whole(self) -> float:
        """Seconds that the whole course would have taken."""
        return self.taken / compute_time_share(self.course, self.training)


@dataclass(frozen=True)
class UpcomingRun:
    """The run to predict, as in `TimedRun`. steps_timed: none, its own, or similar ones of its model; past
    runs have timed steps if this is not "none", and otherwise have not.
    """

    kind: str
    settings: str = ""
    steps_timed: StepsTimed = "none"


@dataclass(frozen=True)
class TimeRange(Correction):
    """Time range. `confidence` is the share of runs that it covers. stopped: runs of the same kind that ended
    early.
    """

    stopped: int = 0

    def sentence(self, what: str) -> str:
        """Describe what the range is based on."""
        early = f" {self.stopped} of {self.same} ended early." if self.stopped else ""
        held = (
            f" The range covers {self.confidence:.0%} of such runs."
            if self.confidence < COVERAGE_REPORTED
            else ""
        )
        if not self.n:
            return f"No run on this device can be compared yet; the range is that of benchmarks.{held}"
        return super().sentence(what) + early + held


def compute_time_share(course: float, training: float) -> float:
    """Return the share of a whole course's time that a part of it takes."""
    return 1 - training + training * course


def predict_time_range(past: Iterable[TimedRun], coming: UpcomingRun) -> TimeRange:
    """Predict the ratio of time taken to time predicted for the coming run. Runs with a number that is not
    above 0 are ignored.
    """
    runs = [
        run
        for run in past
        if min(run.counted, run.taken, run.course) > 0 and math.isfinite(run.taken / run.counted)
    ]
    same = [run for run in runs if run.kind == coming.kind]
    prior = PRIORS[coming.steps_timed]
    if not runs:  # as found by benchmarks
        first = correct_prediction([], coming.kind, prior)
        middle, half, held = 0.0, math.log(first.high / first.factor), first.confidence
        degrees = prior.degrees
    else:
        middle, scale, degrees = _estimate_log_error(runs, coming, prior)
        half, held = float(special.stdtrit(degrees, (1 + COVERAGE_TARGET) / 2)) * scale, COVERAGE_TARGET
    if (coming.steps_timed == "own" or len(same) >= MIN_RUNS) and half > math.log(MAX_RANGE_FACTOR):
        level = float(special.stdtrit(degrees, (1 + held) / 2)) * math.log(MAX_RANGE_FACTOR) / half
        half, held = math.log(MAX_RANGE_FACTOR), 2 * float(special.stdtr(degrees, level)) - 1
    low, factor, high = (math.exp(middle + shift) for shift in (-half, 0.0, half))
    stopped = sum(run.course < 1 for run in same)
    return TimeRange(factor, low, high, len(runs), len(same), held, stopped)


def _estimate_log_error(
    runs: Sequence[TimedRun], coming: UpcomingRun, prior: Prior
) -> tuple[float, float, float]:
    """Return mean, scale and degrees of freedom of log(whole course taken / counted) for the coming run."""
    logs = np.array([math.log(run.whole / run.counted) for run in runs])
    closeness = np.array([_weigh_similarity(run, coming) for run in runs])
    order = np.argsort(logs)
    halfway = np.cumsum(closeness[order]) >= closeness.sum() / 2
    mean, spread = float(logs[order][halfway][0]), NOISE
    kept = closeness
    trust = prior.runs * NOISE**2 / prior.spread**2  # weight of the prior mean of 0, in runs
    for _ in range(30):
        far = np.square((logs - mean) / spread)
        kept = closeness * np.minimum(1.0, (TAILS + 1) / (TAILS + far))
        mean = float(kept @ logs) / (kept.sum() + trust)
        squares = float(kept @ np.square(logs - mean))
        spread = math.sqrt((NOISE_DEGREES * NOISE**2 + squares) / (NOISE_DEGREES + kept.sum()))
    unsure = _compute_mean_error(float(kept.sum()), spread, trust, prior)
    return mean, math.hypot(spread, unsure), NOISE_DEGREES + float(kept.sum())


def _compute_mean_error(weight: float, spread: float, trust: float, prior: Prior) -> float:
    """Return the standard error of the mean; with less than one run's worth of evidence, that of a first
    prediction.
    """
    first = prior.spread * math.sqrt(1 + 1 / prior.runs) * math.exp(-weight)
    return math.hypot(spread / math.sqrt(weight + trust), first)


def _weigh_similarity(run: TimedRun, coming: UpcomingRun) -> float:
    if run.kind != coming.kind:
        return OTHER_KIND_OF_RUN
    return 1.0 if run.settings == coming.settings else OTHER_SETTINGS
