"""Size against diversity: what a random half of the rows would lose.

Three losses, each the mean over `REPEATS` random halves with its spread: of topics, of distinct pairs of
words, and of coverage. Coverage asks how far the rows that were left out lie from the nearest row that was
kept, against how far each row lies from its nearest neighbour in the whole: 0 says that half covers the same
ground as well, 0.5 that what was left out is twice as far from anything kept.
"""

from __future__ import annotations

from hashlib import blake2b
from itertools import pairwise

import numpy as np

from store.documents.data.signal_figures import SetFigure

REPEATS = 8
NEAREST = 2_000  # rows among which distances are taken
WORDS = 100  # of a row whose pairs are counted


def half_loss(vectors: np.ndarray, topics: np.ndarray, words: list[list[str]]) -> dict[str, SetFigure]:
    """Figures half_loss (coverage), half_loss_topics and half_loss_pairs: {"value", "sd", "low", "high", "n",
    "repeats"}; rows come in random order. Values are None where there are fewer than four rows."""
    pairs = [np.array(sorted({hash_pair(a, b) for a, b in pairwise(row[:WORDS])}),
             np.uint64) for row in words]  # fmt: skip
    random = np.random.default_rng(0)
    near = vectors[:NEAREST]
    distances = 1 - near @ near.T
    np.fill_diagonal(distances, np.inf)
    losses: dict[str, list[float | None]] = {"half_loss": [], "half_loss_topics": [], "half_loss_pairs": []}
    for _ in range(REPEATS if len(vectors) >= 4 else 0):
        kept = np.zeros(len(vectors), bool)
        kept[random.choice(len(vectors), len(vectors) // 2, replace=False)] = True
        losses["half_loss"].append(_coverage(distances, kept[: len(near)]))
        losses["half_loss_topics"].append(1 - len(np.unique(topics[kept])) / len(np.unique(topics)))
        losses["half_loss_pairs"].append(_of_distinct(pairs, kept))
    n = {"half_loss": len(near), "half_loss_topics": len(vectors), "half_loss_pairs": len(vectors)}
    return {name: _figure(values, n[name]) for name, values in losses.items()}


def hash_pair(first: str, second: str) -> int:
    """64 bits of a pair of words, the same in every process."""
    text = f"{first} {second}".encode("utf-8", "replace")
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "little")


def _coverage(distances: np.ndarray, kept: np.ndarray) -> float | None:
    """1 - (mean distance to the nearest row in the whole) / (to the nearest kept row), over rows left out."""
    left = ~kept
    if not kept.any() or not left.any():
        return None
    whole = float(distances[left].min(axis=1).clip(0).mean())
    half = float(distances[np.ix_(left, kept)].min(axis=1).clip(0).mean())
    return 1 - whole / half if half > 1e-9 else 0.0


def _of_distinct(pairs: list[np.ndarray], kept: np.ndarray) -> float | None:
    every = len(np.unique(np.concatenate(pairs)))
    if not every:
        return None
    return 1 - len(np.unique(np.concatenate([p for p, k in zip(pairs, kept, strict=True) if k]))) / every


def _figure(values: list[float | None], n: int) -> SetFigure:
    """Mean, standard deviation and range over the halves."""
    measured = [value for value in values if value is not None]
    if not measured:
        return {"value": None, "n": n, "unit": "rows", "repeats": 0}
    return {
        "value": float(np.mean(measured)),
        "sd": float(np.std(measured, ddof=1)) if len(measured) > 1 else None,
        "low": float(min(measured)),
        "high": float(max(measured)),
        "n": n,
        "unit": "rows",
        "repeats": len(measured),
    }
