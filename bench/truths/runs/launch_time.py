"""The range that is said before a launch, on histories of runs whose truth is known.

A machine is off by a factor of its own, each method by another, runs with like settings by noise; now and
then one shares the machine with other work that nobody noticed. Where no step was timed before, the first run
of all was predicted with rates that were not yet known, and methods differ as in docs/benchmarks.md; where
steps were timed, the machine and the methods are off by less. Runs may stop early, between 40% and all of
their course, and are judged by what the whole course would have taken.
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
    """How far off counts are: spreads of the logarithm over machines and methods, and the first run."""

    machine: float
    method: float
    first: float | None
    steps_timed: StepsTimed


COUNTED_ALONE = Machines(0.2, 0.22, 0.26, steps_timed="none")
STEPS_TIMED = Machines(0.1, 0.1, None, steps_timed="own")
NOISES = {"a quiet machine": 0.05, "a used one": 0.1}
BUSY, BUSY_TIMES = 0.05, (1.2, 1.4)  # of runs, that other work makes so much longer
STOPPING = {"none stops": 0.0, "a third stop": 0.33, "most stop": 0.8}
EARLIEST = 0.4
COUNTED = 600.0


@dataclass(frozen=True)
class Cell:
    """Histories of so many runs of a method, whose noise and share of early stops are known."""

    machines: Machines
    runs: int
    noise: float
    stopping: float

    def history(self, rng: np.random.Generator) -> list[TimedRun]:
        """The first run on a machine, some of another method, then those of one, the last to be foretold."""
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
            training = float(rng.uniform(0.45, 0.75))  # the rest is evidence, which every run takes
            course = float(rng.uniform(EARLIEST, 1)) if rng.random() < self.stopping else 1.0
            taken = COUNTED * float(np.exp(log)) * (1 - training + training * course)
            made.append(TimedRun(COUNTED, taken, kind, "", course, training))
        return made

    def foretold(self, rng: np.random.Generator) -> tuple[TimeRange, float]:
        """The range before the last run of a history, and what came of it: times what was counted."""
        *past, last = self.history(rng)
        span = predict_time_range(past, UpcomingRun(last.kind, last.settings, self.machines.steps_timed))
        return span, last.whole / last.counted

    @property
    def holds(self) -> Callable[[np.random.Generator], bool | None]:
        """Whether the range holds what the run took."""

        def happens(rng: np.random.Generator) -> bool:
            span, taken = self.foretold(rng)
            return span.low <= taken <= span.high

        return happens

    @property
    def narrow(self) -> Callable[[np.random.Generator], bool | None]:
        """Whether no end of the range is further from its middle than is promised."""

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
