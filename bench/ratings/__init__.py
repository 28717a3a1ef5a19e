"""Raters of known noise, bias and reliability over systems of known strength: one file per topic.

Each has its `RATES`, as in `bench/truths`. This module defines the bands of coverage.
"""

from __future__ import annotations

from engine.evaluation.statistics.intervals import Interval

LOW, HIGH = 0.93, 0.97  # share of draws whose interval covers the truth
RARE_HIGH = 0.99  # for rare counts: no interval of a few counts covers 95% whatever the truth


def holds(at: Interval, truth: float) -> bool | None:
    """Whether the interval covers the truth; None without an interval. A missing bound excludes nothing."""
    if at.why:
        return None
    return (at.low is None or at.low <= truth) and (at.high is None or truth <= at.high)


def together(answers: list[bool | None]) -> bool | None:
    """Whether all known answers are true; None if there are none."""
    given = [answer for answer in answers if answer is not None]
    return all(given) if given else None
