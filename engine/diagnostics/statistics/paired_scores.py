"""How two models differ in one metric, over the rows that both could score.

The interval resamples rows, or groups of them, together for both models. Where fewer than 25 of them differ
at all, a bootstrap is too sure: five rows gained and none lost look certain, and are a coin that fell five
times the same way. Then an exact test has the last word: if the two models were one, each row that differs
could as well have been the other way round, and all such swaps (or 10,000 of them) say how often the
difference is as large. Of rows that are right or wrong that is McNemar's exact test. Pure: arrays in, a
document out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from engine.diagnostics.statistics.estimators import ESTIMATORS, Estimate
from engine.diagnostics.statistics.scored import Bounds, Floats, Scored, counted, interval_of, units_of
from engine.diagnostics.statistics.statistics import Interval

FEW = 25  # units that differ, below which swaps decide
ALL_SWAPS = 13  # units of which every swap is tried
SWAPS = 10_000


def difference(
    first: Scored, second: Scored, groups: Sequence[Any] | None = None, *, confidence: float = 0.95
) -> dict[str, Any]:
    """`first` minus `second`: {"metric", "value", "low", "high", "n", "groups", "detectable": the smallest
    difference that so many rows would show in 80 of 100 cases, "left_out": rows that only one could score or
    was asked, "unit", "better", "first_higher", "second_higher", "same": rows}. `groups` are those of the
    first's rows.

    Raises ValueError where the two are not the same metric.
    """
    if first.estimator != second.estimator or list(first.labels) != list(second.labels):
        raise ValueError(f"{first.name} and {second.name} are not the same metric.")
    alone = int(first.usable.sum() + second.usable.sum())
    _, own, others = np.intersect1d(first.row_ids, second.row_ids, return_indices=True)
    groups = None if groups is None else [groups[place] for place in own]
    first, second = first.take(own), second.take(others)
    rows = np.flatnonzero(first.usable & second.usable)
    document: dict[str, Any] = {"metric": first.name, "value": None, "low": None, "high": None, "n": 0}
    document |= {"groups": None, "detectable": None, "better": first.better, "unit": first.unit}
    document |= {"left_out": alone - 2 * len(rows)} | _counts(first.scores[rows], second.scores[rows])
    if not len(rows) or first.estimator == "whole":
        return document
    unit_of, units = units_of(groups, rows)
    a, b = first.sums[rows], second.sums[rows]
    counts, estimate = _joint(a, b, first)
    found = interval_of(counts, estimate, unit_of, first, _bounds(first, second), confidence)
    found = _checked(found, a, b, first, unit_of, confidence)
    return document | found.to_dict() | {"n": len(rows), "groups": units, "detectable": found.detectable}


def _counts(first: Floats, second: Floats) -> dict[str, int]:
    known = np.isfinite(first) & np.isfinite(second)
    gap = first[known] - second[known]
    higher, lower = int((gap > 0).sum()), int((gap < 0).sum())
    return {"first_higher": higher, "second_higher": lower, "same": len(gap) - higher - lower}


def _bounds(first: Scored, second: Scored) -> Bounds:
    """Between which the difference lies: as far apart as the metric allows, else as the scores that occur."""
    low, high = first.bounds
    if low is None or high is None:
        seen = np.concatenate([first.scores, second.scores])
        seen = seen[np.isfinite(seen)]
        span = float(np.ptp(seen)) if len(seen) else 0.0
    else:
        span = high - low
    return (-span, span)


def _joint(a: Floats, b: Floats, scored: Scored) -> tuple[Any, Estimate]:
    """What is summed over rows for both models together, and their difference from such sums."""
    if scored.estimator == "mean" and np.array_equal(a[:, 1], b[:, 1]):
        return np.column_stack([a[:, 0] - b[:, 0], a[:, 1]]), ESTIMATORS["mean"]
    first, each = counted(a, scored)
    second, _ = counted(b, scored)
    width = first.shape[1]
    both = sparse.hstack([first, second], "csr") if sparse.issparse(first) else np.hstack([first, second])
    return both, lambda sums: each(sums[:, :width]) - each(sums[:, width:])


def _checked(
    found: Interval, a: Floats, b: Floats, scored: Scored, unit_of: NDArray[np.int64], confidence: float
) -> Interval:
    """The interval, with 0 in it where so few units differ that swaps don't tell the models apart."""
    differ = np.unique(unit_of[(a != b).any(axis=1)])
    if not 0 < len(differ) < FEW or not (found.above or found.below):
        return found
    if _swapped(a, b, scored, unit_of, differ) <= 1 - confidence:
        return found
    return replace(found, low=min(found.low or 0.0, 0.0), high=max(found.high or 0.0, 0.0))


def _swapped(
    a: Floats, b: Floats, scored: Scored, unit_of: NDArray[np.int64], differ: NDArray[np.int64]
) -> float:
    """How often swapping the two models in units that differ gives a difference as large as theirs."""
    (first, each), (second, _) = counted(a, scored), counted(b, scored)
    own, others = (np.array([_sum(part, unit_of == unit) for unit in differ]) for part in (first, second))
    fixed = _sum(first, ~np.isin(unit_of, differ))
    if len(differ) <= ALL_SWAPS:
        stays = (np.arange(2 ** len(differ))[:, None] >> np.arange(len(differ))) & 1
    else:
        stays = np.random.default_rng(0).integers(0, 2, (SWAPS, len(differ)))
        stays[0] = 1  # as it was
    gap = each(fixed + stays @ own + (1 - stays) @ others) - each(fixed + stays @ others + (1 - stays) @ own)
    as_it_was = each(fixed + own.sum(axis=0)[None])[0] - each(fixed + others.sum(axis=0)[None])[0]
    return float((np.abs(gap) >= abs(as_it_was) * (1 - 1e-9)).mean())


def _sum(counts: Any, rows: NDArray[np.bool_]) -> Floats:
    return np.asarray(counts[np.flatnonzero(rows)].sum(axis=0), np.float64).ravel()
