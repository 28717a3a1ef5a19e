"""The rows that mean most nearly what one of them means: by the cosine of their vectors, over all rows."""

from __future__ import annotations

import numpy as np

CHUNK = 65_536  # rows compared at a time; the vectors are mapped, not loaded


def nearest(vectors: np.ndarray, row: int, count: int) -> list[tuple[int, float]]:
    """(row, cosine) of at most `count` other rows, nearest first, equal ones in their order.

    vectors: float32 [rows, dimensions], each of length 1 or 0. A row without a word is near to none.
    """
    asked = np.asarray(vectors[row])
    if not asked.any():
        return []
    cosines = np.concatenate(
        [vectors[first : first + CHUNK] @ asked for first in range(0, len(vectors), CHUNK)]
    )
    cosines[row] = -np.inf
    count = min(count, len(cosines) - 1)
    if count < 1:
        return []
    few = np.argpartition(-cosines, count - 1)[:count]
    ordered = few[np.lexsort((few, -cosines[few]))]
    return [(int(place), float(cosines[place])) for place in ordered]
