"""Coverage of the F1 of exact spans."""

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
ENDLESS = 10_000  # items for the true value
TOPICS = ("price", "tone", "delivery", "quality", "service")


class Crowd(NamedTuple):
    """keeps: probability that a rater marks a true span; adds: mean number of wrong spans per rater and text;
    common: mean number of true spans in a text.
    """

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
    """Draw texts of 60 to 900 characters, one in ten of them long; ends are occasionally off by up to three
    characters.
    """
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
    """Return the event that the interval of F1 of exact matches covers the truth."""

    def happens(rng: np.random.Generator) -> bool | None:
        return holds(compute_span_matches(_texts(rng, kind, items, raters))[0], _true_f1(kind))

    return happens


SIZES = ((60, 2), (60, 3), (200, 2))
RATES = [
    Rate("spans", f"F1 of spans covers, {kind}, {items} texts, {raters} raters", 0.95, LOW, RARE_HIGH,
         spans_hold(kind, items, raters), DRAWS)
    for kind in SPANS for items, raters in SIZES
    if kind != "few spans" or items > 60  # fewer have no interval
]  # fmt: skip
