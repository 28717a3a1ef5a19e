"""What training on one data set did for another: a tuned model against its base on the same held-out rows.

The figure of a cell is the relative gain, 1 - (loss tuned / loss base) over all rows, so that data sets of
hard and easy texts share a scale; its interval resamples whole rows of both models together. Its p-value is
how often the difference is as large when base and tuned model are swapped in rows at random, and where no
swap is that large, the tail of Student's t below the finest that so many swaps can say. Holm's correction is
over the cells that are looked at together, the own data set of a run among them. All of it speaks of rows:
another seed of the same training is not in it. Pure: arrays in, documents out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from engine.diagnostics.flips import holm, mcnemar, paired_change
from engine.diagnostics.statistics import Interval, ratio_interval, wilson_interval

SWAPS = 10_000
AT_ONCE = 2_000_000  # signs drawn at a time
ALPHA = 0.05
STARS = ((0.001, "***"), (0.01, "**"), (ALPHA, "*"))
FEW_PAIRS = 10  # fewer say nothing of a correlation, whatever it comes to

Document = dict[str, Any]


def level(loss: ArrayLike, tokens: ArrayLike, right: ArrayLike) -> Document:
    """Of one model on rows: {n, tokens, loss, right: each {value, low, high, n}}. loss: summed nats a row;
    right: whether every token of the answer is the likeliest, so that greedy decoding gives just it."""
    hits = np.asarray(right, np.bool_)
    return {
        "n": len(hits),
        "tokens": int(np.sum(np.asarray(tokens))),
        "loss": ratio_interval(loss, tokens).to_dict(),
        "right": wilson_interval(int(hits.sum()), len(hits)).to_dict(),
    }


def compare(base: Mapping[str, ArrayLike], tuned: Mapping[str, ArrayLike]) -> Document:
    """A cell, of {loss, tokens, right} of both models, row by row in one order: {n, tokens, relative, change
    (nats a token, tuned - base), right (share of rows, tuned - base): each {value, low, high, n, p,
    detectable}, base, tuned: `level`}.

    Raises ValueError for no rows, or a loss that is not finite.
    """
    before, after = (np.asarray(side["loss"], np.float64) for side in (base, tuned))
    tokens = np.asarray(base["tokens"], np.float64)
    if not np.isfinite(before).all() or not np.isfinite(after).all():
        raise ValueError("a loss is not a number")
    relative = ratio_interval(before - after, np.maximum(before, 1e-12))
    change = ratio_interval(after - before, tokens)
    p = swap_test(after - before)
    first, second = (np.asarray(side["right"], np.bool_) for side in (base, tuned))
    lost, won = int((first & ~second).sum()), int((second & ~first).sum())
    right = paired_change(lost, won, len(first))
    return {
        "n": len(before),
        "tokens": int(tokens.sum()),
        "relative": _told(relative, p),
        "change": _told(change, p),
        "right": _told(right, mcnemar(lost, won)),
        "base": level(before, tokens, first),
        "tuned": level(after, tokens, second),
    }


def _told(interval: Interval, p: float) -> Document:
    return interval.to_dict() | {"p": p, "detectable": interval.detectable}


def swap_test(differences: ArrayLike, *, swaps: int = SWAPS, seed: int = 0) -> float:
    """Two-sided p-value of the sum of paired differences, if either model could have had either value."""
    values = np.asarray(differences, np.float64)
    values = values[values != 0]
    n = len(values)
    if n < 2:
        return 1.0
    seen = abs(values.sum()) * (1 - 1e-9)
    random = np.random.default_rng(seed)
    hits, at_once = 0, max(1, AT_ONCE // n)
    for start in range(0, swaps, at_once):
        signs = random.integers(0, 2, (min(at_once, swaps - start), n)) * 2 - 1
        hits += int((np.abs(signs @ values) >= seen).sum())
    finest = 1 / (swaps + 1)
    if hits:
        return (hits + 1) / (swaps + 1)
    se = values.std(ddof=1) * math.sqrt(n)
    tail = float(2 * special.stdtr(n - 1, -abs(values.sum()) / se)) if se > 0 else 2.0 ** (1 - n)
    return min(finest, max(tail, 2.0 ** (1 - n)))  # so many rows have no more ways to be swapped


def judged(cells: Sequence[Document], measure: str = "relative") -> list[Document]:
    """The cells with `figure` (the one of `measure`), `p_holm`, `stars` and `sure`: told from noise after
    Holm over all of them, as the interval says too."""
    adjusted = holm([cell[measure]["p"] for cell in cells])
    found = []
    for cell, p in zip(cells, adjusted, strict=True):
        figure = cell[measure]
        apart = figure["low"] is not None and (figure["low"] > 0 or figure["high"] < 0)
        sure = p < ALPHA and apart
        stars = next((mark for limit, mark in STARS if p < limit), "") if sure else ""
        found.append(cell | {"figure": figure, "p_holm": p, "stars": stars, "sure": sure})
    return found


def spearman(first: ArrayLike, second: ArrayLike, *, confidence: float = 0.95) -> Document:
    """Rank correlation with Bonett and Wright's (2000) interval: {value, low, high, n, p, state: few |
    unclear | sure}; value is null under three pairs, or where one side never changes. Pairs that share a run
    or a data set are not independent, so that the interval is on the narrow side."""
    from scipy import stats  # here: half a second, which the page need not wait for

    x, y = np.asarray(first, np.float64), np.asarray(second, np.float64)
    kept = np.isfinite(x) & np.isfinite(y)
    x, y = x[kept], y[kept]
    n = len(x)
    document: Document = {"value": None, "low": None, "high": None, "n": n, "p": None, "state": "few"}
    if n < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return document
    rho = float(stats.spearmanr(x, y).statistic)
    document["value"] = rho
    if n > 3:
        width = special.ndtri((1 + confidence) / 2) * math.sqrt((1 + rho**2 / 2) / (n - 3))
        middle = math.atanh(max(-1 + 1e-12, min(1 - 1e-12, rho)))
        document |= {"low": math.tanh(middle - width), "high": math.tanh(middle + width)}
        document["p"] = float(2 * special.ndtr(-abs(middle) / math.sqrt((1 + rho**2 / 2) / (n - 3))))
    if n >= FEW_PAIRS:
        document["state"] = "sure" if document["low"] > 0 or document["high"] < 0 else "unclear"
    return document
