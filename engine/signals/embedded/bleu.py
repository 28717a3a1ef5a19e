"""Self-BLEU (Zhu et al. 2018): how well each row is predicted by the others, as BLEU-4 against all of them.

Lower is more diverse. Counts of an n-gram are clipped by the most that any other row has, of which the two
highest rows are enough to know, so that 200 rows take milliseconds. Precisions without a hit count half a
hit (as in NLTK's first smoothing), or short rows would all be 0.
"""

from __future__ import annotations

import math
from collections import Counter

ORDERS = 4
Gram = tuple[str, ...]


def self_bleu(rows: list[list[str]]) -> float | None:
    """Mean over rows of at least four words, 0 to 1; None where fewer than two have them."""
    rows = [row for row in rows if len(row) >= ORDERS]
    if len(rows) < 2:
        return None
    logs = [0.0] * len(rows)
    for order in range(1, ORDERS + 1):
        counts = [Counter(zip(*(row[i:] for i in range(order)), strict=False)) for row in rows]
        best = _two_highest(counts)
        for i, own in enumerate(counts):
            hits = sum(min(n, _most_elsewhere(best[gram], i)) for gram, n in own.items())
            logs[i] += math.log((hits or 0.5) / own.total()) / ORDERS
    lengths = sorted(len(row) for row in rows)
    return sum(
        math.exp(log + _brevity(len(row), lengths)) for log, row in zip(logs, rows, strict=True)
    ) / len(rows)


def _two_highest(counts: list[Counter[Gram]]) -> dict[Gram, tuple[int, int, int]]:
    """n-gram -> (its highest count in a row, that row, its highest count in any other row)."""
    best: dict[Gram, tuple[int, int, int]] = {}
    for i, own in enumerate(counts):
        for gram, n in own.items():
            high, row, second = best.get(gram, (0, -1, 0))
            best[gram] = (n, i, high) if n > high else (high, row, max(second, n))
    return best


def _most_elsewhere(found: tuple[int, int, int], i: int) -> int:
    high, row, second = found
    return second if row == i else high


def _brevity(length: int, lengths: list[int]) -> float:
    """ln of the penalty against the other row of the nearest length (the shorter of two)."""
    others = lengths.copy()
    others.remove(length)
    nearest = min(others, key=lambda other: (abs(other - length), other))
    return min(0.0, 1 - nearest / length)
