"""Does the F1 of exact spans cover?"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np

from bench.ratings import LOW, RARE_HIGH, holds
from bench.truths import Rate
from engine.rating.analysis.krippendorff_alpha import LabelledSpan, MarkedText
from engine.rating.analysis.spans import compute_span_matches

Draw = Callable[[np.random.Generator], bool | None]
DRAWS = 1_000
ENDLESS = 10_000  # items of the truth
TOPICS = ("price", "tone", "delivery", "quality", "service")


class Crowd(NamedTuple):
    """keeps: the chance that a rater gives what is there; adds: that they give each thing that is not.
    common: the mean number of spans of a text."""

    keeps: float
    adds: float
    common: tuple[float, ...]


SPANS = {
    "fair agreement": Crowd(0.7, 0.3, (2.0,)),
    "good agreement": Crowd(0.92, 0.1, (2.0,)),
    "few spans": Crowd(0.8, 0.1, (0.5,)),
    "hardly any": Crowd(0.35, 1.0, (2.0,)),
}


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


@cache
def _true_f1(kind: str) -> float:
    return compute_span_matches(_texts(np.random.default_rng(0), kind, ENDLESS, 2))[0].value


def spans_hold(kind: str, items: int, raters: int) -> Draw:
    """F1 of exact matches."""

    def happens(rng: np.random.Generator) -> bool | None:
        return holds(compute_span_matches(_texts(rng, kind, items, raters))[0], _true_f1(kind))

    return happens


SIZES = ((60, 2), (60, 3), (200, 2))
RATES = [
    Rate("spans", f"F1 of spans covers, {kind}, {items} texts, {raters} raters", 0.95, LOW, RARE_HIGH,
         spans_hold(kind, items, raters), DRAWS)
    for kind in SPANS for items, raters in SIZES
    if kind != "few spans" or items > 60  # of fewer there is no interval
]  # fmt: skip
