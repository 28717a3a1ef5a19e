"""The tests of all watched values, moved on by the values of new requests.

What is watched shares alpha: of m values, each raises its alarm at a capital of m / alpha, so that the chance
that any of them ever raises a false one is alpha (Bonferroni, which holds whatever they have to do with each
other). A category has one test for each of its names, of whether a request has that name; their mean is one
test again. A value whose reference doesn't suffice takes its first values as reference, and tests those
after. State and values fix what comes out, however the values are cut into batches. Pure.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from engine.diagnostics.drift.martingale import begin, bet, ties
from engine.diagnostics.drift.watched import WATCHED, bins_of
from store.documents.serving.drift import BetState, TestState, WatchedName

MOST_NAMES = 8  # of a category that have a test of their own
LEAST_REFERENCE = 30  # values
OTHER = "other"
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
) -> TestState:
    """A test before its first value. `categories` are the names of a category; they must come from other rows
    than `reference`, or the commonest of them would seem to become rarer."""
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
    present = [value for value in reference if value is not None]
    state["bets"] = [begin(column) for column in _columns(state, present)]
    state["reference"] = len(present)
    if len(present) >= LEAST_REFERENCE:
        state["wanted"] = len(present)  # few are enough where they were chosen
    return state


def begun_anew(state: TestState, *, same_reference: bool) -> TestState:
    """The test after an alarm that somebody has seen: against the reference that it had, or, where what came
    is to be the new normal, against the values to come."""
    fresh = start(state["name"], [], categories=state["categories"][:-1], wanted=state["wanted"])
    fresh["seed"] = state["seed"] + 1
    if same_reference:
        fresh["bets"] = [begin(_reference_of(part)) for part in state["bets"]]
        fresh["reference"] = state["reference"]
    return fresh


def advance(state: TestState, values: Sequence[ValueOfRequest], log_threshold: float) -> TestState:
    """The test after these values, in the order of their places."""
    present = [value for value in values if value["value"] is not None]
    lacking = max(0, state["wanted"] - state["reference"])
    state = _referred(state, [value["value"] for value in present[:lacking]])
    tested = present[lacking:]
    return _tested(state, tested, log_threshold) if tested else state


def _referred(state: TestState, values: Sequence[Value]) -> TestState:
    """With more values in its reference."""
    if not values:
        return state
    columns = _columns(state, values)
    bets = [
        begin(np.concatenate([_reference_of(part), column]))
        for part, column in zip(state["bets"], columns, strict=True)
    ]
    return {**state, "bets": bets, "reference": state["reference"] + len(values)}


def _tested(state: TestState, values: Sequence[ValueOfRequest], log_threshold: float) -> TestState:
    columns = _columns(state, [value["value"] for value in values])
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


def _columns(state: TestState, values: Sequence[Value]) -> list[NDArray[np.int64]]:
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
