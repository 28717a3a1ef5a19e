"""Backward transfer over a sequence of tasks: coverage of its interval."""

from __future__ import annotations

from functools import partial

import numpy as np

from bench.made.truth_rows import heavy, lengths
from bench.truths import Rate
from engine.transfer.effects import Task, compute_backward_transfer

TRUE = 0.05  # share of the base model's loss, gained again on every earlier task


def covers(rng: np.random.Generator, tasks: int, rows: int) -> bool | None:
    """Whether the interval of the backward transfer covers the truth for this number of earlier tasks and
    rows per task; None without an interval.
    """
    made = []
    for place in range(tasks):
        base = lengths(rng, rows) * np.exp(rng.normal(0.7, 0.3, rows))
        then = base * 0.8
        made.append(Task(str(place), base, then, then - base * (TRUE + heavy(rng, rows, spread=0.15))))
    interval = compute_backward_transfer(made)
    return None if interval.low is None else bool(interval.low <= TRUE <= interval.high)


RATES = [
    Rate(
        "transfer", f"backward transfer, {tasks} tasks of {rows} rows: covers", 0.95, 0.93, 0.985,
        partial(covers, tasks=tasks, rows=rows), 1_000,
    )
    for tasks, rows in ((1, 10), (3, 10), (3, 50))
]  # fmt: skip
