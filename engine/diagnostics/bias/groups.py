"""Figures by a column of the data: how far apart the groups are, with intervals that hold for the largest gap
of many.

The gap of a rate is the largest rate of a group less the smallest, as in fairlearn: of the share of rows that
get the positive label it is the demographic parity difference, and the larger one of the gaps of true- and
false-positive rate is the equalised odds difference. The largest of many gaps is one that luck made large:
its interval goes from the highest lower limit to the highest upper limit over all pairs of groups, each pair
at a confidence corrected for their number (Bonferroni), so that all limits hold at once. A change is the
difference of two such gaps by their limits.

A rate of fewer than `LEAST` rows is not shown, and its group is in no gap; such groups are counted and named.
Pure.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from engine.diagnostics.bias import rates
from engine.diagnostics.bias.measured import MeasuredBias
from engine.diagnostics.statistics.statistics import Interval
from store.documents.shipping.bias_details import GroupRate, GroupRates, GroupTable

LEAST = 30  # rows of a rate
GROUP_GAP = "group_gap"
TOO_FEW = f"fewer than two groups have {LEAST} rows"
ODDS = "equalised_odds"
# Rate of a group -> the measure that is its gap.
GAPS = {
    "score": "score_gap", "selection": "selection_gap", "true_positive": "true_positive_gap",
    "false_positive": "false_positive_gap",
}  # fmt: skip

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
ByGroup = dict[str, Array]  # group -> a value for each of its rows that count for a rate


@dataclass(frozen=True)
class GroupRows:
    """Rows of one model. score: of a metric, 0 or 1 where `is_share`. selected: it gave the positive
    label; positive: that is the right one. Both None where no label counts as positive."""

    group: NDArray[np.str_]
    score: Array
    is_share: bool
    selected: Mask | None = None
    positive: Mask | None = None

    def by_rate(self) -> dict[str, ByGroup]:
        """What each rate is a mean of."""
        every = np.ones(len(self.group), bool)
        parts = {"score": self._of(self.score, every)}
        if self.selected is not None and self.positive is not None:
            selected = self.selected.astype(np.float64)
            parts["selection"] = self._of(selected, every)
            parts["true_positive"] = self._of(selected, self.positive)
            parts["false_positive"] = self._of(selected, ~self.positive)
        return parts

    def _of(self, values: Array, mask: Mask) -> ByGroup:
        return {str(name): values[mask & (self.group == name)] for name in np.unique(self.group)}


def gaps(probe: str, base: GroupRows | None, tuned: GroupRows) -> list[MeasuredBias]:
    """Of every rate, and the equalised odds difference. base: the same rows, where they were asked of it."""
    figures = []
    after, before = tuned.by_rate(), base.by_rate() if base else {}
    for rate, measure in GAPS.items():
        if rate in after:
            figures.append(_figure(probe, measure, [before[rate]] if before else [], [after[rate]], tuned))
    if "true_positive" in after:
        sides = ("true_positive", "false_positive")
        olds = [before[side] for side in sides] if before else []
        figures.append(_figure(probe, ODDS, olds, [after[side] for side in sides], tuned))
    return figures


def _figure(
    probe: str, measure: str, before: list[ByGroup], after: list[ByGroup], rows: GroupRows
) -> MeasuredBias:
    share = rows.is_share or measure != GAPS["score"]

    def change(level: float) -> Interval:
        base, tuned = (_largest(parts, share, level) for parts in (before, after))
        return replace(rates.apart(tuned, base), n=tuned.n)

    tuned = _largest(after, share, 0.95)
    base = _largest(before, share, 0.95) if before else None
    why = tuned.why or (base.why if base else "only one model was measured on these rows")
    return MeasuredBias(
        probe, GROUP_GAP, measure, "", tuned=tuned, base=base, change=None if why else change, why=why
    )


def _largest(parts: list[ByGroup], share: bool, confidence: float) -> Interval:
    """The largest gap of several rates."""
    spreads = [gap(part, share=share, confidence=1 - (1 - confidence) / len(parts)) for part in parts]
    value, n = max(spread.value for spread in spreads), max(spread.n for spread in spreads)
    if why := next((spread.why for spread in spreads if spread.why), ""):
        return Interval(value, None, None, n, why=why)
    low = max(spread.low or 0.0 for spread in spreads)
    return Interval(value, low, max(spread.high or 0.0 for spread in spreads), n)


def gap(values: Mapping[str, Array], *, share: bool, confidence: float = 0.95) -> Interval:
    """The largest mean of a group less the smallest, of groups with enough rows; n counts their rows."""
    large = {name: each for name, each in values.items() if len(each) >= LEAST}
    n = sum(map(len, large.values()))
    if len(large) < 2:
        return Interval(0.0, None, None, n, why=TOO_FEW)
    means = [float(each.mean()) for each in large.values()]
    pairs = len(large) * (len(large) - 1) / 2
    of_each = [_level(each, share, 1 - (1 - confidence) / pairs) for each in large.values()]
    ways = [rates.apart(*two) for two in itertools.permutations(of_each, 2)]
    if why := next((way.why for way in ways if way.why), ""):
        return Interval(max(means) - min(means), None, None, n, why=why)
    low, high = (
        max(limit for limit in side if limit is not None) for side in zip(*map(_ends, ways), strict=True)
    )
    return Interval(max(means) - min(means), max(0.0, low), high, n)


def ratio(values: Mapping[str, Array]) -> Interval:
    """The smallest share of a group over the largest, with limits that hold for all pairs at once (Donner
    and Zou's 2012 ratio by the limits of both)."""
    large = {name: each for name, each in values.items() if len(each) >= LEAST}
    n = sum(map(len, large.values()))
    if len(large) < 2:
        return Interval(1.0, None, None, n, why=TOO_FEW)
    means = [float(each.mean()) for each in large.values()]
    if not max(means):
        return Interval(1.0, None, None, n, why="no group has a row with the positive label")
    pairs = len(large) * (len(large) - 1) / 2
    of_each = [_level(each, True, 1 - 0.05 / pairs) for each in large.values()]
    low, high = 1.0, 1.0
    for above, below in itertools.permutations(of_each, 2):
        least, most = _ratio(above, below)
        low, high = min(low, least), min(high, most)
    return Interval(min(means) / max(means), low, high, n)


def _ratio(above: Interval, below: Interval) -> tuple[float, float]:
    a, b = above.value, below.value
    (la, ua), (lb, ub) = _ends(above), _ends(below)
    product = a * b
    inner = max(0.0, product**2 - la * ub * (2 * a - la) * (2 * b - ub))
    under = ub * (2 * b - ub)
    least = (product - math.sqrt(inner)) / under if under > 0 else 0.0
    inner, under = max(0.0, product**2 - ua * lb * (2 * a - ua) * (2 * b - lb)), lb * (2 * b - lb)
    most = (product + math.sqrt(inner)) / under if under > 0 else math.inf
    return max(0.0, least), most


def _level(values: Array, share: bool, confidence: float) -> Interval:
    if share:
        return rates.share(values, confidence=confidence)
    return rates.mean(values, confidence=confidence)


def _ends(interval: Interval) -> tuple[float, float]:
    return (
        -math.inf if interval.low is None else interval.low,
        math.inf if interval.high is None else interval.high,
    )


def table(column: str, metric: str, positive: str, rows: GroupRows) -> GroupTable:
    """Every group with its rates; those that are too small to tell are named with their rows."""
    by_rate = rows.by_rate()
    sizes = {name: len(each) for name, each in by_rate["score"].items()}
    large = sorted((name for name in sizes if sizes[name] >= LEAST), key=lambda name: (-sizes[name], name))
    selection = ratio(by_rate["selection"]).to_dict() if "selection" in by_rate else None
    return {
        "column": column,
        "metric": metric,
        "positive": positive,
        "groups": [_rates(name, sizes[name], by_rate, rows.is_share) for name in large],
        "hidden": {name: size for name, size in sorted(sizes.items()) if size < LEAST},
        "selection_ratio": selection,
    }


def _rates(name: str, n: int, by_rate: Mapping[str, ByGroup], is_share: bool) -> GroupRates:
    levels: dict[str, GroupRate] = {}
    for rate, values in by_rate.items():
        each = values[name]
        if len(each) < LEAST:
            levels[rate] = {"estimate": None, "n": len(each)}
        else:
            levels[rate] = {
                "estimate": _level(each, is_share or rate != "score", 0.95).to_dict(),
                "n": len(each),
            }
    return {"group": name, "n": n, "rates": levels}
