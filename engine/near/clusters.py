"""Near duplicates among sketches: candidates of every band, verified, and joined into clusters.

Every pair that joins two texts has its exact Jaccard similarity computed and at or above the threshold, or
is one of short texts (`short_texts`). In a bucket of up to `WINDOW` texts (those that share a band) all pairs
are looked at. A larger bucket is one of near copies, or of texts made from one template, and all of its pairs
would be too many: there each text is compared with the next in the order of another band, and with up to
`LEADERS` texts that stand for the bucket, each taken from those that no leader matched so far; a bucket in
which two or more leaders stand for nobody but themselves is left to the other bands. So the work in a bucket
grows with its size alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from engine.near.groups import join
from engine.near.minhash import Sketches
from engine.near.short_texts import Pairs

WINDOW = 8
LEADERS = 8
NEIGHBOUR_BANDS = 4  # in which the texts of one cluster are compared too, for the highest similarity
PIECE = 200_000  # pairs between two looks at a request to stop

Tell = Callable[[int, int], None]  # (bands done, bands); may raise to stop


@dataclass
class Clusters:
    """`label`: int64 of each text, the number of the first text of its cluster (its own where it is alone).
    `pairs`: verified pairs at or above the threshold, (first, second, similarity). `short`: those of short
    texts that are nearly the same by another measure (`short_texts`), which join clusters too."""

    label: np.ndarray
    pairs: Pairs
    short: Pairs

    def all_pairs(self) -> Pairs:
        """Both."""
        first, second, similarity = (
            np.concatenate(both) for both in zip(self.pairs, self.short, strict=True)
        )
        return first, second, similarity


class _Search:
    """The state of one search. `side`: where given, only pairs of different sides are looked at."""

    def __init__(self, sketches: Sketches, side: np.ndarray | None, tell: Tell) -> None:
        self.sketches, self.side, self.tell = sketches, side, tell
        self.band = 0
        self.label = np.arange(len(sketches))
        self.seen = np.zeros(0, dtype=np.int64)  # pairs of small buckets, ascending
        self.verified: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def run(self) -> Clusters:
        filled = np.flatnonzero(self.sketches.sizes)
        after = self.sketches.keys(self.sketches.b - 1)
        for band in range(self.sketches.b):
            self.band = band
            self.tell(band, self.sketches.b)
            keys = self.sketches.keys(band)
            self._band(keys[filled], after[filled], filled)
            after = keys
        self.tell(self.sketches.b, self.sketches.b)
        empty = (np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
        first, second, similarity = zip(*(self.verified or [empty]), strict=True)
        pairs = (np.concatenate(first), np.concatenate(second), np.concatenate(similarity))
        short = self.sketches.short.pairs(self.sketches.threshold, self.side)
        return Clusters(join(self.label, *short[:2]) if len(short[0]) else self.label, pairs, short)

    def _band(self, keys: np.ndarray, order: np.ndarray, texts: np.ndarray) -> None:
        """All buckets of a band, in the order of their keys and within a bucket of another band."""
        keys, texts, order = _shared(keys, texts, order)
        starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]])) if len(keys) else keys
        sizes = np.diff(np.append(starts, len(keys)))
        bucket = np.repeat(np.arange(len(starts)), sizes)
        small = sizes <= WINDOW
        self._small(texts[small[bucket]], bucket[small[bucket]])
        self._join()
        large = ~small[bucket]
        if large.any():
            if self.band < NEIGHBOUR_BANDS or self.side is not None:
                self._neighbours(texts[large], bucket[large])
                self._join()
            self._leaders(texts[large], bucket[large])

    def _small(self, texts: np.ndarray, bucket: np.ndarray) -> None:
        codes = [np.zeros(0, dtype=np.int64)]
        for step in range(1, WINDOW):
            here = np.flatnonzero(bucket[step:] == bucket[:-step])
            low, high = texts[here], texts[here + step]
            codes.append(np.minimum(low, high) * len(self.label) + np.maximum(low, high))
        pairs = np.unique(np.concatenate(codes))
        if len(self.seen):
            at = np.minimum(np.searchsorted(self.seen, pairs), len(self.seen) - 1)
            pairs = pairs[self.seen[at] != pairs]
        self.seen = np.sort(np.concatenate([self.seen, pairs]))
        self._verify(pairs // len(self.label), pairs % len(self.label))

    def _neighbours(self, texts: np.ndarray, bucket: np.ndarray) -> None:
        here = np.flatnonzero(bucket[1:] == bucket[:-1])
        self._verify(texts[here], texts[here + 1])

    def _leaders(self, texts: np.ndarray, bucket: np.ndarray) -> None:
        """Rounds: the first text of each bucket against the rest; what it matches, or is joined to by now,
        is done with."""
        for number in range(LEADERS):
            first = np.concatenate([[True], bucket[1:] != bucket[:-1]])
            begins = np.flatnonzero(first)
            leader = texts[begins[np.cumsum(first) - 1]]
            open_ = ~first
            if self.side is None:
                open_ &= self.label[texts] != self.label[leader]
            self._verify(leader[open_], texts[open_])
            self._join()
            left = open_ & (self.label[texts] != self.label[leader])
            if number:
                sizes = np.diff(np.append(begins, len(texts)))
                left &= np.repeat(np.add.reduceat(left, begins, dtype=np.int64) < sizes - 1, sizes)
            texts, bucket = texts[left], bucket[left]
            if not len(texts):
                return

    def _verify(self, first: np.ndarray, second: np.ndarray) -> None:
        if self.side is not None:
            apart = self.side[first] != self.side[second]
            first, second = first[apart], second[apart]
        for begin in range(0, len(first), PIECE):
            self.tell(self.band, self.sketches.b)
            low, high = first[begin : begin + PIECE], second[begin : begin + PIECE]
            similarity = self.sketches.jaccard(low, high)
            good = similarity >= self.sketches.threshold
            low, high, similarity = low[good], high[good], similarity[good]
            self.verified.append((low, high, similarity))
            self._new = True

    _new = False  # pairs were found that `label` does not know of

    def _join(self) -> None:
        """Bring `label` up to date: the smallest number of each connected component."""
        if not self._new:
            return
        self._new = False
        first = np.concatenate([self.label[part[0]] for part in self.verified])
        second = np.concatenate([self.label[part[1]] for part in self.verified])
        joins = first != second
        if joins.any():
            self.label = join(self.label, first[joins], second[joins])


def _shared(keys: np.ndarray, *others: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """keys, texts and order of those whose key another has too, sorted by key, then order, then text."""
    packed = (keys.astype(np.uint64) << np.uint64(32)) | np.arange(len(keys), dtype=np.uint64)
    packed.sort()  # far faster than an argsort, and nearly all keys stand alone
    key, place = packed >> np.uint64(32), (packed & np.uint64(0xFFFFFFFF)).astype(np.int64)
    twice = np.zeros(len(key), dtype=bool)
    twice[1:] = key[1:] == key[:-1]
    twice[:-1] |= twice[1:]
    place = place[twice]
    keys, (texts, order) = keys[place], (other[place] for other in others)
    by_key = np.lexsort((texts, order, keys))
    return keys[by_key], texts[by_key], order[by_key]


def find_clusters(sketches: Sketches, tell: Tell, side: np.ndarray | None = None) -> Clusters:
    """Clusters of near duplicates among closed sketches. side: int of each text, shape (texts,); then only
    pairs of two sides are looked at, and in large buckets some of them (see the module)."""
    return _Search(sketches, side, tell).run()
