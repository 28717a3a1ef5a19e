"""Which way a watched value went, in a sentence: what the reference had, and what came since the change.

These are the values that were seen, and no estimates: that something has changed is said by the test, and a
figure read off when its alarm rises looks a little larger than the change is. Pure.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from engine.diagnostics.drift.watched import WATCHED, NameOf, Scale, value_of
from engine.diagnostics.drift.watching import Value, columns_of
from engine.diagnostics.phrasing import number, percent, perplexity
from store.documents.serving.drift import BetState, TestState

Counts = dict[int, int]  # bin -> values
READ: dict[Scale, str] = {
    "length": "A median of {} characters",
    "share": "{} on average",
    "distance": "A median of {}",
    "logprob": "A median probability of {}",
}


def direction(state: TestState, changed: Sequence[Value], name_of: NameOf) -> str:
    """A sentence; empty where both sides read the same, or one of them has no value. changed: the values
    since the change; name_of: how a name of a category reads."""
    watched = WATCHED[state["name"]]
    present = [value for value in changed if value is not None]
    if watched.scale == "category":
        return _category(state, present, name_of)
    before, since = _reference(state["bets"][0]), dict(Counter(columns_of(state, present)[0].tolist()))
    if not before or not since:
        return ""
    if watched.scale == "perplexity":
        return _perplexities(before, since)
    first, second = (_typical(watched.scale, counts) for counts in (before, since))
    return (
        "" if first == second else _sentence(f"{READ[watched.scale].format(first)} in", before, since, second)
    )


def _sentence(first: str, before: Counts, since: Counts, second: str) -> str:
    n = _total(since)
    return f"{first} the {_total(before):,} values of the reference, {second} in the {n:,} since then."


def _reference(bet: BetState) -> Counts:
    return dict(zip(bet["reference_bins"], bet["reference_counts"], strict=True))


def _total(counts: Counts) -> int:
    return sum(counts.values())


def _mean(scale: Scale, counts: Counts) -> float:
    return sum(value_of(scale, place) * n for place, n in counts.items()) / _total(counts)


def _median(scale: Scale, counts: Counts) -> float:
    """The middle value, the lower one of two."""
    left = (_total(counts) + 1) // 2
    for place in sorted(counts):
        left -= counts[place]
        if left <= 0:
            return value_of(scale, place)
    raise AssertionError("there is a middle value")


def _typical(scale: Scale, counts: Counts) -> str:
    """As people read it: characters, a share, a distance, or how likely a token or a label was."""
    if scale == "share":
        return percent(_mean(scale, counts))
    middle = _median(scale, counts)
    if scale == "logprob":
        return percent(math.exp(min(0.0, middle)))
    return number(middle, 0 if scale == "length" else 2)


def _perplexities(before: Counts, since: Counts) -> str:
    """By geometric means."""
    nats = [_mean("perplexity", counts) for counts in (before, since)]
    texts = [perplexity(math.exp(value)) for value in nats]
    if texts[0] == texts[1]:
        return ""
    likely = "less" if nats[1] > nats[0] else "more"
    return (
        f"Answers are {likely} likely to the base model than before: perplexity {texts[0]} in the reference,"
        f" {texts[1]} in answers since."
    )


def _category(state: TestState, changed: Sequence[Value], name_of: NameOf) -> str:
    """The name whose share moved furthest."""
    after = [dict(Counter(column.tolist())) for column in columns_of(state, changed)]
    sides = zip(state["categories"], map(_reference, state["bets"]), after, strict=True)
    moved = [
        (abs(_mean_place(since) - _mean_place(before)), name, before, since)
        for name, before, since in sides
        if before and since
    ]
    if not moved:
        return ""
    _, name, before, since = max(moved, key=lambda each: each[0])
    first, second = percent(_mean_place(before)), percent(_mean_place(since))
    if first == second:
        return ""
    who = name_of(state["name"], name)
    return _sentence(f"{who[:1].upper()}{who[1:]} is {first} of", before, since, second)


def _mean_place(counts: Counts) -> float:
    """Of values that are 0 or 1."""
    return sum(place * n for place, n in counts.items()) / _total(counts)
