"""Whether whole days are still like the days of the first week: what an alarm has to wait for.

A test of single requests takes each to be drawn by chance. Those of an endpoint are not: levels go up and
down with the hour and the weekday, callers send bursts, and one answer is like the one before. Averaged
over a day most of that is gone, and the rest is part of how far days differ. So each whole day is held
against the same weekday of the first week, and the mean of these differences over the last 3 to 7 days
against their own spread, by Student's t: the days of one window are of different weekdays, so that no two
share a day of the reference. The spread is never taken to be less than the values of the days say, as few
flags may differ in nothing by luck. Every day has five windows, and a month of them shares alpha
(Bonferroni). UTC. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import special

from store.documents.serving.drift import DayFigures, DayTest

DAY = 86_400
WEEK = 7  # days that make the reference
MIN_WINDOW = 3  # days
NORMAL_MAD = 1.4826  # standard deviations of normal values to a median distance from their median
LOOKS_A_MONTH = 30 * (WEEK - MIN_WINDOW + 1)

Columns = Sequence[NDArray[np.int64]]


def begin() -> DayTest:
    """Before the first value."""
    return {"first_day": None, "open": None, "reference": [], "recent": []}


def begun_anew(test: DayTest, *, same_reference: bool) -> DayTest:
    """After an alarm that somebody has seen; the day that goes on is none of the whole ones."""
    return {**begin(), "reference": test["reference"]} if same_reference else begin()


def add(test: DayTest, at: float, place: int, values: Sequence[int]) -> bool:
    """One more request: the value of each column. Whether a day has ended that is held against the reference.
    Changes `test`."""
    day, closed = int(at // DAY), False
    if test["first_day"] is None:
        test["first_day"] = day  # of which only a part was seen
    if test["open"] is not None and day > test["open"]["day"]:
        closed = _close(test)
    if day == test["first_day"]:
        return closed
    figures = test["open"] or _open(day, place, len(values))
    if day < figures["day"]:
        return closed  # late: its day has ended
    test["open"] = figures
    figures["n"] += 1
    figures["sums"] = [total + value for total, value in zip(figures["sums"], values, strict=True)]
    squares = zip(figures["squares"], values, strict=True)
    figures["squares"] = [total + value * value for total, value in squares]
    return closed


def _open(day: int, place: int, columns: int) -> DayFigures:
    return {"day": day, "place": place, "n": 0, "sums": [0] * columns, "squares": [0] * columns}


def _close(test: DayTest) -> bool:
    """Put the day that has ended where it belongs; True: it can be held against its weekday."""
    ended, test["open"] = test["open"], None
    assert ended is not None
    if _weekday_of(test, ended) is None and len(test["reference"]) < WEEK:
        test["reference"].append(ended)
        return False
    test["recent"] = [*test["recent"], ended][-WEEK:]
    return True


def _weekday_of(test: DayTest, figures: DayFigures) -> DayFigures | None:
    weekday = figures["day"] % WEEK
    return next((each for each in test["reference"] if each["day"] % WEEK == weekday), None)


def missing(test: DayTest) -> int:
    """Whole days without which nothing can be told."""
    return WEEK - len(test["reference"]) + max(0, MIN_WINDOW - len(test["recent"]))


def changed_since(test: DayTest, alpha: float) -> DayFigures | None:
    """The first day of the shortest window that surely differs; None where none does. alpha: a month's, of
    this watched value."""
    pairs = [(day, before) for day in test["recent"] if (before := _weekday_of(test, day)) is not None]
    level = alpha / LOOKS_A_MONTH
    for length in range(MIN_WINDOW, min(WEEK, len(pairs)) + 1):
        window = pairs[-length:]
        if window[-1][0]["day"] - window[0][0]["day"] >= WEEK:
            break  # days are missing, so that a weekday would come twice
        columns = len(window[0][0]["sums"])
        limit = float(special.stdtrit(length - 1, 1 - level / columns / 2))
        if any(_t(window, test["reference"], column) > limit for column in range(columns)):
            return window[0][0]
    return None


def _t(
    window: Sequence[tuple[DayFigures, DayFigures]], reference: Sequence[DayFigures], column: int
) -> float:
    """How many standard errors the mean difference of the days lies from 0."""
    gaps = np.array([_mean(day, column) - _mean(before, column) for day, before in window])
    of_values = float(np.mean([_error(day, column) + _error(before, column) for day, before in window]))
    usual = 2 * _usual_spread(np.array([_mean(day, column) for day in reference])) ** 2
    error = math.sqrt(max(float(gaps.var(ddof=1)), of_values, usual) / len(gaps))
    size = abs(float(gaps.mean()))
    return size / error if error else (math.inf if size else 0.0)


def _usual_spread(means: NDArray[np.float64]) -> float:
    """The standard deviation of days of the reference, by the median distance from their median, which two
    days of a weekend don't move. Where days wander, those of one window are nearer to each other."""
    return NORMAL_MAD * float(np.median(np.abs(means - np.median(means))))


def _mean(day: DayFigures, column: int) -> float:
    return day["sums"][column] / day["n"]


def _error(day: DayFigures, column: int) -> float:
    """Variance of the mean of a day's values, were they independent, with one more value on either side of
    it: a day without a flag isn't sure to have none."""
    n, mean = day["n"], _mean(day, column)
    return max(day["squares"][column] / n - mean * mean + 1 / (n + 1), 0.0) / n
