"""What two versions side by side come to, in sentences: which is better, by how much, or that it can't be
told."""

from __future__ import annotations

from datetime import datetime, timedelta

from engine.diagnostics.phrasing import MINUS, number, percent, plural
from store.documents.figures.estimate import Estimate
from store.documents.serving.side_by_side import ArmsLook, OutcomeKind, SideBySide

GOOD: dict[OutcomeKind, str] = {
    "labels": "right answers, by labels that came later",
    "thumbs": "answers with a thumb up",
    "errors": "answers given without failing",
}
ADVICE = (
    "Take the candidate's share away on the page Endpoints, and look at its answers below. What was wrong can"
    " become training rows."
)


def points(difference: Estimate) -> str:
    """ "−12 points (−20 to −3)"; the value alone where it has no interval."""
    ends = [difference["value"], difference["low"], difference["high"]]
    low, high = difference["low"], difference["high"]
    places = 1 if low is not None and high is not None and high - low < 0.1 else 0
    value, *limits = ["" if end is None else _signed(100 * end, places) for end in ends]
    return f"{value} points ({limits[0]} to {limits[1]})" if all(limits) else f"{value} points"


def _signed(value: float, places: int) -> str:
    text = number(value, places)
    return text if text.startswith(MINUS) or not float(text.replace(",", "")) else f"+{text}"


def worse_reason(pair: SideBySide, kind: OutcomeKind, look: ArmsLook, alpha: float) -> str:
    """Why the candidate has raised an alert."""
    shares = " against ".join(percent(arm["share"] or 0.0) for arm in (look["other"], look["live"]))
    callers = " against ".join(plural(arm["callers"], "caller") for arm in (look["other"], look["live"]))
    return (
        f"The candidate {pair['other']} is worse than {pair['live']}, the live version of {pair['model']}:"
        f" {shares} {GOOD[kind]}, a difference of {points(look['difference'])}; {callers}, each counted once."
        f" Without a difference this is ever said of a candidate with a chance of at most {100 * alpha:g}%,"
        " however often one looks."
    )


def holds(look: ArmsLook) -> bool:
    """Whether the last look is sure of a difference."""
    return look["p"] <= look["alpha"]


def kept_note(pair: SideBySide, keep_days: int, now: datetime) -> str:
    """What no longer counts as it is deleted; empty where all is there."""
    if pair["since"] is None or now - pair["since"] < timedelta(days=keep_days):
        return ""
    what = "failures" if pair["role"] == "candidate" else "copies"
    return (
        f"Requests are kept for {plural(keep_days, 'day')}: older {what} no longer count, so there may be no"
        " further look at them. Another share begins with answers of its own"
    )


def standing(pair: SideBySide, kind: OutcomeKind, look: ArmsLook) -> tuple[str, str]:
    """What is known now: in a word or two (worse, better, can't be told), and what it rests on."""
    sure, difference = look["sure"], look["difference"]
    again = f"Looked at again at {plural(look['next_look'], 'answer')}."
    if sure and not holds(look):
        was = f"It was {sure['verdict']} for sure at {plural(sure['answers'], 'answer')}, no longer at"
        return "No longer sure", f"{was} {plural(look['answers'], 'answer')}. {again}"
    if sure:
        rest = f"Sure since {plural(sure['answers'], 'answer')}."
        if sure["verdict"] == "better" and pair["role"] == "candidate":
            rest += " It may take over: promote it."
        return f"{sure['verdict'].capitalize()} than the live version", rest
    if difference["low"] is None:
        return "Can’t be told yet", f"{difference.get('why', '')}. {again}".lstrip(". ")
    if look.get("few", not look["look"]):
        return "Can’t be told yet", f"Too few callers for anything to be sure. {again}"
    return "No difference that can be told from luck", again
