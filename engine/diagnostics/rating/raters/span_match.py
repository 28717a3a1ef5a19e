"""How often two raters mark the very same span: F1 of exact matches, over texts.

Of two raters' spans of the same texts, twice the spans that both have (start, end and label) over all that
either has. It takes no chance into account, and a span that is off by one character matches nothing. Pure.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from engine.diagnostics.rating.raters.set_alpha import MarkedText, TextId
from engine.diagnostics.statistics.statistics import Interval, ratio_interval

Counts = dict[int, tuple[int, int]]  # by item: twice the matches, and spans of both
MIN_TEXTS = 50  # with a span of either, under which there is no interval
MIN_HITS = 8  # texts with a match, and with a span that has none, likewise


@dataclass(frozen=True)
class SpanMatch:
    """F1 of two raters; its n counts texts in which either marked something."""

    first: str
    second: str
    interval: Interval


def span_matches(
    texts: Sequence[MarkedText], weights: Mapping[int, float] | None = None
) -> tuple[Interval, list[SpanMatch]]:
    """Of all pairs of raters together, and of each two that marked texts in common."""
    by_text: dict[TextId, list[MarkedText]] = defaultdict(list)
    for text in texts:
        by_text[text.item, text.text].append(text)
    counts: dict[tuple[str, str], Counts] = defaultdict(lambda: defaultdict(lambda: (0, 0)))
    pooled: Counts = defaultdict(lambda: (0, 0))
    for (item, _), marked in by_text.items():
        for first, second in combinations(sorted(marked, key=lambda text: text.rater), 2):
            hits = 2 * len(set(first.spans) & set(second.spans))
            spans = len(first.spans) + len(second.spans)
            for of in (counts[first.rater, second.rater], pooled):
                of[item] = of[item][0] + hits, of[item][1] + spans
    pairs = [SpanMatch(*pair, _f1(of_pair, weights)) for pair, of_pair in sorted(counts.items())]
    return _f1(pooled, weights), pairs


def _f1(counts: Counts, weights: Mapping[int, float] | None) -> Interval:
    marked = {item: each for item, each in counts.items() if each[1]}
    n = len(marked)
    if not n:
        return Interval(math.nan, None, None, 0, why="no text that two people had was marked by either")
    weight = [1.0 if weights is None else weights[item] for item in marked]
    hits = [part * times for (part, _), times in zip(marked.values(), weight, strict=True)]
    spans = [part * times for (_, part), times in zip(marked.values(), weight, strict=True)]
    value = sum(hits) / sum(spans)
    matched = sum(part > 0 for part in hits)
    missed = sum(part < whole for part, whole in zip(hits, spans, strict=True))
    if n < MIN_TEXTS:
        texts = "1 text is" if n == 1 else f"{n} texts are"
        return Interval(
            value, None, None, n, why=f"{texts} too few (from {MIN_TEXTS} on there is an interval)"
        )
    if min(matched, missed) < MIN_HITS:
        what = "with a match" if matched < missed else "without a full match"
        few = min(matched, missed)
        return Interval(value, None, None, n, why=f"only {few} of {n:,} texts are {what}")
    at = ratio_interval(hits, spans)
    if at.low is None or at.high is None:
        return at
    return replace(at, low=max(0.0, at.low), high=min(1.0, at.high))
