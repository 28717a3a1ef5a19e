"""Gain against forgetting over the runs of a project: which runs are worth having, and methods at equal gain.

A run is dominated where another gains as much or more and forgets as little or less, and is better in one of
the two. The front is what nobody dominates. Points are estimates: a run off the front whose difference from a
front member can't be told from noise on either axis is said to be like it. Where both were measured on the
same items, the caller gives the paired difference; else it is taken as of independent runs. Methods are
compared at the same gain, along the line through the runs of a sweep, and not where their gains don't
overlap. Pure: documents in, documents out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal, TypedDict

from scipy import special

from engine.diagnostics import phrasing
from engine.diagnostics.statistics import Interval

GRID = 5  # gains at which two sweeps are compared
SURELY = 4.0  # standard errors of independent figures, from which pairs need not be asked

Document = dict[str, Any]


class Run(TypedDict):
    """One run: `gain` (more is better) and `forgetting` (less is better) as {value, low, high}; `group` is
    what is compared (a method), `setting` what its sweep varies (the learning rate)."""

    run: str
    group: str
    setting: float
    gain: Mapping[str, Any]
    forgetting: Mapping[str, Any]


Axis = Literal["gain", "forgetting"]
Pair = Callable[[str, str, Axis], Interval | None]  # a figure of one run minus that of the other


def unpaired(one: str, other: str, axis: Axis) -> Interval | None:
    """Nothing is known of the two on the same items."""
    return None


def front(runs: Sequence[Run], pair: Pair = unpaired) -> list[Document]:
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


def _known(run: Run) -> bool:
    values = (run["gain"].get("value"), run["forgetting"].get("value"))
    return all(value is not None and math.isfinite(value) for value in values)


def _dominates(one: Run, other: Run) -> bool:
    more = one["gain"]["value"] - other["gain"]["value"]
    less = other["forgetting"]["value"] - one["forgetting"]["value"]
    return bool(more >= 0 and less >= 0 and (more > 0 or less > 0))


def _alike(one: Run, other: Run, pair: Pair) -> bool:
    axes: tuple[Axis, ...] = ("gain", "forgetting")
    if any(_distance(one[axis], other[axis]) > SURELY for axis in axes):
        return False
    return not any(_apart(one, other, axis, pair(one["run"], other["run"], axis)) for axis in axes)


def _apart(one: Run, other: Run, axis: Axis, paired: Interval | None) -> bool:
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


def matched(first: Sequence[Run], second: Sequence[Run], *, comparisons: int = 1) -> Document:
    """Two sweeps, each runs of one group, at the same gain.

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
    points = [_point(sweeps, gain, len(gains) * comparisons) for gain in gains]
    state = _state(points)
    found |= {"overlap": [low, high], "points": points, "state": state}
    return found | {"sentence": _sentence(names, points, state)}


def at_gain(sweep: Sequence[Run], gain: float, *, steepness: float = 0.0) -> tuple[float, float] | None:
    """Forgetting at that gain and its standard error, along the line through the runs in the order of their
    setting; the least where the line comes by more than once, None where it doesn't. steepness: of the line
    that a single run is held against.

    An error of a run's gain moves the line along its slope, the steeper one of the two where it bends.
    """
    ordered = sorted(sweep, key=lambda run: run["setting"])
    slopes = [_slope(one, other) for one, other in pairwise(ordered)]
    errors = [
        math.hypot(
            _error(run["forgetting"]), max(slopes[max(0, i - 1) : i + 1] or [steepness]) * _error(run["gain"])
        )
        for i, run in enumerate(ordered)
    ]
    found = []
    for place, (one, other) in enumerate(pairwise(ordered)):
        start, end = one["gain"]["value"], other["gain"]["value"]
        if min(start, end) <= gain <= max(start, end) and start != end:
            share = (gain - start) / (end - start)
            value = (1 - share) * one["forgetting"]["value"] + share * other["forgetting"]["value"]
            parts = ((1 - share, errors[place]), (share, errors[place + 1]))
            found.append((value, math.hypot(*(weight * error for weight, error in parts if weight))))
    alone = zip(ordered, errors, strict=True)
    found += [(run["forgetting"]["value"], e) for run, e in alone if run["gain"]["value"] == gain]
    return min(found) if found else None


def _slope(one: Run, other: Run) -> float:
    """How steeply forgetting rises with gain between two runs; 0 where they gain the same."""
    run = abs(other["gain"]["value"] - one["gain"]["value"])
    return abs(other["forgetting"]["value"] - one["forgetting"]["value"]) / run if run else 0.0


def _steepest(sweep: Sequence[Run]) -> float:
    ordered = sorted(sweep, key=lambda run: run["setting"])
    return max((_slope(one, other) for one, other in pairwise(ordered)), default=0.0)


def _span(sweep: Sequence[Run]) -> tuple[float, float]:
    gains = [run["gain"]["value"] for run in sweep]
    return (min(gains), max(gains)) if gains else (math.inf, -math.inf)


def _point(sweeps: Sequence[Sequence[Run]], gain: float, looks: int) -> Document:
    others = (_steepest(sweeps[1]), _steepest(sweeps[0]))
    both = [at_gain(sweep, gain, steepness=k) for sweep, k in zip(sweeps, others, strict=True)]
    one, other = both
    if one is None or other is None:
        raise ValueError(f"No sweep of the two reaches a gain of {gain}.")
    value = one[0] - other[0]
    half = _z(looks) * math.hypot(one[1], other[1])
    bounds = (
        {"low": value - half, "high": value + half} if math.isfinite(half) else {"low": None, "high": None}
    )
    return {"gain": gain, "first": one[0], "second": other[0], "difference": {"value": value, **bounds}}


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
