"""Backward transfer over a sequence of tasks: what later training did to what earlier training had reached.

BWT = mean over i < T of (R_T,i - R_i,i) (Lopez-Paz and Ranzato 2017), where R_j,i is the relative gain on the
rows of task i after run j: both over the base model's loss on these rows, so that below 0 is forgetting. Rows
of different tasks are independent, so each task is resampled by itself. Pure: arrays in, a document out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from engine.diagnostics.statistics import ratio_interval

RESAMPLES = 10_000
CHUNK = 2_000_000
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Task:
    """One earlier task: the summed losses of its rows under the base model, after its own training (`then`),
    and after the whole sequence (`now`)."""

    name: str
    base: ArrayLike
    then: ArrayLike
    now: ArrayLike


def backward_transfer(tasks: Sequence[Task]) -> dict[str, Any]:
    """{value, low, high, n (rows), tasks: [{name, value, low, high, n}]}; shares of the base model's loss.

    Raises ValueError for no task, no rows, or a loss that is not finite.
    """
    if not tasks:
        raise ValueError("a sequence has at least two tasks")
    terms, draws, rows = [], np.zeros(RESAMPLES), 0
    for number, task in enumerate(tasks):
        base, then, now = (np.asarray(side, np.float64) for side in (task.base, task.then, task.now))
        top, bottom = then - now, np.maximum(base, 1e-12)
        terms.append({"name": task.name} | ratio_interval(top, bottom).to_dict())
        draws += _drawn(top, bottom, number) / len(tasks)
        rows += len(base)
    value = float(np.mean([term["value"] for term in terms]))
    alone = any(term["low"] is None for term in terms)  # a task of one row
    low, high = (None, None) if alone else (float(q) for q in np.quantile(draws, [0.025, 0.975]))
    return {"value": value, "low": low, "high": high, "n": rows, "tasks": terms}


def _drawn(top: Floats, bottom: Floats, seed: int) -> Floats:
    random, n = np.random.default_rng([seed, 5]), len(top)
    at_once = max(1, CHUNK // n)
    parts = []
    for start in range(0, RESAMPLES, at_once):
        rows = random.integers(0, n, (min(at_once, RESAMPLES - start), n))
        parts.append(top[rows].sum(axis=1) / bottom[rows].sum(axis=1))
    return np.concatenate(parts)
