"""The range that is said before a launch, on histories of runs whose truth is known.

A machine is off by a factor of its own, each method by another, runs with like settings by noise; now and
then one shares the machine with other work, and the first of all was predicted with rates that were not yet
known (docs/benchmarks.md, the time estimate). Runs may stop early, between 40% and all of their course.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bench.truths import Rate
from engine.diagnostics.launch.launch_time import NextRun, TimedRun, TimeRange, time_range

MACHINE, METHOD = 0.2, 0.22  # spreads of the logarithm
NOISES = {"a quiet machine": 0.05, "a used one": 0.1}
BUSY, BUSY_TIMES = 0.05, (1.2, 1.4)  # of runs, that other work makes so much longer
FIRST = 0.26  # of what was counted, that the first run on a machine took
STOPPING = {"none stops": 0.0, "a third stop": 0.33, "most stop": 0.8}
EARLIEST = 0.4
COUNTED = 600.0


def history(rng: np.random.Generator, runs: int, noise: float, stopping: float) -> list[TimedRun]:
    """The first run on a machine, some of another method, then so many of one, the last to be foretold."""
    machine = rng.normal(0, MACHINE)
    methods = {"sft lora": machine + rng.normal(0, METHOD), "sft full": machine + rng.normal(0, METHOD)}
    kinds = ["sft full"] * int(rng.integers(1, 4)) + ["sft lora"] * (runs + 1)
    made = []
    for place, kind in enumerate(kinds):
        log = methods[kind] + noise * rng.normal()
        if rng.random() < BUSY:
            log += np.log(rng.uniform(*BUSY_TIMES))
        if place == 0:
            log = np.log(FIRST)
        training = float(rng.uniform(0.45, 0.75))  # the rest is evidence, which every run takes
        course = float(rng.uniform(EARLIEST, 1)) if rng.random() < stopping else 1.0
        taken = COUNTED * float(np.exp(log)) * (1 - training + training * course)
        made.append(TimedRun(COUNTED, taken, kind, "", course, training, stopping > 0))
    return made


def foretold(rng: np.random.Generator, runs: int, noise: float, stopping: float) -> tuple[TimeRange, float]:
    """The range before the last run of a history, and what came of it: times what was counted."""
    *past, last = history(rng, runs, noise, stopping)
    coming = NextRun(last.kind, last.settings, last.training, last.stoppable)
    return time_range(past, coming), last.taken / last.counted


def holds(runs: int, noise: float, stopping: float) -> Callable[[np.random.Generator], bool | None]:
    """Whether the range holds what the run took."""

    def happens(rng: np.random.Generator) -> bool:
        span, taken = foretold(rng, runs, noise, stopping)
        return span.low <= taken <= span.high

    return happens


def twofold(runs: int, noise: float, stopping: float) -> Callable[[np.random.Generator], bool | None]:
    """Whether the range is at most twofold."""

    def happens(rng: np.random.Generator) -> bool:
        span, _ = foretold(rng, runs, noise, stopping)
        return span.high <= 2.0001 * span.low

    return happens


CELLS = [
    (f"{runs} runs, {where}, {which}", runs, noise, stopping)
    for runs in (3, 6, 20)
    for where, noise in NOISES.items()
    for which, stopping in STOPPING.items()
]
RATES = [
    *(Rate("launch_time", f"{name}: holds", 0.9, 0.9, 1.0, holds(*cell), 1_000) for name, *cell in CELLS),
    *(Rate("launch_time", f"{name}: twofold", 1.0, 1.0, 1.0, twofold(*cell), 500) for name, *cell in CELLS),
]
