"""Interpolations from base to tuned: how often the luckiest of many is recommended where none gains."""

from __future__ import annotations

from functools import partial

import numpy as np

from bench.made.shapes.paired_rows import PAIRED
from bench.truths import Rate
from engine.evaluation.statistics.intervals import ratio_interval
from engine.evaluation.verdicts.forgetting_tradeoff import ShareGain, recommend_share
from store.core.figure_schemas import Estimate

SHAPES = ("normal, even lengths", "t4, unequal lengths", "short rows are noisy")


def recommends(rng: np.random.Generator, shape: str, rows: int, tried: int) -> bool:
    """Whether one of this number of α is recommended, none of which has a true gain."""
    points = [ShareGain(0.0, Estimate(value=0.0, low=0.0, high=0.0, n=rows), None)]
    for place in range(1, tried + 1):
        drawn = PAIRED[shape](rng, rows, 0.0)
        gain = ratio_interval(drawn.base - drawn.tuned, drawn.tokens)
        points.append(ShareGain(place / tried, gain.to_estimate(), None))
    return recommend_share(points).recommended is not None


RATES = [
    Rate(
        "kept_share", f"{tried} α, {shape}, {rows} rows, none gains: one recommended", 0.025, 0.0, 0.05,
        partial(recommends, shape=shape, rows=rows, tried=tried), 1_000,
    )
    for shape in SHAPES
    for rows in (20, 67, 300)
    for tried in (1, 5, 20)
]  # fmt: skip
