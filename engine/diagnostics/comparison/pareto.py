"""Gain against forgetting over the runs of a project: which runs are worth having, and methods at equal gain.

A run is dominated where another gains as much or more and forgets as little or less, and is better in one of
the two. The front is what nobody dominates. Points are estimates: a run off the front whose difference from a
front member can't be told from noise on either axis is said to be like it. Methods are compared at the same
gain, along the line through the runs of a sweep, and not where their gains don't overlap. Where runs were
measured on the same items, the caller gives their paired differences; else they are taken as independent.
Pure: documents in, documents out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise, product
from typing import Any, Literal, TypedDict

import numpy as np
from numpy.typing import NDArray
from scipy import special

from engine.diagnostics import phrasing
from engine.diagnostics.statistics.statistics import Interval

GRID = 5  # gains at which two sweeps are compared
SURELY = 4.0  # standard errors of independent figures, from which pairs need not be asked

Document = dict[str, Any]
Floats = NDArray[np.float64]


class RunPoint(TypedDict):
    """One run: `gain` (more is better) and `forgetting` (less is better) as {value, low, high}; `group` is
    what is compared (a method), `setting` what its sweep varies (the learning rate)."""

    run: str
    group: str
    setting: float
    gain: Mapping[str, Any]
    forgetting: Mapping[str, Any]


Axis = Literal["gain", "forgetting"]
AXES: tuple[Axis, Axis] = ("gain", "forgetting")
PairedDifference = Callable[[str, str, Axis], Interval | None]  # a figure of one run minus that of the other


def unpaired(one: str, other: str, axis: Axis) -> Interval | None:
    """Nothing is known of the two on the same items."""
    return None


def front(runs: Sequence[RunPoint], pair: PairedDifference = unpaired) -> list[Document]:
    """Of each run {run, status: front | alike | dominated | unknown, dominated_by: [runs of the front],
    alike: [runs of the front]}; unknown is a run without one of the two figures. `pair` of two runs: their
    difference where they were measured on the same items. It is asked for pairs that independent figures
    don't surely tell apart."""
    known = [run for run in runs if _known(run)]
    best = [run for run in known if not any(_dominates(other, run) for other in known)]
    found = []
    for run in runs:
        if run not in known:
            found.append({"run": run["run"], "status": "unknown", "dominated_by": [], "alike": []})
            continue
        above = [other["run"] for other in best if _dominates(other, run)]
        alike = [other["run"] for other in best if other is not run and _alike(run, other, pair)]
        status = "front" if run in best else "alike" if alike else "dominated"
        found.append({"run": run["run"], "status": status, "dominated_by": above, "alike": alike})
    return found


def _known(run: RunPoint) -> bool:
    values = (run["gain"].get("value"), run["forgetting"].get("value"))
    return all(value is not None and math.isfinite(value) for value in values)


def _dominates(one: RunPoint, other: RunPoint) -> bool:
    more = one["gain"]["value"] - other["gain"]["value"]
    less = other["forgetting"]["value"] - one["forgetting"]["value"]
    return bool(more >= 0 and less >= 0 and (more > 0 or less > 0))


def _alike(one: RunPoint, other: RunPoint, pair: PairedDifference) -> bool:
    if any(_distance(one[axis], other[axis]) > SURELY for axis in AXES):
        return False
    return not any(_apart(one, other, axis, pair(one["run"], other["run"], axis)) for axis in AXES)


def _apart(one: RunPoint, other: RunPoint, axis: Axis, paired: Interval | None) -> bool:
    """Whether two figures are told apart: in pairs where that gives an interval."""
    if paired is not None and paired.low is not None:
        return paired.above or paired.below
    return _distance(one[axis], other[axis]) > _z(1)


def _distance(here: Mapping[str, Any], there: Mapping[str, Any]) -> float:
    """Between two figures, in standard errors of independent ones."""
    error, apart = math.hypot(_error(here), _error(there)), abs(here["value"] - there["value"])
    return float(apart / error) if error else (math.inf if apart else 0.0)


def _error(interval: Mapping[str, Any]) -> float:
    """Standard error by the width of a 95% interval; without one nothing can be told apart."""
    if interval.get("low") is None or interval.get("high") is None:
        return math.inf
    return float(interval["high"] - interval["low"]) / (2 * _z(1))


def _z(comparisons: int) -> float:
    return float(special.ndtri(1 - 0.025 / comparisons))


@dataclass(frozen=True)
class LinePart:
    """A run's part in a point of the line: its weight there, and how steeply forgetting rises with gain on
    either side of it."""

    run: RunPoint
    weight: float
    slopes: tuple[float, ...]


@dataclass(frozen=True)
class Reached:
    """What a sweep forgets at a gain, and the runs that say so."""

    value: float
    parts: tuple[LinePart, ...]


def matched(
    first: Sequence[RunPoint],
    second: Sequence[RunPoint],
    *,
    comparisons: int = 1,
    pair: PairedDifference = unpaired,
) -> Document:
    """Two sweeps, each runs of one group, at the same gain; `pair` as for `front`.

    Answers {first, second (groups), overlap: [low, high] | null, points: [{gain, first, second: forgetting,
    difference: {value, low, high}}], state: first | second | alike | mixed | no_overlap, sentence}. The
    difference is first minus second, at 1 - 0.05 / (gains x comparisons).
    """
    sweeps = [[run for run in runs if _known(run)] for runs in (first, second)]
    names = [runs[0]["group"] if runs else "" for runs in (first, second)]
    found: Document = {"first": names[0], "second": names[1], "overlap": None, "points": []}
    spans = [_span(sweep) for sweep in sweeps]
    low, high = max(s[0] for s in spans), min(s[1] for s in spans)
    if low > high:
        return found | {"state": "no_overlap", "sentence": _no_overlap(names, spans)}
    gains = [low, *(low + (high - low) * i / (GRID - 1) for i in range(1, GRID - 1)), high]
    gains = sorted({min(gain, high) for gain in gains})  # rounding must not lead past the last run
    points = [_point(sweeps, gain, len(gains) * comparisons, pair) for gain in gains]
    state = _state(points)
    found |= {"overlap": [low, high], "points": points, "state": state}
    return found | {"sentence": _sentence(names, points, state)}


def at_gain(sweep: Sequence[RunPoint], gain: float, *, steepness: float = 0.0) -> Reached | None:
    """Forgetting at that gain along the line through the runs in the order of their setting; the least where
    the line comes by more than once, None where it doesn't. steepness: of the line that a single run is held
    against."""
    ordered = sorted(sweep, key=lambda run: run["setting"])
    slopes = [_slope(one, other) for one, other in pairwise(ordered)]
    beside = [tuple(slopes[max(0, i - 1) : i + 1]) or (steepness,) for i in range(len(ordered))]
    alone = zip(ordered, beside, strict=True)
    found = [
        Reached(run["forgetting"]["value"], (LinePart(run, 1.0, steep),))
        for run, steep in alone
        if run["gain"]["value"] == gain
    ]
    for place, (one, other) in enumerate(pairwise(ordered)):
        start, end = one["gain"]["value"], other["gain"]["value"]
        if min(start, end) < gain < max(start, end):
            share = (gain - start) / (end - start)
            value = (1 - share) * one["forgetting"]["value"] + share * other["forgetting"]["value"]
            parts = LinePart(one, 1 - share, beside[place]), LinePart(other, share, beside[place + 1])
            found.append(Reached(value, parts))
    return min(found, key=lambda reached: reached.value) if found else None


def deviation(parts: Sequence[LinePart], pair: PairedDifference = unpaired) -> float:
    """Standard error of the sum of what these runs forget at a gain, each times its weight.

    An error of a run's gain moves the line along its slope; where the line bends, along the one of the two
    that makes the sum least sure. What rows have in common falls out of a difference of runs that were
    measured on them.
    """
    runs, weights = [part.run for part in parts], np.array([part.weight for part in parts])
    along = [weights * steep for steep in product(*(part.slopes for part in parts))]
    lost = _variance(runs, [weights], "forgetting", pair)
    return math.sqrt(lost + _variance(runs, along, "gain", pair))


def _variance(runs: Sequence[RunPoint], sums: Sequence[Floats], axis: Axis, pair: PairedDifference) -> float:
    """The largest of the variances of these weighted sums of a figure of the runs.

    Of runs of which every two were measured in pairs, with weights a that add up to A, it is A^2 times the
    variance of one less the sum of a_i a_j Var(x_i - x_j) over pairs (from the definition; of the variances
    of one the largest is taken). Else the runs are taken as independent.
    """
    alone = np.square([_error(run[axis]) for run in runs])
    if not np.isfinite(alone).all():
        return math.inf
    apart = _apart_in_pairs(runs, axis, pair)
    if apart is None:
        return max(float(a**2 @ alone) for a in sums)
    return max(0.0, *(float(a.sum() ** 2 * alone.max() - a @ apart @ a / 2) for a in sums))


def _apart_in_pairs(runs: Sequence[RunPoint], axis: Axis, pair: PairedDifference) -> Floats | None:
    """Var(x_i - x_j) [runs, runs]; None where it is not known of every two.

    Standard errors fit each other (those of sums follow from those of pairs), limits hold what few and skew
    rows add: so the errors are taken, raised as the limits of that pair ask for which they ask most.
    """
    errors, raised = np.zeros((len(runs), len(runs))), 1.0
    for i, j in combinations(range(len(runs)), 2):
        found = pair(runs[i]["run"], runs[j]["run"], axis)
        if found is None or found.low is None:
            return None
        wide = _error(found.to_dict())
        errors[i, j] = errors[j, i] = found.se or wide
        raised = max(raised, wide / found.se if found.se else 1.0)
    return np.square(raised * errors)


def _slope(one: RunPoint, other: RunPoint) -> float:
    """How steeply forgetting rises with gain between two runs; 0 where they gain the same."""
    run = other["gain"]["value"] - one["gain"]["value"]
    return float((other["forgetting"]["value"] - one["forgetting"]["value"]) / run) if run else 0.0


def _steepest(sweep: Sequence[RunPoint]) -> float:
    ordered = sorted(sweep, key=lambda run: run["setting"])
    return max((_slope(one, other) for one, other in pairwise(ordered)), default=0.0, key=abs)


def _span(sweep: Sequence[RunPoint]) -> tuple[float, float]:
    gains = [run["gain"]["value"] for run in sweep]
    return (min(gains), max(gains)) if gains else (math.inf, -math.inf)


def _point(sweeps: Sequence[Sequence[RunPoint]], gain: float, looks: int, pair: PairedDifference) -> Document:
    others = (_steepest(sweeps[1]), _steepest(sweeps[0]))
    both = [at_gain(sweep, gain, steepness=k) for sweep, k in zip(sweeps, others, strict=True)]
    one, other = both
    if one is None or other is None:
        raise ValueError(f"No sweep of the two reaches a gain of {gain}.")
    value = one.value - other.value
    taken_off = [LinePart(part.run, -part.weight, part.slopes) for part in other.parts]
    half = _z(looks) * deviation([*one.parts, *taken_off], pair)
    bounds = (
        {"low": value - half, "high": value + half} if math.isfinite(half) else {"low": None, "high": None}
    )
    return {"gain": gain, "first": one.value, "second": other.value, "difference": {"value": value, **bounds}}


def _state(points: Sequence[Document]) -> str:
    sure = [p["difference"] for p in points if p["difference"]["low"] is not None]
    less = any(d["high"] < 0 for d in sure)
    more = any(d["low"] > 0 for d in sure)
    return "mixed" if less and more else "first" if less else "second" if more else "alike"


def _no_overlap(names: Sequence[str], spans: Sequence[tuple[float, float]]) -> str:
    if any(low > high for low, high in spans):
        return "There are not both kinds of run to compare."
    said = [f"{name} {_reach(*span)}" for name, span in zip(names, spans, strict=True)]
    return f"They never gain the same ({'; '.join(said)}): their forgetting can't be compared at equal gain."


def _reach(low: float, high: float) -> str:
    return f"from {phrasing.interval(low, high, 2)}" if low < high else f"at {phrasing.number(low, 2)}"


def _sentence(names: Sequence[str], points: Sequence[Document], state: str) -> str:
    if state == "mixed":
        return f"At some gains {names[0]} forgets less, at others {names[1]} does."
    if state == "alike":
        return f"At the same gain {names[0]} and {names[1]} can't be told apart by what they forget."
    sign = -1 if state == "first" else 1
    sure = [p for p in points if _sure(p["difference"], sign)]
    clear = max(sure, key=lambda p: sign * p["difference"]["value"])["difference"]
    less, more = names if state == "first" else list(reversed(names))
    low, high = sorted((abs(clear["low"]), abs(clear["high"])))
    places = phrasing.decimals(low, high)
    amount = f"{phrasing.number(abs(clear['value']), places)} ({phrasing.interval(low, high, places)})"
    where = (
        "at every gain that both reach" if len(sure) == len(points) else "at a part of the gains they share"
    )
    return f"{less} forgets less than {more} {where}, by up to {amount}."


def _sure(difference: Mapping[str, Any], sign: int) -> bool:
    if difference["low"] is None:
        return False
    return bool(difference["low"] > 0 if sign > 0 else difference["high"] < 0)
