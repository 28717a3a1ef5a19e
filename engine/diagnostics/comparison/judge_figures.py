"""What a judging of two models' answers says in words: who is preferred, what order and length did, what was
not judged. For the screen and for the command line. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from engine.diagnostics.phrasing import decimals, number, plural

Document = dict[str, Any]


@dataclass(frozen=True)
class Sides:
    """What the two are called. `turned`: the one that is spoken of is the judging's second."""

    one: str = "this one"
    other: str = "the other one"
    turned: bool = False


def headline(judging: Document, sides: Sides) -> str:
    """Which one is preferred, if that can be told; `judging` is the judge job's result."""
    figure = judging["figure"]
    if figure["failed"]:
        return figure["failed"]
    if figure["value"] is None:
        return "No pair could be judged."
    if judging["pairs"]["split"] == figure["n"]:
        return (
            f"The order in which they were shown decided {_all(figure['n'])}: which is better can't be told"
        )
    share = _turned(figure) if sides.turned else figure
    lead = "Which answers are better can't be told"
    if share["low"] is not None and share["low"] > 0.5:
        lead = f"The judge prefers {sides.one}'s answers"
    elif share["high"] is not None and share["high"] < 0.5:
        lead = f"The judge prefers {sides.other}'s answers"
    wins = f"{sides.one} wins {_estimate(share)} of {plural(figure['n'], 'pair')}, ties as half"
    return f"{lead}: {wins}"


def _all(count: int) -> str:
    return f"all {count:,} pairs" if count > 1 else "the one pair"


def _turned(share: Document) -> Document:
    low, high = share["low"], share["high"]
    bounds = {"low": None if high is None else 1 - high, "high": None if low is None else 1 - low}
    return share | {"value": 1 - share["value"]} | bounds


def _estimate(share: Document) -> str:
    """ "35% (23 to 47%)" of {value, low, high}."""
    if share["low"] is None or share["high"] is None:
        return f"{number(100 * share['value'], 0)}% (no interval)"
    places = decimals(100 * share["low"], 100 * share["high"])
    value, low, high = (number(100 * share[name], places) for name in ("value", "low", "high"))
    return f"{value}% ({low} to {high}%)"


def sentences(judging: Document, sides: Sides) -> list[str]:
    """How the pairs fell, what order and length did, and what was not judged."""
    pairs, figure = judging["pairs"], judging["figure"]
    if not figure["n"]:  # the headline has said why
        return [f"{plural(pairs['unjudged'], 'pair')} not judged."]
    names = ("second", "first") if sides.turned else ("first", "second")
    one, other = (pairs[name] for name in names)
    lines = [
        f"In both orders {sides.one} was better {plural(one, 'time')}, {sides.other} {plural(other, 'time')};"
        f" {plural(pairs['ties'], 'tie')}."
    ]
    lines += _of_order(pairs, figure["details"].get("position"))
    lines += _of_length(judging, sides)
    if pairs["unjudged"]:
        why = ", ".join(f"{reason} ({rows:,})" for reason, rows in list(judging["reasons"].items())[:3])
        every = pairs["unjudged"] + figure["n"]
        lines.append(f"{pairs['unjudged']:,} of {plural(every, 'pair')} not judged: {why}.")
    return [*lines, *judging["notices"]]


def _of_order(pairs: Document, position: Document | None) -> list[str]:
    if not position:
        return []
    split, agree = pairs["split"], _estimate(position["agree"])
    decided = "In no pair did the order in which the two were shown decide"
    if split:
        decided = (
            f"In {plural(split, 'pair')} the order in which the two were shown decided, which counts as a"
        )
        decided += " tie"
    lines = [f"{decided}; both orders agree in {agree}."]
    shown = position["first_shown"]
    if shown:
        lines.append(
            f"Where they don't, the answer that was shown first won in {_estimate(shown)} (n {shown['n']:,})."
        )
    return lines


def _of_length(judging: Document, sides: Sides) -> list[str]:
    length = judging["figure"]["details"].get("length")
    if not length:
        return []
    decided = judging["pairs"]["first"] + judging["pairs"]["second"]
    if not decided:
        return ["Whether length decides can't be told: no pair was decided in both orders."]
    longer = length["longer"]
    if longer is None:
        return [f"Both answers are equally long in {plural(decided, 'decided pair')}."]
    lines = [
        f"The longer answer was preferred in {_estimate(longer)} of {plural(longer['n'], 'decided pair')} of"
        " unequal length."
    ]
    if length["problem"]:
        return [*lines, f"Who would win at equal length can't be told: {length['problem']}."]
    equal = _turned(length["equal"]) if sides.turned else length["equal"]
    at_equal = f"At equal length {sides.one} would win {_estimate(equal)} of decided pairs (n {equal['n']:,})"
    return [*lines, at_equal + _whether_length_explains(judging["figure"], equal, sides.turned) + "."]


def _whether_length_explains(figure: Document, equal: Document, turned: bool) -> str:
    share = _turned(figure) if turned else figure
    if None in (share["low"], share["high"]) or share["low"] <= 0.5 <= share["high"]:
        return ""
    if equal["low"] <= 0.5 <= equal["high"]:
        return ", so that length alone may be what the judge prefers"
    return "" if (equal["low"] > 0.5) == (share["low"] > 0.5) else ": the other way round, length aside"
