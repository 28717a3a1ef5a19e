"""Several runs on the same held-out rows: which differ, by how much, and which can't be told apart.

Every run is compared with the best one, in pairs over the rows that both held out. Which one is best is read
from the same rows, so that the best of k equal runs is the luckiest of them: the k - 1 intervals that are
shown are chosen among those of all k (k - 1) / 2 pairs. Each is therefore at 1 - 0.05 / (all pairs)
(Bonferroni): the chance that any of them errs stays at 5%. Tukey's range would be 2 to 3% narrower, and needs
differences of one variance, which those of runs are not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from engine.diagnostics import phrasing
from engine.diagnostics.statistics.statistics import Interval, ratio_interval

LEAST = 1e-5  # nats, under which a difference is none to speak of


@dataclass(frozen=True)
class RunDifference:
    """How much better `better` is than `other`, in `unit`; `interval` is None with `reason` said."""

    better: str
    other: str
    interval: Interval | None
    reason: str = ""
    unit: str = "nats a token"

    @property
    def separated(self) -> bool:
        """The difference can be told from noise."""
        return self.interval is not None and (self.interval.above or self.interval.below)

    @property
    def sentence(self) -> str:
        """The comparison in plain words."""
        if self.interval is None:
            return f"{self.better} and {self.other} can't be compared: {self.reason}."
        gap = self.interval
        rows = phrasing.plural(gap.n, "held-out row")
        if gap.low is None or gap.high is None:
            why = gap.why or "they give no interval"
            return f"{self.better} and {self.other} can't be told apart on {rows}: {why}."
        if gap.low == gap.high == 0:
            return f"{self.better} and {self.other} have the same loss on each of {rows}."
        if max(abs(gap.low), abs(gap.high)) < LEAST:
            least = phrasing.setting(LEAST)
            return f"{self.better} and {self.other} differ by less than {least} {self.unit} on {rows}."
        places = phrasing.decimals(gap.low, gap.high)
        bounds = phrasing.interval(gap.low, gap.high, places)
        if not self.separated:
            least = phrasing.number(gap.detectable or 0.0, max(2, places))
            seen = f"; the smallest difference that could be seen is {least}" if gap.detectable else ""
            return f"{self.better} and {self.other} can't be told apart on {rows} ({bounds}){seen}."
        first, second = (self.better, self.other) if gap.above else (self.other, self.better)
        low, high = sorted((abs(gap.low), abs(gap.high)))
        amount = phrasing.number(abs(gap.value), places)
        return (
            f"{first} is better than {second} by {amount} {self.unit} on {rows} "
            f"({phrasing.interval(low, high, places)})."
        )


def pairs(models: int) -> int:
    """How many comparisons there are where each of so many may turn out the best."""
    return models * (models - 1) // 2


class SharedRows(NamedTuple):
    """Summed losses of two runs on rows that both held out, and the units (tokens) of each row."""

    better: ArrayLike
    other: ArrayLike
    tokens: ArrayLike


def difference(
    better: str, other: str, rows: SharedRows, *, comparisons: int = 1, unit: str = "nats a token"
) -> RunDifference:
    """`other` minus `better`, by their names, in loss a unit."""
    gap = np.asarray(rows.other, np.float64) - np.asarray(rows.better, np.float64)
    if not len(gap):
        return RunDifference(better, other, None, "they held out no row in common")
    if not np.isfinite(gap).all():
        return RunDifference(better, other, None, "a loss is not a number")
    interval = ratio_interval(gap, rows.tokens, confidence=1 - 0.05 / max(1, comparisons))
    return RunDifference(better, other, interval, unit=unit)
