"""How alike two texts are by the trigrams of their characters, each weighted by how rare it is.

TF-IDF (Spärck Jones 1972) with a logarithm of the counts, and the cosine of it. A changed word or a slip of
the keys takes a few trigrams away and leaves the rest; what all texts share, such as the words of a template,
weighs next to nothing. Words are runs of letters, digits and marks, after NFKC and casefold; a blank stands
between them and at both ends.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from scipy import sparse

from engine.near.shingles import mix, normalise

BUCKETS = 2**20  # that trigrams are hashed to
BATCH = 4_000  # texts at a time
PIECE = 20_000  # pairs at a time
_WORD = re.compile(r"\w+")


def words_of(text: str) -> list[str]:
    """Its words, folded."""
    return _WORD.findall(normalise(text))


class TrigramWeights:
    """Texts as weighted trigrams: float32 rows of length 1, or 0 of a text without a word."""

    def __init__(self, texts: Sequence[str]) -> None:
        counts = [_counted(texts[begin : begin + BATCH]) for begin in range(0, len(texts), BATCH)]
        empty = sparse.csr_array((0, BUCKETS), dtype=np.float32)
        rows = sparse.csr_array(sparse.vstack([empty, *counts], format="csr"))
        often = np.bincount(rows.indices, minlength=BUCKETS)
        rows.data *= np.log((1 + len(texts)) / often[rows.indices]).astype(np.float32)
        lengths = np.sqrt(np.asarray(rows.multiply(rows).sum(axis=1), np.float32)).ravel()
        rows.data /= np.repeat(np.maximum(lengths, np.finfo(np.float32).tiny), np.diff(rows.indptr))
        self.rows = rows

    def cosines(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Of pairs of texts, by their numbers: float64, shape (pairs,)."""
        values = np.zeros(len(first))
        for begin in range(0, len(first), PIECE):
            piece = slice(begin, begin + PIECE)
            products = self.rows[first[piece]].multiply(self.rows[second[piece]])
            values[piece] = np.asarray(products.sum(axis=1)).ravel()
        return values


def _counted(texts: Sequence[str]) -> sparse.csr_array:
    """The logarithm of how often each trigram stands in each text."""
    parts = [f" {' '.join(words_of(text))} " for text in texts]
    codes = np.frombuffer("".join(parts).encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    lengths = np.fromiter(map(len, parts), np.int64, len(parts))
    ends = np.cumsum(lengths)
    inside = np.ones(len(codes), bool)
    inside[np.concatenate([ends - 1, ends - 2])] = False  # a trigram that would run into the next text
    places = np.flatnonzero(inside)
    hashes = codes[places] * np.uint64(1_000_003**2) + codes[places + 1] * np.uint64(1_000_003)
    hashes = mix(hashes + codes[places + 2]) % np.uint64(BUCKETS)
    offsets = np.concatenate([[0], np.cumsum(np.maximum(lengths - 2, 0))])
    ones = np.ones(len(hashes), np.float32)
    rows = sparse.csr_array((ones, hashes.astype(np.int64), offsets), shape=(len(parts), BUCKETS))
    rows.sum_duplicates()
    rows.data = np.log2(1 + rows.data)
    return rows
