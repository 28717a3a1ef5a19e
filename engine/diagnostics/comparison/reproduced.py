"""Whether the figures of a run came back when it was run again.

Both runs' figures come from a sample of rows. Where the same rows judged both, the difference is taken row by
row: what the choice of rows does cancels out, and its interval is that of the change alone. Else the two are
taken as independent, and the interval of the difference is that of two samples.

That two figures can't be told apart says little: with few rows nothing can. So it is a test of equivalence,
with a margin of what would matter. A figure came back (*within*) where the whole 95% interval of the
difference lies inside the margin, also with a few rows that this sample hasn't got; it is *outside* where the
whole interval, widened for the number of figures (Bonferroni), lies beyond it; else it can't be told. Said is
something of these two models: how far runs differ by their seed, one repetition can't tell.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from engine.diagnostics.phrasing import MINUS, alone, decimals, interval, measured, number, plural
from engine.diagnostics.statistics import combined
from engine.diagnostics.statistics.statistics import Interval
from store.documents.figures.estimate import Estimate
from store.documents.runs.bundle import BundleDifference, Came, ReproducedFigure, Reproduction, RunFigure

MARGINS = {  # by unit: how far a figure may move and matter to nobody
    "nats a token": 0.02,
    "share": 0.02,
    "area under the curve": 0.02,
    "0 to 2": 0.02,
}
UNSEEN_CHANGE = 1.0  # nats, or from right to wrong: the most that a row of a kind not seen is taken to change
UNSEEN_DEVIATIONS = 100.0  # and at most so many standard deviations of the rows' changes

Pairs = dict[str, Interval]  # key of a figure -> second minus first over the same rows


def reproduction(
    bundle: str,
    first: Sequence[RunFigure],
    second: Sequence[RunFigure],
    pairs: Pairs,
    differences: list[BundleDifference],
) -> Reproduction:
    """Each figure that one of the two has."""
    ours = {figure["key"]: figure for figure in second}
    keys = {figure["key"]: figure for figure in [*second, *first]}
    before = {figure["key"]: figure for figure in first}
    figures = [
        _figure(named, before.get(key), ours.get(key), pairs.get(key), len(keys))
        for key, named in keys.items()
    ]
    counts = {came: sum(figure["came"] == came for figure in figures) for came in CAME}
    return {
        "bundle": bundle,
        "sentence": _summary(counts, len(figures)),
        "same": counts["same"],
        "within": counts["within"],
        "outside": counts["outside"],
        "cant_tell": counts["cant_tell"],
        "figures": figures,
        "differences": differences,
    }


CAME: tuple[Came, ...] = ("same", "within", "outside", "cant_tell")


def _summary(counts: dict[Came, int], total: int) -> str:
    if not total:
        return "There is no figure to hold against the bundle's."
    if counts["same"] == total:
        return f"All {plural(total, 'figure')} came back exactly the same."
    words = {
        "same": "exactly the same",
        "within": "within their margin",
        "outside": "outside",
        "cant_tell": "that can't be told",
    }
    parts = [f"{counts[came]} {words[came]}" for came in CAME if counts[came]]
    return f"Of {plural(total, 'figure')}: {', '.join(parts)}."


def _figure(
    named: RunFigure, first: RunFigure | None, second: RunFigure | None, pair: Interval | None, figures: int
) -> ReproducedFigure:
    change = _change(first, second, pair)
    margin = MARGINS.get(named["unit"])
    came = _came(first, second, change, margin, figures)
    return {
        "key": named["key"],
        "title": named["title"],
        "unit": named["unit"],
        "first": _estimate(first),
        "second": _estimate(second),
        "change": change,
        "paired": pair is not None,
        "came": came,
        "sentence": _sentence(named, first, second, change, came),
    }


def _estimate(figure: RunFigure | None) -> Estimate | None:
    return None if figure is None else _of(figure)


def _of(figure: RunFigure) -> Estimate:
    return {"value": figure["value"], "low": figure["low"], "high": figure["high"], "n": figure["n"]}


def _change(first: RunFigure | None, second: RunFigure | None, pair: Interval | None) -> Estimate | None:
    """Second minus first. Two independent intervals that may be lopsided: each end is as far as the two ends
    that lie on its side, in squares (Newcombe 1998)."""
    if first is None or second is None:
        return None
    if pair is not None:
        return pair.to_dict()
    value = second["value"] - first["value"]
    n = min(first["n"], second["n"])
    if first["low"] is None or first["high"] is None or second["low"] is None or second["high"] is None:
        return {"value": value, "low": None, "high": None, "n": n}
    below = math.hypot(second["value"] - second["low"], first["high"] - first["value"])
    above = math.hypot(second["high"] - second["value"], first["value"] - first["low"])
    return {"value": value, "low": value - below, "high": value + above, "n": n}


def _came(
    first: RunFigure | None,
    second: RunFigure | None,
    change: Estimate | None,
    margin: float | None,
    figures: int,
) -> Came:
    if first is None or second is None:
        return "cant_tell"
    if first["value"] == second["value"]:
        return "same"
    if change is None or margin is None or change["low"] is None or change["high"] is None:
        return "cant_tell"
    unseen = _unseen(change["high"] - change["low"], change["n"])
    if -margin < change["low"] - unseen and change["high"] + unseen < margin:
        return "within"
    wide = combined.widened(change, figures)
    if wide["low"] is None or wide["high"] is None:
        return "cant_tell"
    return "outside" if wide["low"] > margin or wide["high"] < -margin else "cant_tell"


def _unseen(width: float, n: int) -> float:
    """What rows of a kind that none of n rows is of may add to the difference: their share, with a chance of
    2.5% at most, times what such a row may change by."""
    deviation = width / 4 * math.sqrt(n)
    return (1 - math.exp(math.log(0.025) / n)) * min(UNSEEN_CHANGE, UNSEEN_DEVIATIONS * deviation)


def _sentence(
    named: RunFigure,
    first: RunFigure | None,
    second: RunFigure | None,
    change: Estimate | None,
    came: Came,
) -> str:
    title, unit = named["title"][:1].upper() + named["title"][1:], named["unit"]
    if first is None or second is None:
        there = "the second run alone" if first is None else "the first run alone"
        return f"{title}: {there} has it."
    if came == "same":
        return f"{title}: {_words(first)} {unit}, exactly the same again."
    ending = _ending(came, change, MARGINS.get(named["unit"]))
    moved = ""
    if change and change["low"] is not None and change["high"] is not None:
        places = decimals(change["low"], change["high"])
        value = number(change["value"], places)
        plus = "" if value.startswith(MINUS) else "+"
        moved = f", a change of {plus}{value} ({interval(change['low'], change['high'])})"
    return f"{title}: first {_words(first)}, again {_words(second)} {unit}{moved}; {ending}."


def _ending(came: Came, change: Estimate | None, margin: float | None) -> str:
    if margin is None:
        return "nobody has said how much of it would matter"
    limit = alone(margin)
    if came == "within":
        return f"within {limit} of the first"
    if came == "outside":
        return f"outside: it surely differs by more than {limit}, by the seed or by what was done"
    if change is None or change["low"] is None:
        return "no interval to tell by"
    return f"with {plural(change['n'], 'row')} it can't be told whether it differs by more than {limit}"


def _words(figure: RunFigure) -> str:
    return measured(_of(figure))
