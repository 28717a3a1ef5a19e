"""The time range estimated before a launch, on histories of runs whose truth is known.

A machine is off by its own factor, each method by another, runs with similar settings by noise; now and
then a run shares the machine with other work that nobody noticed. If no step was timed before, the first
run of all was predicted with unknown rates, and methods differ as in docs/benchmarks.md; if steps were
timed, machine and methods are off by less. Runs may stop early, between 40% and all of their course, and
are compared with the time of the whole course.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bench.truths import Rate
from engine.evaluation.statistics.cost_prediction import (
    MAX_RANGE_FACTOR,
    StepsTimed,
    TimedRun,
    TimeRange,
    UpcomingRun,
    predict_time_range,
)


@dataclass(frozen=True)
class Machines:
    """Errors of the counted times: standard deviations of the logarithm across machines and methods, and the
    factor of the first run (None: like the others).
    """

    machine: float
    method: float
    first: float | None
    steps_timed: StepsTimed


COUNTED_ALONE = Machines(0.2, 0.22, 0.26, steps_timed="none")
STEPS_TIMED = Machines(0.1, 0.1, None, steps_timed="own")
NOISES = {"a quiet machine": 0.05, "a used one": 0.1}
BUSY, BUSY_TIMES = 0.05, (1.2, 1.4)  # share of runs with other work, and their slowdown
STOPPING = {"none stops": 0.0, "a third stop": 0.33, "most stop": 0.8}
EARLIEST = 0.4
COUNTED = 600.0


@dataclass(frozen=True)
class Cell:
    """Histories of this number of runs of a method, with known noise and share of early stops."""

    machines: Machines
    runs: int
    noise: float
    stopping: float

    def history(self, rng: np.random.Generator) -> list[TimedRun]:
        """Draw the first run on a machine, some runs of another method, then those of one method, the last to
        be predicted.
        """
        machines, machine = self.machines, rng.normal(0, self.machines.machine)
        methods = {name: machine + rng.normal(0, machines.method) for name in ("sft lora", "sft full")}
        others = int(rng.integers(1, 4)) if self.runs or machines.first else 0
        kinds = ["sft full"] * others + ["sft lora"] * (self.runs + 1)
        made = []
        for place, kind in enumerate(kinds):
            log = methods[kind] + self.noise * rng.normal()
            if rng.random() < BUSY:
                log += np.log(rng.uniform(*BUSY_TIMES))
            if place == 0 and machines.first:
                log = np.log(machines.first)
            training = float(rng.uniform(0.45, 0.75))  # the rest is evidence, which every run has
            course = float(rng.uniform(EARLIEST, 1)) if rng.random() < self.stopping else 1.0
            taken = COUNTED * float(np.exp(log)) * (1 - training + training * course)
            made.append(TimedRun(COUNTED, taken, kind, "", course, training))
        return made

    def foretold(self, rng: np.random.Generator) -> tuple[TimeRange, float]:
        """Return the range predicted for the last run of a history, and its actual time relative to the
        counted one.
        """
        *past, last = self.history(rng)
        span = predict_time_range(past, UpcomingRun(last.kind, last.settings, self.machines.steps_timed))
        return span, last.whole / last.counted

    @property
    def holds(self) -> Callable[[np.random.Generator], bool | None]:
        """Return the event that the range contains the run's time."""

        def happens(rng: np.random.Generator) -> bool:
            span, taken = self.foretold(rng)
            return span.low <= taken <= span.high

        return happens

    @property
    def narrow(self) -> Callable[[np.random.Generator], bool | None]:
        """Return the event that no end of the range is further from its middle than promised."""

        def happens(rng: np.random.Generator) -> bool:
            span, _ = self.foretold(rng)
            return max(span.high / span.factor, span.factor / span.low) <= 1.0001 * MAX_RANGE_FACTOR

        return happens


CELLS = {
    f"{runs} runs, {how}, {where}, {which}": Cell(machines, runs, noise, stopping)
    for how, machines, counts in (
        ("counted alone", COUNTED_ALONE, (3, 6, 20)),
        ("steps timed", STEPS_TIMED, (0, 1, 3, 20)),
    )
    for runs in counts
    for where, noise in NOISES.items()
    for which, stopping in STOPPING.items()
}
RATES = [
    rate
    for name, cell in CELLS.items()
    for rate in (
        Rate("launch_time", f"{name}: holds", 0.9, 0.9, 1.0, cell.holds, 1_000),
        Rate("launch_time", f"{name}: narrow", 1.0, 1.0, 1.0, cell.narrow, 500),
    )
]
