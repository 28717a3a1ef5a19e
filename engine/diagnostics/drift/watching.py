"""The tests of all watched values, moved on by the values of new requests.

What is watched shares alpha: of m values, each raises its alarm at a capital of m / alpha, so that the chance
that any of them ever raises a false one is alpha (Bonferroni, which holds whatever they have to do with each
other). A category has one test for each of its names, of whether a request has that name; their mean is one
test again. A value whose reference doesn't suffice takes its first values as reference, and tests those
after. State and values fix what comes out, however the values are cut into batches.

The test of single values takes them to be drawn by chance, which those of an endpoint's hours, weekdays and
callers are not. So where the reference is of requests, its evidence is told at once, and an alarm waits until
whole days differ from the same weekdays of the first week (`whole_days`). Rows of a data set or an evaluation
have no time, so there the evidence is the alarm: requests of this time differ from these rows. Pure.
"""

from __future__ import annotations

import copy
import math
import zlib
from collections.abc import Mapping, Sequence
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from engine.diagnostics.drift import whole_days
from engine.diagnostics.drift.martingale import begin, bet, ties
from engine.diagnostics.drift.watched import WATCHED, bins_of
from store.documents.serving.drift import OTHER, BetState, DayTest, TestState, WatchedName

MOST_NAMES = 8  # of a category that have a test of their own
LEAST_REFERENCE = 30  # values
NEAR = 1.0  # above the lowest logarithm of the capital; from the last value that near it, it has risen

Value = float | str | None


class ValueOfRequest(TypedDict):
    """A watched value of one request; null where it has none."""

    place: int
    at: float
    value: Value


def threshold(alpha: float, watched: int) -> float:
    """Logarithm of the capital at which a value raises its alarm, of so many that are watched."""
    return math.log(max(1, watched) / alpha)


def start(
    name: WatchedName,
    reference: Sequence[Value],
    *,
    categories: Sequence[str] = (),
    wanted: int,
    seed: int = 0,
    by_days: bool = False,
) -> TestState:
    """A test before its first value. `categories` are the names of a category; they must come from other rows
    than `reference`, or the commonest of them would seem to become rarer. by_days: alarms wait for days."""
    names = [*list(dict.fromkeys(categories))[:MOST_NAMES], OTHER] if WATCHED[name].is_category else []
    state: TestState = {
        "name": name,
        "categories": names,
        "bets": [],
        "wanted": max(wanted, LEAST_REFERENCE),
        "reference": 0,
        "tested": 0,
        "log_wealth": 0.0,
        "largest": 0.0,
        "lowest": 0.0,
        "lowest_place": None,
        "lowest_at": None,
        "alarm_place": None,
        "alarm_at": None,
        "seed": zlib.crc32(f"{seed}/{name}".encode()),
    }
    if by_days:
        state["days"] = whole_days.begin()
    present = [value for value in reference if _is_there(value)]
    state["bets"] = [begin(column) for column in columns_of(state, present)]
    state["reference"] = len(present)
    if len(present) >= LEAST_REFERENCE:
        state["wanted"] = len(present)  # few are enough where they were chosen
    return state


def begun_anew(state: TestState, *, same_reference: bool) -> TestState:
    """The test after an alarm that somebody has seen: against the reference that it had, or, where what came
    is to be the new normal, against the values to come."""
    fresh = start(state["name"], [], categories=state["categories"][:-1], wanted=state["wanted"])
    fresh["seed"] = state["seed"] + 1
    if "days" in state:
        fresh["days"] = whole_days.begun_anew(state["days"], same_reference=same_reference)
    if same_reference:
        fresh["bets"] = [begin(_reference_of(part)) for part in state["bets"]]
        fresh["reference"] = state["reference"]
    return fresh


def advance(
    state: TestState, values: Sequence[ValueOfRequest], log_threshold: float, alpha: float = 0.05
) -> TestState:
    """The test after these values, in the order of their places. alpha: of this value, a month."""
    present = [value for value in values if _is_there(value["value"])]
    lacking = max(0, state["wanted"] - state["reference"])
    state = _referred(state, [value["value"] for value in present[:lacking]])
    tested = present[lacking:]
    after = _tested(state, tested, log_threshold) if tested else state
    return _by_days(state, after, present, log_threshold, alpha) if "days" in state and present else after


def _is_there(value: Value) -> bool:
    """A value that is not a number is none."""
    return value is not None and value == value


def _by_days(
    before: TestState, after: TestState, values: Sequence[ValueOfRequest], log_threshold: float, alpha: float
) -> TestState:
    """With these values in their days; the alarm is that of the first whole day that brings one, and of none
    without the evidence of single values."""
    days: DayTest = copy.deepcopy(before["days"])
    state: TestState = {**after, "days": days}
    state["alarm_place"], state["alarm_at"] = before["alarm_place"], before["alarm_at"]
    columns = columns_of(before, [value["value"] for value in values])
    for value, row in zip(values, zip(*columns, strict=True), strict=True):
        closed = whole_days.add(days, value["at"], value["place"], [int(each) for each in row])
        if not closed or state["alarm_place"] is not None or after["largest"] < log_threshold:
            continue
        since = whole_days.changed_since(days, alpha)
        if since is not None:
            state["alarm_place"], state["alarm_at"] = value["place"], value["at"]
            state["lowest_place"], state["lowest_at"] = since["place"], float(since["day"] * whole_days.DAY)
    return state


def _referred(state: TestState, values: Sequence[Value]) -> TestState:
    """With more values in its reference."""
    if not values:
        return state
    columns = columns_of(state, values)
    bets = [
        begin(np.concatenate([_reference_of(part), column]))
        for part, column in zip(state["bets"], columns, strict=True)
    ]
    return {**state, "bets": bets, "reference": state["reference"] + len(values)}


def _tested(state: TestState, values: Sequence[ValueOfRequest], log_threshold: float) -> TestState:
    columns = columns_of(state, [value["value"] for value in values])
    bets, paths = [], []
    for number, (part, column) in enumerate(zip(state["bets"], columns, strict=True)):
        random = ties(state["seed"] + 7_919 * number, state["tested"], len(column))
        path = bet(part, column, random)
        bets.append(path.state)
        paths.append(path.log_wealth)
    wealth = np.logaddexp.reduce(np.array(paths), axis=0) - math.log(len(paths))
    after: TestState = {**state, "bets": bets, "tested": state["tested"] + len(values)}
    after["log_wealth"] = float(wealth[-1])
    after["largest"] = max(state["largest"], float(wealth.max()))
    over = np.flatnonzero(wealth >= log_threshold)
    end = len(wealth)
    if state["alarm_place"] is None and len(over):
        end = int(over[0]) + 1
        after["alarm_place"], after["alarm_at"] = values[end - 1]["place"], values[end - 1]["at"]
    if state["alarm_place"] is None:  # what came before the alarm says since when
        lowest = np.minimum.accumulate(np.append(state["lowest"], wealth[:end]))[1:]
        after["lowest"] = float(lowest[-1])
        near = np.flatnonzero(wealth[:end] <= lowest + NEAR)
        if len(near):
            low = values[int(near[-1])]
            after["lowest_place"], after["lowest_at"] = low["place"], low["at"]
    return after


def columns_of(state: TestState, values: Sequence[Value]) -> list[NDArray[np.int64]]:
    """The bins of each test: of a number one, of a category one for each name."""
    watched = WATCHED[state["name"]]
    if not watched.is_category:
        return [bins_of(watched.scale, [float(value) for value in values if value is not None])]
    names = [value if value in state["categories"] else OTHER for value in values]
    return [np.array([name == category for name in names], np.int64) for category in state["categories"]]


def _reference_of(part: BetState) -> NDArray[np.int64]:
    """The bins of the reference's values, each as often as it came."""
    return np.repeat(np.array(part["reference_bins"], np.int64), part["reference_counts"])


def chosen_names(values: Mapping[str, int] | Sequence[str]) -> list[str]:
    """The commonest names of a category, those that have a test of their own."""
    counts = dict(values) if isinstance(values, Mapping) else _counted(values)
    return sorted(counts, key=lambda name: (-counts[name], name))[:MOST_NAMES]


def _counted(values: Sequence[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for value in values:
        counts[value] = counts.get(value, 0) + 1
    return counts
