"""How a monitored value changed: the reference compared with the requests since the change. Pure.

These are descriptive figures without an interval. That something changed is the verdict of the test; a figure
read at the moment of its alert tends to overstate the change.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from engine.monitoring.drift import WATCHED_SIGNALS, Scale, Value, build_columns, compute_bin_value
from store.core.monitoring_schemas import MartingaleState, TestState, WatchedName

Counts = dict[int, int]  # bin -> values


@dataclass(frozen=True)
class ValueChange:
    """One monitored value before and after its change.

    before, since: for a category the share of the name that moved most, for a share the mean, for a
    perplexity the mean in nats, otherwise the median. reference_n, since_n: number of values.
    """

    watched: WatchedName
    before: float
    since: float
    reference_n: int
    since_n: int
    category: str = ""

    @property
    def scale(self) -> Scale:
        return WATCHED_SIGNALS[self.watched].scale


def measure_change(state: TestState, changed: Sequence[Value]) -> ValueChange | None:
    """Compare the reference with the values since the change; None if either side has no value."""
    scale = WATCHED_SIGNALS[state.name].scale
    present = [value for value in changed if value is not None]
    if scale == "category":
        return _measure_category(state, present)
    before = _count_reference(state.bets[0])
    since = dict(Counter(build_columns(state, present)[0].tolist()))
    if not before or not since:
        return None
    measure = _mean if scale in ("share", "perplexity") else _median
    return _build_change(state, measure(scale, before), measure(scale, since), before, since)


def _measure_category(state: TestState, changed: Sequence[Value]) -> ValueChange | None:
    after = [dict(Counter(column.tolist())) for column in build_columns(state, changed)]
    sides = zip(state.categories, map(_count_reference, state.bets), after, strict=True)
    moved = [
        _build_change(state, _compute_share(before), _compute_share(since), before, since, name)
        for name, before, since in sides
        if before and since
    ]
    if not moved:
        return None
    return max(moved, key=lambda each: abs(each.since - each.before))


def _build_change(
    state: TestState, before: float, since: float, reference: Counts, changed: Counts, category: str = ""
) -> ValueChange:
    return ValueChange(state.name, before, since, _sum_counts(reference), _sum_counts(changed), category)


def _count_reference(bet: MartingaleState) -> Counts:
    return dict(zip(bet.reference_bins, bet.reference_counts, strict=True))


def _sum_counts(counts: Counts) -> int:
    return sum(counts.values())


def _mean(scale: Scale, counts: Counts) -> float:
    return sum(compute_bin_value(scale, place) * n for place, n in counts.items()) / _sum_counts(counts)


def _median(scale: Scale, counts: Counts) -> float:
    """The middle value; the lower one if there are two."""
    left = (_sum_counts(counts) + 1) // 2
    for place in sorted(counts):
        left -= counts[place]
        if left <= 0:
            return compute_bin_value(scale, place)
    raise AssertionError("there is a middle value")


def _compute_share(counts: Counts) -> float:
    """The share of ones, where each value is 0 or 1."""
    return sum(place * n for place, n in counts.items()) / _sum_counts(counts)
