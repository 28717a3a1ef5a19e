"""Do alpha of sets of labels and of spans cover, and the F1 of exact spans?"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np

from bench.ratings import HIGH, LOW, RARE_HIGH, holds
from bench.truths import Rate
from engine.diagnostics.rating.raters.set_alpha import LabelledSpan, MarkedText, mark_alpha, set_alpha
from engine.diagnostics.rating.raters.span_match import span_matches
from engine.diagnostics.statistics.statistics import Interval

Draw = Callable[[np.random.Generator], bool | None]
DRAWS = 1_000
ENDLESS = 10_000  # items of the truth
TOPICS = ("price", "tone", "delivery", "quality", "service")


class Crowd(NamedTuple):
    """keeps: the chance that a rater gives what is there; adds: that they give each thing that is not.
    common: the chance of each label, or the mean number of spans of a text."""

    keeps: float
    adds: float
    common: tuple[float, ...]


SETS = {
    "fair agreement": Crowd(0.75, 0.1, (0.5, 0.3, 0.2, 0.2, 0.1)),
    "good agreement": Crowd(0.92, 0.03, (0.5, 0.3, 0.2, 0.2, 0.1)),
    "one label common": Crowd(0.85, 0.05, (0.85, 0.1, 0.05)),
    "hardly any": Crowd(0.4, 0.3, (0.4, 0.3, 0.3)),
}
SPANS = {
    "fair agreement": Crowd(0.7, 0.3, (2.0,)),
    "good agreement": Crowd(0.92, 0.1, (2.0,)),
    "few spans": Crowd(0.8, 0.1, (0.5,)),
    "hardly any": Crowd(0.35, 1.0, (2.0,)),
}


def _sets(
    rng: np.random.Generator, kind: str, items: int, raters: int
) -> tuple[list[frozenset[str]], list[int]]:
    """Each text has labels of its own, and is easier or harder for all who rate it."""
    crowd = SETS[kind]
    there = rng.random((items, len(crowd.common))) < np.array(crowd.common)
    ease = rng.uniform(-0.15, 0.15, (items, 1))
    chance = np.clip(np.where(there, crowd.keeps + ease, crowd.adds - ease / 3), 0.01, 0.99)
    given = rng.random((raters, *there.shape)) < chance
    flat = given.reshape(raters * items, -1)
    sets = [frozenset(TOPICS[place] for place in np.flatnonzero(row)) for row in flat]
    return sets, np.tile(np.arange(items), raters).tolist()


def _texts(rng: np.random.Generator, kind: str, items: int, raters: int) -> list[MarkedText]:
    """Texts of 60 to 900 characters, one long one in ten; ends are off by a character now and then."""
    crowd = SPANS[kind]
    texts = []
    for item in range(items):
        length = int(rng.integers(60, 300)) * (3 if rng.random() < 0.1 else 1)
        there = [_span(rng, length) for _ in range(rng.poisson(crowd.common[0]))]
        ease = rng.uniform(-0.15, 0.15)
        for rater in range(raters):
            kept = [_moved(rng, span, length) for span in there if rng.random() < crowd.keeps + ease]
            own = [_span(rng, length) for _ in range(rng.poisson(crowd.adds))]
            texts.append(MarkedText(item, 0, f"rater {rater}", length, tuple({*kept, *own})))
    return texts


def _span(rng: np.random.Generator, length: int) -> LabelledSpan:
    start = int(rng.integers(0, length - 12))
    return LabelledSpan(start, start + int(rng.integers(4, 12)), TOPICS[int(rng.integers(0, 3))])


def _moved(rng: np.random.Generator, span: LabelledSpan, length: int) -> LabelledSpan:
    if rng.random() < 0.8:
        return span
    return span._replace(end=min(length, span.end + int(rng.integers(1, 4))))


def _figure(texts: list[MarkedText], figure: str, resamples: int = 1_000) -> Interval:
    return mark_alpha(texts, resamples=resamples).interval if figure == "alpha" else span_matches(texts)[0]


@cache
def _true_set_alpha(kind: str) -> float:
    return set_alpha(*_sets(np.random.default_rng(0), kind, ENDLESS, 2), resamples=2).interval.value


@cache
def _true_of_spans(kind: str, figure: str) -> float:
    return _figure(_texts(np.random.default_rng(0), kind, ENDLESS, 2), figure, 2).value


def sets_hold(kind: str, items: int, raters: int) -> Draw:
    """Alpha of sets of labels."""

    def happens(rng: np.random.Generator) -> bool | None:
        return holds(set_alpha(*_sets(rng, kind, items, raters)).interval, _true_set_alpha(kind))

    return happens


def spans_hold(kind: str, items: int, raters: int, figure: str) -> Draw:
    """Alpha of characters, or F1 of exact matches."""

    def happens(rng: np.random.Generator) -> bool | None:
        return holds(_figure(_texts(rng, kind, items, raters), figure), _true_of_spans(kind, figure))

    return happens


def _rate(name: str, draw: Draw, high: float = HIGH) -> Rate:
    return Rate("sets_and_spans", name, 0.95, LOW, high, draw, DRAWS)


RATES = [
    *(_rate(f"alpha of sets covers, {kind}, {items} texts, {raters} raters", sets_hold(kind, items, raters))
      for kind in SETS for items, raters in ((60, 2), (60, 3), (300, 2))),
    *(_rate(f"{figure} of spans covers, {kind}, {items} texts, {raters} raters",
            spans_hold(kind, items, raters, figure), HIGH if figure == "alpha" else RARE_HIGH)
      for figure in ("alpha", "F1") for kind in SPANS for items, raters in ((60, 2), (60, 3), (200, 2))),
]  # fmt: skip
