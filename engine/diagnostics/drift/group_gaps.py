"""Is the endpoint worse for one group of callers than for the others? For one look.

Each caller counts once, as in the comparison of versions (`arms`), with the share of its answers that were
good. A group is held against the callers of all others; the intervals are as wide as so many groups need
(Bonferroni), so that of equal groups hardly ever any is called better or worse. Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from engine.diagnostics.drift.arms import Callers, of_callers
from engine.diagnostics.statistics import combined
from engine.diagnostics.statistics.statistics import Interval

GRID = 64  # parts of 1 in which shares come
LEAST_CALLERS = 10  # of a group, and of all others


@dataclass(frozen=True)
class GroupGap:
    """share: of good answers, the mean of its callers; gap: that less the share of all others."""

    group: str
    callers: int
    share: Interval
    gap: Interval


def group_gaps(
    groups: Mapping[str, Callers], *, confidence: float = 0.95
) -> tuple[list[GroupGap], list[str]]:
    """Of each group with callers enough, the largest first; and the names of those without."""
    sizes = {name: sum(callers.values()) for name, callers in groups.items()}
    whole = sum(sizes.values())
    enough = [name for name, n in sizes.items() if n >= LEAST_CALLERS and whole - n >= LEAST_CALLERS]
    few = [name for name in groups if name not in enough]
    level = 1 - (1 - confidence) / max(1, len(enough))
    gaps = []
    for name in sorted(enough, key=lambda name: -sizes[name]):
        others: Counter[int] = Counter()
        for other, callers in groups.items():
            others.update(callers if other != name else {})
        share, rest = _interval(groups[name], level), _interval(others, level)
        gaps.append(GroupGap(name, sizes[name], share, combined.difference(share, rest)))
    return gaps, few


def _interval(callers: Callers, confidence: float) -> Interval:
    values = np.array([*callers], float) / GRID
    return of_callers(values, np.array([*callers.values()], np.int64), confidence)
