"""Gain versus forgetting over a project's runs: the Pareto front, and methods compared at equal gain.

A run is dominated if another gains at least as much and forgets at most as much, and is better in one of the
two. The front consists of the runs that nothing dominates. Points are estimates: a run off the front whose
difference from a front member can't be distinguished from noise on either axis counts as equal. Methods are
compared at equal gain, along the line through the runs of a sweep, and only where their gains overlap. For
runs measured on the same items the caller supplies the paired differences; otherwise runs are treated as
independent. Pure functions from documents to documents.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise, product
from typing import Literal, TypedDict

import numpy as np
from numpy.typing import NDArray
from scipy import special

from engine.evaluation.statistics.intervals import Interval
from store.core import formatting

GRID = 5  # number of gains at which two sweeps are compared
SIGNIFICANT_ERRORS = 4.0  # distance in standard errors beyond which `pair` is not called

Floats = NDArray[np.float64]
FrontStatus = Literal["front", "alike", "dominated", "unknown"]
MatchState = Literal["first", "second", "alike", "mixed", "no_overlap"]


class PointFigure(TypedDict, total=False):
    """Figure with its interval; empty if it was not measured."""

    value: float
    low: float | None
    high: float | None


class RunPoint(TypedDict):
    """One run: `gain` (higher is better) and `forgetting` (lower is better). `group` is what is compared (a
    method), `setting` what its sweep varies (the learning rate).
    """

    run: str
    group: str
    setting: float
    gain: PointFigure
    forgetting: PointFigure


class FrontPlace(TypedDict):
    """Position of a run relative to the front; `dominated_by` and `alike` name runs on the front. The status
    is "unknown" if one of its two figures is missing.
    """

    run: str
    status: FrontStatus
    dominated_by: list[str]
    alike: list[str]


class MatchedPoint(TypedDict):
    """Forgetting of two sweeps at one gain; the difference is first minus second."""

    gain: float
    first: float
    second: float
    difference: PointFigure


class SweepComparison(TypedDict):
    """Comparison of two sweeps, named by their groups, at the gains both reach; `overlap` is None if there
    are none.
    """

    first: str
    second: str
    overlap: list[float] | None
    points: list[MatchedPoint]
    state: MatchState
    sentence: str


Axis = Literal["gain", "forgetting"]
AXES: tuple[Axis, Axis] = ("gain", "forgetting")
PairedDifference = Callable[[str, str, Axis], Interval | None]  # figure of the first run minus the second's


def get_no_paired_difference(first: str, second: str, axis: Axis) -> Interval | None:
    """Return None: no paired difference is available."""
    return None


def compute_front(
    runs: Sequence[RunPoint], pair: PairedDifference = get_no_paired_difference
) -> list[FrontPlace]:
    """Compute the place of each run. `pair` returns the difference of two runs measured on the same items. It
    is called only for pairs that independent figures don't clearly separate.
    """
    measured = [run for run in runs if _is_measured(run)]
    best = [run for run in measured if not any(_dominates(other, run) for other in measured)]
    places: list[FrontPlace] = []
    for run in runs:
        if run not in measured:
            places.append({"run": run["run"], "status": "unknown", "dominated_by": [], "alike": []})
            continue
        above = [other["run"] for other in best if _dominates(other, run)]
        alike = [other["run"] for other in best if other is not run and _is_equivalent(run, other, pair)]
        status: FrontStatus = "front" if run in best else "alike" if alike else "dominated"
        places.append({"run": run["run"], "status": status, "dominated_by": above, "alike": alike})
    return places


def _is_measured(run: RunPoint) -> bool:
    values = (run["gain"].get("value"), run["forgetting"].get("value"))
    return all(value is not None and math.isfinite(value) for value in values)


def _dominates(run: RunPoint, other: RunPoint) -> bool:
    more = run["gain"]["value"] - other["gain"]["value"]
    less = other["forgetting"]["value"] - run["forgetting"]["value"]
    return bool(more >= 0 and less >= 0 and (more > 0 or less > 0))


def _is_equivalent(run: RunPoint, other: RunPoint, pair: PairedDifference) -> bool:
    if any(_compute_distance(run[axis], other[axis]) > SIGNIFICANT_ERRORS for axis in AXES):
        return False
    return not any(
        _is_significantly_different(run, other, axis, pair(run["run"], other["run"], axis)) for axis in AXES
    )


def _is_significantly_different(run: RunPoint, other: RunPoint, axis: Axis, paired: Interval | None) -> bool:
    """Return whether two figures differ significantly, by the paired difference if it has an interval."""
    if paired is not None and paired.low is not None:
        return paired.above or paired.below
    return _compute_distance(run[axis], other[axis]) > _compute_z(1)


def _compute_distance(here: PointFigure, there: PointFigure) -> float:
    """Return the distance between two figures in standard errors, treating them as independent."""
    error, apart = (
        math.hypot(_compute_error(here), _compute_error(there)),
        abs(here["value"] - there["value"]),
    )
    return float(apart / error) if error else (math.inf if apart else 0.0)


def _compute_error(figure: PointFigure) -> float:
    """Return the standard error from the width of a 95% interval; infinite without an interval."""
    return _compute_interval_error(figure.get("low"), figure.get("high"))


def _compute_interval_error(low: float | None, high: float | None) -> float:
    return math.inf if low is None or high is None else float(high - low) / (2 * _compute_z(1))


def _compute_z(comparisons: int) -> float:
    return float(special.ndtri(1 - 0.025 / comparisons))


@dataclass(frozen=True)
class LinePart:
    """Contribution of a run to a point on the line: its weight there, and the slope of forgetting over gain
    on either side of the run.
    """

    run: RunPoint
    weight: float
    slopes: tuple[float, ...]


@dataclass(frozen=True)
class MatchedForgetting:
    """Forgetting of a sweep at a gain, and the runs it is computed from."""

    value: float
    parts: tuple[LinePart, ...]


def compare_sweeps(
    first: Sequence[RunPoint],
    second: Sequence[RunPoint],
    *,
    comparisons: int = 1,
    pair: PairedDifference = get_no_paired_difference,
) -> SweepComparison:
    """Compare two sweeps, each the runs of one group, at equal gain; `pair` is as in `compute_front`. The
    confidence of each difference is 1 - 0.05 / (gains x comparisons).
    """
    sweeps = [[run for run in runs if _is_measured(run)] for runs in (first, second)]
    names = (first[0]["group"] if first else "", second[0]["group"] if second else "")
    measured = [[run["gain"]["value"] for run in sweep] for sweep in sweeps]
    spans = [(min(values), max(values)) if values else (math.inf, -math.inf) for values in measured]
    low, high = max(s[0] for s in spans), min(s[1] for s in spans)
    if low > high:
        return {
            "first": names[0],
            "second": names[1],
            "overlap": None,
            "points": [],
            "state": "no_overlap",
            "sentence": _describe_no_overlap(names, spans),
        }
    gains = [low, *(low + (high - low) * i / (GRID - 1) for i in range(1, GRID - 1)), high]
    gains = sorted({min(gain, high) for gain in gains})  # rounding must not go past the last run
    points = [_compare_at_gain(sweeps, gain, len(gains) * comparisons, pair) for gain in gains]
    less, more = (any(_is_significant(point, sign) for point in points) for sign in (-1, 1))
    state: MatchState = "mixed" if less and more else "first" if less else "second" if more else "alike"
    return {
        "first": names[0],
        "second": names[1],
        "overlap": [low, high],
        "points": points,
        "state": state,
        "sentence": _describe_result(names, points, state),
    }


def interpolate_at_gain(
    sweep: Sequence[RunPoint], gain: float, *, steepness: float = 0.0
) -> MatchedForgetting | None:
    """Interpolate forgetting at a gain along the line through the runs in the order of their setting.

    Returns the smallest value if the line reaches the gain more than once, None if it never does. steepness:
    slope of the line that a single run is compared with.
    """
    ordered = sorted(sweep, key=lambda run: run["setting"])
    slopes = [_compute_slope(run, later) for run, later in pairwise(ordered)]
    beside = [tuple(slopes[max(0, i - 1) : i + 1]) or (steepness,) for i in range(len(ordered))]
    reached = [
        MatchedForgetting(run["forgetting"]["value"], (LinePart(run, 1.0, steep),))
        for run, steep in zip(ordered, beside, strict=True)
        if run["gain"]["value"] == gain
    ]
    for place, (run, later) in enumerate(pairwise(ordered)):
        start, end = run["gain"]["value"], later["gain"]["value"]
        if min(start, end) < gain < max(start, end):
            share = (gain - start) / (end - start)
            value = (1 - share) * run["forgetting"]["value"] + share * later["forgetting"]["value"]
            parts = LinePart(run, 1 - share, beside[place]), LinePart(later, share, beside[place + 1])
            reached.append(MatchedForgetting(value, parts))
    return min(reached, key=lambda point: point.value) if reached else None


def compute_standard_error(
    parts: Sequence[LinePart], pair: PairedDifference = get_no_paired_difference
) -> float:
    """Compute the standard error of the weighted sum of these runs' forgetting at a gain.

    An error in a run's gain moves the point along the slope of the line; where the line bends, along
    whichever of the two slopes makes the error of the sum larger. What rows have in common cancels in a
    difference of runs measured on the same rows.
    """
    runs, weights = [part.run for part in parts], np.array([part.weight for part in parts])
    along = [weights * steep for steep in product(*(part.slopes for part in parts))]
    lost = _compute_variance(runs, [weights], "forgetting", pair)
    return math.sqrt(lost + _compute_variance(runs, along, "gain", pair))


def _compute_variance(
    runs: Sequence[RunPoint], sums: Sequence[Floats], axis: Axis, pair: PairedDifference
) -> float:
    """Return the largest variance of these weighted sums of a figure over the runs.

    If every two runs were measured in pairs, the variance for weights a that add up to A is A^2 times the
    variance of a single run, minus the sum of a_i a_j Var(x_i - x_j) over pairs (from the definition; the
    largest of the single-run variances is used). Otherwise the runs are treated as independent.
    """
    alone = np.square([_compute_error(run[axis]) for run in runs])
    if not np.isfinite(alone).all():
        return math.inf
    apart = _compute_paired_variances(runs, axis, pair)
    if apart is None:
        return max(float(a**2 @ alone) for a in sums)
    return max(0.0, *(float(a.sum() ** 2 * alone.max() - a @ apart @ a / 2) for a in sums))


def _compute_paired_variances(runs: Sequence[RunPoint], axis: Axis, pair: PairedDifference) -> Floats | None:
    """Return Var(x_i - x_j) [runs, runs]; None if it is missing for any two.

    Standard errors are mutually consistent (those of sums follow from those of pairs), whereas interval
    limits also account for few rows and skewness. So the standard errors are used, all scaled by the largest
    ratio of interval width to standard error among the pairs.
    """
    errors, raised = np.zeros((len(runs), len(runs))), 1.0
    for i, j in combinations(range(len(runs)), 2):
        apart = pair(runs[i]["run"], runs[j]["run"], axis)
        if apart is None or apart.low is None:
            return None
        wide = _compute_interval_error(apart.low, apart.high)
        errors[i, j] = errors[j, i] = apart.se or wide
        raised = max(raised, wide / apart.se if apart.se else 1.0)
    return np.square(raised * errors)


def _compute_slope(run: RunPoint, later: RunPoint) -> float:
    """Return the slope of forgetting over gain between two runs; 0 if their gains are equal."""
    gained = later["gain"]["value"] - run["gain"]["value"]
    return float((later["forgetting"]["value"] - run["forgetting"]["value"]) / gained) if gained else 0.0


def _find_steepest_slope(sweep: Sequence[RunPoint]) -> float:
    ordered = sorted(sweep, key=lambda run: run["setting"])
    return max((_compute_slope(run, later) for run, later in pairwise(ordered)), default=0.0, key=abs)


def _compare_at_gain(
    sweeps: Sequence[Sequence[RunPoint]], gain: float, looks: int, pair: PairedDifference
) -> MatchedPoint:
    first = interpolate_at_gain(sweeps[0], gain, steepness=_find_steepest_slope(sweeps[1]))
    second = interpolate_at_gain(sweeps[1], gain, steepness=_find_steepest_slope(sweeps[0]))
    if first is None or second is None:
        raise ValueError(f"No sweep of the two reaches a gain of {gain}.")
    value = first.value - second.value
    taken_off = [LinePart(part.run, -part.weight, part.slopes) for part in second.parts]
    half = _compute_z(looks) * compute_standard_error([*first.parts, *taken_off], pair)
    difference: PointFigure = {"value": value, "low": None, "high": None}
    if math.isfinite(half):
        difference["low"], difference["high"] = value - half, value + half
    return {"gain": gain, "first": first.value, "second": second.value, "difference": difference}


def _list_limits(point: MatchedPoint) -> tuple[float, float] | None:
    low, high = point["difference"]["low"], point["difference"]["high"]
    return None if low is None or high is None else (low, high)


def _describe_no_overlap(names: Sequence[str], spans: Sequence[tuple[float, float]]) -> str:
    if any(low > high for low, high in spans):
        return "Runs of both kinds are needed for a comparison."
    reaches = [f"{name} {_format_gain_range(*span)}" for name, span in zip(names, spans, strict=True)]
    return (
        f"Their gains do not overlap ({'; '.join(reaches)}): their forgetting can't be compared at equal"
        " gain."
    )


def _format_gain_range(low: float, high: float) -> str:
    return (
        f"from {formatting.format_interval(low, high, 2)}"
        if low < high
        else f"at {formatting.format_number(low, 2)}"
    )


def _describe_result(names: Sequence[str], points: Sequence[MatchedPoint], state: MatchState) -> str:
    if state == "mixed":
        return f"At some gains {names[0]} forgets less, at others {names[1]}."
    if state == "alike":
        return f"At the same gain {names[0]} and {names[1]} can't be distinguished by forgetting."
    sign = -1 if state == "first" else 1
    sure = [point for point in points if _is_significant(point, sign)]
    clear = max(sure, key=lambda point: sign * point["difference"]["value"])
    less, more = names if state == "first" else list(reversed(names))
    low, high = sorted(abs(end) for end in _list_limits(clear) or ())
    places = formatting.compute_decimals(low, high)
    amount = formatting.format_number(abs(clear["difference"]["value"]), places)
    amount += f" ({formatting.format_interval(low, high, places)})"
    where = "at every common gain" if len(sure) == len(points) else "at part of the common gains"
    return f"{less} forgets less than {more} {where}, by up to {amount}."


def _is_significant(point: MatchedPoint, sign: int) -> bool:
    """Return whether the difference is significantly above 0 (`sign` 1) or below it (-1)."""
    ends = _list_limits(point)
    return bool(ends and (ends[0] > 0 if sign > 0 else ends[1] < 0))
