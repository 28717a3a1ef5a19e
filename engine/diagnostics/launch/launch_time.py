"""How long a run will take, from what runs on this device took: a range that holds nine of ten.

Two things are unknown. One is how far the count is off: the logarithm of what the whole course would have
taken over what was counted is taken as normal around a mean of its own for each device, with runs of other
settings counting for less and runs that lie far off (the first on a machine, whose rates were not yet known;
one beside other work) hardly at all. The other is how much of its course a run takes, where early stopping
may end it: of that the courses of earlier runs are taken, beside a guess that loses weight with each. Only
what belongs to training gets shorter by it; evidence is taken in any case. Both together give a distribution,
and of it the shortest range that holds the wanted share. From three runs of a method on, the range is at most
twofold: where no such range holds nine of ten, the sentence says how many it does. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from engine.diagnostics.statistics.correction import TIME, Correction, correct

WANTED = 0.96  # share of runs that the range is to hold: 90%, and what small samples and odd runs lose
PROMISED = 0.9
WIDEST = 2.0  # times from one end to the other, once there are ENOUGH runs of the method
ENOUGH = 3
OTHER_SETTINGS, OTHER_KIND = 0.5, 0.15  # weight of a run
NOISE, NOISE_DEGREES = 0.1, 6.0  # of runs with like settings (docs/benchmarks.md), and how sure that is
MEAN_WEIGHT = 0.05  # runs that a mean of 0 weighs as much as
TAILS = 3.0  # degrees of freedom of the weights of runs that lie far off
STOPS, STOPS_RUNS = 0.33, 3.0  # share of runs that are stopped before any was seen, and how many it weighs as
STOPPED_AT = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)  # of their course, all alike; patience lets none end sooner
NEAR = (-0.1, 0.0, 0.1)  # a run stops near where others did
LEVELS = 401  # of the distribution of the count's error

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class TimedRun:
    """Seconds counted for the whole course, and taken. `kind`: method and task; `settings`: what else changes
    the speed. course: share of the planned steps that were taken. training: share of what was counted that
    goes with the course. stoppable: whether something may have ended it early."""

    counted: float
    taken: float
    kind: str
    settings: str = ""
    course: float = 1.0
    training: float = 0.0
    stoppable: bool = False

    @property
    def whole(self) -> float:
        """Seconds that the whole course would have taken."""
        return self.taken / shortened(self.course, self.training)


@dataclass(frozen=True)
class NextRun:
    """The run that is asked about, as `TimedRun`."""

    kind: str
    settings: str = ""
    training: float = 0.0
    stoppable: bool = False


@dataclass(frozen=True)
class TimeRange(Correction):
    """`confidence` is the share of runs that the range holds. stopped: of the runs of the same kind."""

    stopped: int = 0

    def sentence(self, what: str) -> str:
        """What the range rests on."""
        if not self.n:
            return super().sentence(what)
        early = f"; {self.stopped} of {self.same} ended early" if self.stopped else ""
        held = f" The range holds {self.confidence:.0%} of such runs." if self.confidence < PROMISED else ""
        return super().sentence(what)[:-1] + f"{early}.{held}"


def shortened(course: float, training: float) -> float:
    """Share of the time of a whole course that a part of it takes."""
    return 1 - training + training * course


def time_range(past: Iterable[TimedRun], coming: NextRun) -> TimeRange:
    """Taken over counted for the coming run. Runs with a number that is not above 0 are left out."""
    runs = [
        run
        for run in past
        if min(run.counted, run.taken, run.course) > 0 and math.isfinite(run.taken / run.counted)
    ]
    same = [run for run in runs if run.kind == coming.kind]
    if not runs:  # as benchmarks found it
        first = correct([], coming.kind, TIME)
        return TimeRange(first.factor, first.low, first.high, 0, 0, first.confidence)
    logs = _error(runs, coming)
    courses = _courses(same, coming)
    points = np.concatenate([logs + math.log(shortened(course, coming.training)) for course, _ in courses])
    weights = np.concatenate([np.full(len(logs), weight / len(logs)) for _, weight in courses])
    order = np.argsort(points, kind="stable")
    points, mass = points[order], np.cumsum(weights[order])
    low, high = _shortest(points, mass, WANTED)
    held = WANTED
    if len(same) >= ENOUGH and high - low > math.log(WIDEST):
        low, high, held = _fullest(points, mass, math.log(WIDEST))
    middle = float(np.clip(points[np.searchsorted(mass, 0.5)], low, high))
    stopped = sum(run.course < 1 for run in same)
    factor, least, most = (math.exp(value) for value in (middle, low, high))
    return TimeRange(factor, least, most, len(runs), len(same), held, stopped)


def _error(runs: Sequence[TimedRun], coming: NextRun) -> Floats:
    """Levels of the predictive distribution of log(whole course taken / counted), evenly likely."""
    logs = np.array([math.log(run.whole / run.counted) for run in runs])
    closeness = np.array([_closeness(run, coming) for run in runs])
    order = np.argsort(logs)
    halfway = np.cumsum(closeness[order]) >= closeness.sum() / 2
    mean, spread = float(logs[order][halfway][0]), NOISE
    kept = closeness
    for _ in range(30):
        far = np.square((logs - mean) / spread)
        kept = closeness * np.minimum(1.0, (TAILS + 1) / (TAILS + far))
        mean = float(kept @ logs) / (kept.sum() + MEAN_WEIGHT)
        squares = float(kept @ np.square(logs - mean))
        spread = math.sqrt((NOISE_DEGREES * NOISE**2 + squares) / (NOISE_DEGREES + kept.sum()))
    levels = special.stdtrit(NOISE_DEGREES + kept.sum(), (np.arange(LEVELS) + 0.5) / LEVELS)
    return np.asarray(mean + levels * math.hypot(spread, _unsure(kept, spread)), np.float64)


def _unsure(kept: Floats, spread: float) -> float:
    """Standard error of the mean; with less than one run's worth of evidence that of a first prediction."""
    weight = float(kept.sum())
    first = TIME.spread * math.sqrt(1 + 1 / TIME.runs) * math.exp(-weight)
    return math.hypot(spread / math.sqrt(weight + MEAN_WEIGHT), first)


def _closeness(run: TimedRun, coming: NextRun) -> float:
    if run.kind != coming.kind:
        return OTHER_KIND
    return 1.0 if run.settings == coming.settings else OTHER_SETTINGS


def _courses(same: Sequence[TimedRun], coming: NextRun) -> list[tuple[float, float]]:
    """(course, how likely) of the coming run."""
    if not coming.stoppable:
        return [(1.0, 1.0)]
    seen = [run.course for run in same if run.stoppable]
    early = [course for course in seen if course < 1]
    stops = (STOPS * STOPS_RUNS + len(early)) / (STOPS_RUNS + len(seen))
    guess = stops * STOPS_RUNS / (STOPS_RUNS + len(early)) / len(STOPPED_AT)
    courses = [(1.0, 1 - stops), *((course, guess) for course in STOPPED_AT)]
    each = stops / (STOPS_RUNS + len(early)) / len(NEAR)
    return courses + [(min(1.0, max(0.05, course + step)), each) for course in early for step in NEAR]


def _shortest(points: Floats, mass: Floats, wanted: float) -> tuple[float, float]:
    """The shortest range that holds the wanted share."""
    before = np.concatenate([[0.0], mass[:-1]])
    last = np.searchsorted(mass, before + wanted * mass[-1])
    starts = np.flatnonzero(last < len(points))
    lengths = points[last[starts]] - points[starts]
    best = int(starts[lengths.argmin()])
    return float(points[best]), float(points[last[best]])


def _fullest(points: Floats, mass: Floats, length: float) -> tuple[float, float, float]:
    """The range of that length which holds most, and the share that it holds."""
    before = np.concatenate([[0.0], mass[:-1]])
    last = np.searchsorted(points, points + length, side="right") - 1
    held = (mass[last] - before) / mass[-1]
    best = int(held.argmax())
    middle = (points[best] + points[last[best]]) / 2
    return float(middle - length / 2), float(middle + length / 2), float(held[best])
