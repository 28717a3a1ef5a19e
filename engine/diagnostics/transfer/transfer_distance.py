"""How far apart two data sets, or two trainings, are: what may predict transfer before it is measured.

Data sets: 1 - the cosine of their mean embeddings, with an interval over rows. Trainings: the cosine of
their weight changes. A change has as many numbers as the model, so each matrix is hashed down to some
thousand (count sketch, Charikar et al. 2002): inner products keep their value on average, and the error of a
cosine over many matrices is far below what matters. Pure: arrays in, documents out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

WIDTH = 4_096  # numbers that a matrix is hashed down to
DRAWS = 300
MOST_ROWS = 3_000  # of a data set: more don't move its mean

Floats = NDArray[np.float64]
Floats32 = NDArray[np.float32]


@dataclass(frozen=True)
class Sketch:
    """The weight change of a run: names of its matrices, the layer of each (-1: none), exact norms, and
    `values` float32 [matrices, WIDTH]."""

    names: Sequence[str]
    layers: Sequence[int]
    norms: Sequence[float]
    values: Floats32


def sketch(change: NDArray[Any], seed: int) -> Floats32:
    """A matrix hashed down to WIDTH numbers; the same seed for the same matrix of every run."""
    flat = np.ascontiguousarray(change, np.float64).ravel()
    code = np.random.default_rng(seed).integers(0, 2 * WIDTH, len(flat), dtype=np.int32)
    signed = np.where(code & 1, flat, -flat)
    return np.bincount(code >> 1, signed, WIDTH).astype(np.float32)


def weight_cosine(first: Sketch, second: Sketch) -> dict[str, Any]:
    """{value (null where one changed nothing), low, high: between which 95% of the layers lie, n: layers,
    matrices}. A matrix that only one of them changed counts as unchanged in the other."""
    places = {name: place for place, name in enumerate(second.names)}
    shared = [(i, places[name]) for i, name in enumerate(first.names) if name in places]
    products = {
        i: float(first.values[i].astype(np.float64) @ second.values[j].astype(np.float64)) for i, j in shared
    }
    whole = float(np.linalg.norm(first.norms) * np.linalg.norm(second.norms))
    by_layer: dict[int, list[tuple[float, float, float]]] = {}
    for i, j in shared:
        if first.layers[i] >= 0:
            by_layer.setdefault(first.layers[i], []).append(
                (products[i], first.norms[i] ** 2, second.norms[j] ** 2)
            )
    sums = [np.sum(parts, axis=0) for _, parts in sorted(by_layer.items())]
    layers = [dot / np.sqrt(a * b) for dot, a, b in sums if a * b > 0]
    low, high = np.quantile(layers, [0.025, 0.975]) if layers else (None, None)
    return {
        "value": _bounded(sum(products.values()) / whole) if whole else None,
        "low": None if low is None else _bounded(float(low)),
        "high": None if high is None else _bounded(float(high)),
        "n": len(layers),
        "matrices": len(shared),
    }


def _bounded(cosine: float) -> float:
    return max(-1.0, min(1.0, cosine))


def embedding_distance(first: NDArray[Any], second: NDArray[Any], *, seed: int = 0) -> dict[str, Any]:
    """1 - cosine of the mean embeddings [rows, dimensions]: {value, low, high, n: rows of the smaller set};
    value is null where a set has no row with a word. Rows without a word (all 0) are left out."""
    random = np.random.default_rng(seed)
    sides = [_rows(side, random) for side in (first, second)]
    n = min(len(side) for side in sides)
    if not n:
        return {"value": None, "low": None, "high": None, "n": 0}
    value = float(_distance(*(side.mean(axis=0)[None] for side in sides))[0])
    if n < 2:
        return {"value": value, "low": None, "high": None, "n": n}
    means = [random.multinomial(len(s), [1 / len(s)] * len(s), DRAWS) @ s / len(s) for s in sides]
    drawn = _distance(*means)
    # resampled means lie farther apart than the sets: both ends are moved back by as much (Efron's pivot)
    low, high = (2 * value - float(q) for q in np.quantile(drawn, [0.975, 0.025]))
    return {"value": value, "low": max(0.0, low), "high": max(0.0, high), "n": n}


def _rows(vectors: NDArray[Any], random: np.random.Generator) -> Floats:
    kept = np.flatnonzero(np.any(np.asarray(vectors) != 0, axis=1))
    if len(kept) > MOST_ROWS:
        kept = np.sort(random.choice(kept, MOST_ROWS, replace=False))
    return np.asarray(vectors[kept], np.float64)


def _distance(first: Floats, second: Floats) -> Floats:
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    found: Floats = 1 - (first * second).sum(axis=1) / np.maximum(norms, 1e-300)
    return np.maximum(found, 0.0)
