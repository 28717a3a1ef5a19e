"""An interval for a figure that can only be asked for as a whole: leave out a part of the rows, ask again.

The delete-a-group jackknife: rows are dealt to 20 parts, whole groups to one part, and the figure is asked
for without each in turn. Its spread gives the standard error, Student's t the interval. Twenty-one questions
are enough where a bootstrap would need thousands. Pure: the figure is a function of row places.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from engine.diagnostics.statistics.statistics import Interval

PARTS = 20

Places = NDArray[np.int64]


def jackknife_interval(
    figure: Callable[[Places], float], rows: int, groups: Any = None, *, confidence: float = 0.95
) -> Interval:
    """`figure(places of rows)` of all rows, with an interval. Without two groups there is none."""
    part_of = _parts(rows, groups)
    value = float(figure(np.arange(rows)))
    parts = int(part_of.max(initial=-1)) + 1
    if parts < 2:
        return Interval(value, None, None, rows)
    left_out = np.array([figure(np.flatnonzero(part_of != part)) for part in range(parts)], float)
    if not np.isfinite(left_out).all():
        return Interval(value, None, None, rows)
    se = math.sqrt((parts - 1) / parts * np.square(left_out - left_out.mean()).sum())
    half = float(special.stdtrit(parts - 1, (1 + confidence) / 2)) * se
    return Interval(value, value - half, value + half, rows, se)


def _parts(rows: int, groups: Any) -> Places:
    """The part of each row: units in random order, dealt in turn."""
    names = np.arange(rows) if groups is None else np.array([str(group) for group in groups])
    _, unit_of = np.unique(names, return_inverse=True)
    units = int(unit_of.max(initial=-1)) + 1
    dealt = np.arange(units) % max(1, min(PARTS, units))
    return np.random.default_rng(0).permutation(dealt)[unit_of]
