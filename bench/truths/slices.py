"""Slices of rows that differ in nothing: how often any is called different."""

from __future__ import annotations

from functools import partial

import numpy as np

from bench.made.truth_rows import heavy, lengths
from bench.truths import Rate
from engine.diagnostics.comparison import slices


def one_differs(rng: np.random.Generator, kind: str, rows: int, labels: int) -> bool:
    """By label and by length, of scores that have to do with neither."""
    tokens = lengths(rng, rows)
    scores = {
        "perplexity": lambda: np.exp(2 + heavy(rng, rows, spread=0.8)),
        "loss": lambda: heavy(rng, rows),
        "right or wrong": lambda: (rng.random(rows) < 0.6).astype(float),
    }[kind]()
    groups = {
        **slices.by_value("Label", rng.integers(0, labels, rows).astype(str).tolist()),
        **slices.by_size("Answer", tokens, "characters"),
    }
    tested = [{"p": slices.apart(scores[chosen], scores[~chosen]), "n": 0} for chosen in groups.values()]
    return any(group["different"] for group in slices.adjusted(tested))


RATES = [
    Rate(
        "slices", f"{kind}, {rows} rows, {labels} labels: one called different", 0.05, 0.0, 0.07,
        partial(one_differs, kind=kind, rows=rows, labels=labels), draws,
    )
    for kind, rows, labels, draws in (
        ("perplexity", 60, 4, 1_000), ("perplexity", 200, 10, 1_000), ("perplexity", 500, 20, 500),
        ("loss", 200, 10, 500), ("right or wrong", 200, 10, 1_000),
    )
]  # fmt: skip
