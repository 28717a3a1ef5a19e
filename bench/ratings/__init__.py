"""Raters of known noise, bias and reliability over systems of known strength: one file a topic, each with its
`RATES`, as in `bench/truths`. What an interval that holds is stands here."""

from __future__ import annotations

from engine.evaluation.statistics.intervals import Interval

LOW, HIGH = 0.93, 0.97  # of draws whose interval holds the truth
RARE_HIGH = 0.99  # where what is counted is rare: no interval of a few counts covers 95% whatever the truth


def holds(at: Interval, truth: float) -> bool | None:
    """None where there is no interval; a limit that can't be given excludes nothing."""
    if at.why:
        return None
    return (at.low is None or at.low <= truth) and (at.high is None or truth <= at.high)


def together(answers: list[bool | None]) -> bool | None:
    """Whether all hold of those that can be told; None where none can."""
    given = [answer for answer in answers if answer is not None]
    return all(given) if given else None
