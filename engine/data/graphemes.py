"""User-perceived characters: grapheme clusters (Unicode Standard Annex 29).

A family emoji, an é of two code points, a flag and a CR LF line break count as one character each.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import regex

_CLUSTER = regex.compile(r"\X")
# Only these code points can join a neighbour; CR LF is counted separately.
_JOINING = regex.compile(r"[^\p{GCB=Other}\p{GCB=LV}\p{GCB=LVT}\p{GCB=Control}\p{GCB=CR}\p{GCB=LF}]")


def count_characters(text: str) -> int:
    """Return the number of user-perceived characters.

    Only texts with joining code points are segmented, which is slower.
    """
    if not text.isascii() and _JOINING.search(text):
        return sum(1 for _ in _CLUSTER.finditer(text))
    return len(text) - text.count("\r\n")


def measure_lengths(texts: Iterable[str]) -> np.ndarray:
    """Return the number of characters of each text, int32."""
    return np.fromiter(map(count_characters, texts), np.int32)
