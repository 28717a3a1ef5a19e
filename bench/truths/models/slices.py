"""Slices of rows that differ in nothing, or only in shape: how often any is called different.

Also how often one that does differ is.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from bench.made.shapes.draws import draw_long_tail, draw_normal
from bench.made.truth_rows import heavy, lengths
from bench.truths import Rate
from engine.evaluation.comparison import row_scores

Scores = Callable[[np.random.Generator, int], np.ndarray]


def one_differs(rng: np.random.Generator, kind: str, rows: int, labels: int) -> bool:
    """Whether any slice, by label or length, is called different for scores that depend on neither."""
    tokens = lengths(rng, rows)
    scores = {
        "perplexity": lambda: np.exp(2 + heavy(rng, rows, spread=0.8)),
        "loss": lambda: heavy(rng, rows),
        "right or wrong": lambda: (rng.random(rows) < 0.6).astype(float),
    }[kind]()
    groups = {
        **row_scores.build_value_slices("Label", rng.integers(0, labels, rows).astype(str).tolist()),
        **row_scores.build_size_slices("Answer", tokens, "characters"),
    }
    return any(part["different"] for part in row_scores.compute_slice_scores(scores, groups))


def _zeros(rng: np.random.Generator, rows: int) -> np.ndarray:
    """Draw scores of which four in five are equal (the minimum) and the rest exponential: mean 0, standard
    deviation 3.
    """
    return np.where(rng.random(rows) < 0.8, 0.0, 5 * rng.exponential(size=rows)) - 1


SHAPES: dict[str, tuple[Scores, Scores]] = {  # slice and other rows, both with a mean of 0
    "log-normal among normal": (partial(draw_long_tail, sigma=1.0), draw_normal),
    "normal among log-normal": (draw_normal, partial(draw_long_tail, sigma=1.0)),
    "long tail among short": (partial(draw_long_tail, sigma=1.2), partial(draw_long_tail, sigma=0.5)),
    "log-normal among narrow": (
        partial(draw_long_tail, sigma=1.0), lambda rng, rows: 0.05 * draw_normal(rng, rows)
    ),
    "mostly zeros among normal": (_zeros, draw_normal),
}  # fmt: skip


def shape_differs(rng: np.random.Generator, kind: str, own: int, rest: int, gap: float = 0.0) -> bool:
    """Whether a slice is called different from the others, with the same mean or one that differs by `gap`
    standard deviations.
    """
    first, second = SHAPES[kind]
    scores = np.concatenate([first(rng, own) + gap, second(rng, rest)])
    rows = np.arange(own + rest) < own
    return row_scores.compute_slice_scores(scores, {("Label", "own"): rows})[0]["different"]


def skew_gap_differs(rng: np.random.Generator, rows: int) -> bool:
    """Whether paired differences with a mean of 0 and a long tail are called different."""
    gap = draw_long_tail(rng, rows, 1.0)
    every = {("Label", "all"): np.ones(rows, bool)}
    return row_scores.compute_slice_differences(gap, np.zeros(rows), every)[0]["different"]


RATES = [
    *(Rate("slices", f"{kind}, {rows} rows, {labels} labels: one called different", 0.05, 0.0, 0.05,
           partial(one_differs, kind=kind, rows=rows, labels=labels), draws)
      for kind, rows, labels, draws in (
          ("perplexity", 60, 4, 1_000), ("perplexity", 200, 5, 1_000), ("perplexity", 500, 10, 500),
          ("loss", 200, 5, 500), ("right or wrong", 200, 10, 1_000))),
    *(Rate("slices", f"{kind}, {own} rows of {own + rest}, equal means: called different", 0.05, 0.0, 0.06,
           partial(shape_differs, kind=kind, own=own, rest=rest), 2_000)
      for kind in SHAPES for own, rest in ((5, 95), (20, 80), (30, 470), (100, 400), (470, 30))),
    *(Rate("slices", f"paired differences with a long tail, {rows} rows: called different", 0.05, 0.0, 0.06,
           partial(skew_gap_differs, rows=rows), 2_000)
      for rows in (10, 30, 100, 500)),
    *(Rate("slices", f"{kind}, {own} rows of {own + rest}, half a deviation apart: called different", 0.8,
           least, 1.0, partial(shape_differs, kind=kind, own=own, rest=rest, gap=0.5), 500)
      for kind, own, rest, least in (
          ("normal among log-normal", 50, 450, 0.8), ("log-normal among normal", 100, 400, 0.9))),
]  # fmt: skip
