"""Whether the figures of a run came back when it was run again.

Both runs' figures come from a sample of rows, and training has noise of its own. Where the same rows judged
both, the difference is taken row by row: what the choice of rows does cancels out, and its interval is that
of the change alone. Else the two are taken as independent, and the interval of the difference is that of two
samples. A figure is *outside* where the second value lies outside the first's interval **and** the difference
can be told from none: a value outside alone comes up in one of six independent repetitions, and rows in pairs
show differences in the sixth digit that matter to nobody.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from engine.diagnostics.phrasing import MINUS, decimals, interval, measured, number, plural
from engine.diagnostics.statistics.statistics import Interval
from store.documents.figures.estimate import Estimate
from store.documents.runs.bundle import BundleDifference, Came, ReproducedFigure, Reproduction, RunFigure

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
    figures = [_figure(named, before.get(key), ours.get(key), pairs.get(key)) for key, named in keys.items()]
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
        "within": "within their interval",
        "outside": "outside",
        "cant_tell": "without an interval to tell by",
    }
    parts = [f"{counts[came]} {words[came]}" for came in CAME if counts[came]]
    return f"Of {plural(total, 'figure')}: {', '.join(parts)}."


def _figure(
    named: RunFigure, first: RunFigure | None, second: RunFigure | None, pair: Interval | None
) -> ReproducedFigure:
    change = _change(first, second, pair)
    came = _came(first, second, change)
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


def _came(first: RunFigure | None, second: RunFigure | None, change: Estimate | None) -> Came:
    if first is None or second is None:
        return "cant_tell"
    if first["value"] == second["value"]:
        return "same"
    if first["low"] is not None and first["high"] is not None:
        if first["low"] <= second["value"] <= first["high"]:
            return "within"
    elif change is None or change["low"] is None:
        return "cant_tell"
    if change is None or change["low"] is None or change["high"] is None:
        return "outside"
    return "within" if change["low"] <= 0 <= change["high"] else "outside"


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
    ending = {
        "within": "within the interval",
        "outside": "outside: it didn't come back",
        "cant_tell": "no interval to tell by",
    }[came]
    moved = ""
    if change and change["low"] is not None and change["high"] is not None:
        places = decimals(change["low"], change["high"])
        value = number(change["value"], places)
        plus = "" if value.startswith(MINUS) else "+"
        moved = f", a change of {plus}{value} ({interval(change['low'], change['high'])})"
    return f"{title}: first {_words(first)}, again {_words(second)} {unit}{moved}; {ending}."


def _words(figure: RunFigure) -> str:
    return measured(_of(figure))
