"""Backward transfer over a sequence of tasks: what later training did to what earlier training had reached.

BWT = mean over i < T of (R_T,i - R_i,i) (Lopez-Paz and Ranzato 2017), where R_j,i is the relative gain on the
rows of task i after run j: both over the base model's loss on these rows, so that below 0 is forgetting. Rows
of different tasks are independent, so the limits of the mean follow from those of each task (Zou and Donner
2008), which are of its rows alone. Pure: arrays in, a document out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from engine.diagnostics.statistics import combined
from engine.diagnostics.statistics.statistics import ratio_interval


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
    terms = []
    for task in tasks:
        base, then, now = (np.asarray(side, np.float64) for side in (task.base, task.then, task.now))
        terms.append(ratio_interval(then - now, np.maximum(base, 1e-12)))
    whole = combined.mean(terms)
    named = [{"name": task.name} | term.to_dict() for task, term in zip(tasks, terms, strict=True)]
    return whole.to_dict() | {"tasks": named}
