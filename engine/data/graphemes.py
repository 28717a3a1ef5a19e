"""Characters as people see them: grapheme clusters (Unicode Standard Annex 29). A family of emoji, an é of
two code points, a flag and a line break of CR and LF are one each.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import regex

_CLUSTER = regex.compile(r"\X")
# Of these code points alone one joins its neighbour; CR and LF are looked for apart.
_JOINING = regex.compile(r"[^\p{GCB=Other}\p{GCB=LV}\p{GCB=LVT}\p{GCB=Control}\p{GCB=CR}\p{GCB=LF}]")


def count_characters(text: str) -> int:
    """How many characters people see. Only a text in which some join pays for looking at each."""
    if not text.isascii() and _JOINING.search(text):
        return sum(1 for _ in _CLUSTER.finditer(text))
    return len(text) - text.count("\r\n")


def measure_lengths(texts: Iterable[str]) -> np.ndarray:
    """The characters of each text, int32."""
    return np.fromiter(map(count_characters, texts), np.int32)
