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
DENSE_SHARE = 1 / 1_024  # of the pairs of texts; a trigram that more share is a dense column of a product
MOST_DENSE = 512  # such trigrams: 2 KiB of a text
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


class TrigramProducts:
    """The cosines of every text of one side with every one of the other, a block at a time.

    A sparse product takes a step for each trigram that two texts share, which is nearly always one of the few
    that most texts have. Those are laid out as dense columns, which takes about a hundredth of the time for
    each of them; the rare ones, which few pairs share, stay sparse.
    """

    def __init__(self, first: sparse.csr_array, second: sparse.csr_array) -> None:
        """Rows of `TrigramWeights`."""
        counts = [np.bincount(side.indices, minlength=BUCKETS) for side in (first, second)]
        often = counts[0].astype(np.float64) * counts[1]  # pairs that have both
        many = np.flatnonzero(often > DENSE_SHARE * first.shape[0] * second.shape[0])
        common = np.sort(many[np.argsort(often[many])[-MOST_DENSE:]])
        self._first_common = _columns(first, common)
        self._second_common = _columns(second, common).toarray().T
        self._first_rare = _without(first, common)
        self._second_rare = sparse.csr_array(_without(second, common).T)

    def block(self, begin: int, end: int) -> np.ndarray:
        """Of these texts of the first side with all of the other: float32 [texts, others]."""
        product: np.ndarray = (self._first_rare[begin:end] @ self._second_rare).toarray()
        product += self._first_common[begin:end].toarray() @ self._second_common
        return product


def _columns(rows: sparse.csr_array, columns: np.ndarray) -> sparse.csr_array:
    """These columns alone, in their order."""
    place = np.full(BUCKETS, -1)
    place[columns] = np.arange(len(columns))
    return _of_entries(rows, place[rows.indices], len(columns))


def _without(rows: sparse.csr_array, columns: np.ndarray) -> sparse.csr_array:
    """All but these columns, each where it is."""
    place = np.arange(BUCKETS)
    place[columns] = -1
    return _of_entries(rows, place[rows.indices], BUCKETS)


def _of_entries(rows: sparse.csr_array, places: np.ndarray, width: int) -> sparse.csr_array:
    """The entries of these rows at new places, -1 for those that go."""
    kept = places >= 0
    ends = np.concatenate([[0], np.cumsum(kept)])[rows.indptr]
    return sparse.csr_array((rows.data[kept], places[kept], ends), shape=(rows.shape[0], width))


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
