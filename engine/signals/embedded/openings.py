"""Templates: the first words that many prompts share, such as "Write a poem about".

A row's template is the longest run of first words, from `FEWEST` to `MOST`, that at least 1% of the rows and
at least five begin with, in any case. It is spelled as its first row spells it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

FEWEST, MOST = 3, 12  # words
SHARE, ROWS = 0.01, 5  # of the rows at least, and so many


def openings(prompts: Sequence[str | None]) -> list[str | None]:
    """The template of each prompt, None where too few share its first words."""
    words = [(prompt or "").split(None, MOST)[:MOST] for prompt in prompts]
    least = max(ROWS, int(np.ceil(SHARE * len(words))))
    lengths = np.fromiter((len(row) for row in words), np.int64, len(words))
    group = np.zeros(len(words), np.int64)  # rows that share their words so far
    alive = np.arange(len(words))
    templates: list[str | None] = [None] * len(words)
    for length in range(1, MOST + 1):
        alive = alive[lengths[alive] >= length]
        if len(alive) < least:
            break
        codes, _ = pd.factorize(np.array([words[i][length - 1].casefold() for i in alive], dtype=object))
        keys = group[alive] * (int(codes.max()) + 1) + codes
        _, first, inverse, counts = np.unique(
            keys, return_index=True, return_inverse=True, return_counts=True
        )
        keep = counts[inverse] >= least
        if length >= FEWEST:
            spelled = {}
            for i, number in zip(alive[keep], inverse[keep], strict=True):
                if number not in spelled:
                    spelled[number] = " ".join(words[alive[first[number]]][:length])
                templates[i] = spelled[number]
        group[alive] = inverse
        alive = alive[keep]
    return templates
