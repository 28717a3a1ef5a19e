"""MinHash signatures of shingle sets (Broder 1997), stored as band keys, and clusters of near duplicates.

A signature is b bands of r minima. Rows whose sets have the Jaccard similarity s share a minimum with
probability s (Broder 1997) and at least one band with 1 - (1 - s**r)**b (Leskovec, Rajaraman and Ullman,
Mining of Massive Datasets, 3.4). `choose_bands(t)` takes the largest r for which at most 160 minima find a
pair at the threshold t with probability 0.99. At 0.7 that is r = 5 and b = 26, which finds a pair at 0.7
with 0.992 and at 0.8 with 0.99998, and verifies a pair at 0.3 needlessly in 6 of 100 cases.

The sets are in a spool file. Memory is 4 b bytes a row, and of the sets (4 bytes a shingle) only what is
verified is read back. The minima are computed by numpy, which is as fast as rensa's Rust here and returns
an array; reading rensa's matrix as lists takes several times as long as computing it.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import numpy as np

from engine.data.similarity.equality import merge_groups
from engine.data.similarity.text_overlap import (
    Pairs,
    ShingleSets,
    ShortTexts,
    build_shingle_sets,
    find_short_candidates,
    mix_bits,
)

VERIFY = 1_000_000  # shingles of pairs verified at a time


class ShingleSpool:
    """Shingle sets on disk, numbered in the order in which they are added.

    Use as a context manager. The spool file is in `folder` and is removed afterwards, even after a kill.
    Of the sets (4 bytes a shingle) only what is compared is read back from disk.
    """

    def __init__(self, threshold: float, folder: Path) -> None:
        self.threshold = threshold
        self._spool = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (open as long as this is)
        self._sizes: list[np.ndarray] = []
        self.offsets = np.zeros(1, dtype=np.int64)
        self._values: np.ndarray = np.zeros(0, dtype=np.uint32)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._values = np.zeros(0, dtype=np.uint32)
        self._spool.close()

    def add_sets(self, sets: ShingleSets) -> None:
        """Append these sets."""
        self._spool.write(sets.values.tobytes())
        self._sizes.append(np.diff(sets.offsets).astype(np.int32))

    def close(self) -> None:
        """Finish adding sets; `jaccard` is available from then on."""
        self._spool.flush()
        sizes = np.concatenate([np.zeros(0, np.int32), *self._sizes])
        self.offsets = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
        if self.offsets[-1]:
            self._values = np.memmap(self._spool, dtype=np.uint32, mode="r", shape=(int(self.offsets[-1]),))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def sizes(self) -> np.ndarray:
        """Number of shingles of each set."""
        return np.diff(self.offsets)

    def jaccard(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Return the exact Jaccard similarity of pairs of texts, float64.

        It is 0 if the sizes alone put it below the threshold. first, second: numbers of texts, shape
        (pairs,).
        """
        sizes = self.sizes
        small = np.minimum(sizes[first], sizes[second])
        large = np.maximum(sizes[first], sizes[second])
        similarity = np.zeros(len(first))
        possible = np.flatnonzero((small >= self.threshold * large) & (small > 0))
        ends = np.cumsum((small + large)[possible])
        begin = 0
        while begin < len(possible):
            done = int(ends[begin - 1]) if begin else 0
            end = max(begin + 1, int(np.searchsorted(ends, done + VERIFY, side="right")))
            chosen = possible[begin:end]
            shared = self._shared(first[chosen], second[chosen])
            similarity[chosen] = shared / ((small + large)[chosen] - shared)
            begin = end
        return similarity

    def _shared(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Return the number of common shingles of each pair.

        These are the values that occur twice if both sets are sorted together.
        """
        both = np.concatenate([first, second])
        lengths = self.sizes[both]
        total = np.cumsum(lengths)
        places = np.arange(int(total[-1])) + np.repeat(self.offsets[both] - (total - lengths), lengths)
        pairs = np.repeat(np.tile(np.arange(len(first), dtype=np.uint64), 2), lengths)
        keys = (pairs << np.uint64(32)) | self._values[places]
        keys.sort(kind="stable")  # two sorted runs are merged in linear time
        twice = keys[1:][keys[1:] == keys[:-1]] >> np.uint64(32)
        return np.bincount(twice.astype(np.int64), minlength=len(first))


TARGET_RECALL = 0.99  # recall of pairs at the threshold
MAX_MINIMA = 160  # minima a row
BLOCK = 60_000  # shingles at a time, so that the working set fits the CPU cache


def choose_bands(threshold: float) -> tuple[int, int]:
    """Return (r, b), minima per band and bands, for pairs at this Jaccard similarity, 0.5 to 1."""
    best = (1, 1)
    for r in range(1, 33):
        share = threshold**r
        b = 1 if share >= TARGET_RECALL else math.ceil(math.log(1 - TARGET_RECALL) / math.log(1 - share))
        if r * b <= MAX_MINIMA and r * b >= best[0]:
            best = (r, b)
    return best


class TextSketch(NamedTuple):
    """Sketch of a batch of texts: shingles, band keys of shape (b, texts), and short texts by position."""

    sets: ShingleSets
    keys: np.ndarray
    short: dict[int, str]


class Sketches(ShingleSpool):
    """Texts as shingle sets and band keys, in the order in which they are added.

    Short texts are also stored as text.
    """

    def __init__(self, threshold: float, folder: Path) -> None:
        super().__init__(threshold, folder)
        self.r, self.b = choose_bands(threshold)
        random = np.random.default_rng(0)
        self._factors = random.integers(0, 2**32, self.r * self.b, dtype=np.uint32) | np.uint32(1)
        self._keys: list[np.ndarray] = []
        self._added = 0
        self.short = ShortTexts()

    def sketch(self, texts: list[str]) -> TextSketch:
        """Return the sketch of texts for `add`. Doesn't change the object, so threads may share it."""
        sets = build_shingle_sets(texts)
        return TextSketch(sets, self._band_keys(sets), find_short_candidates(texts))

    def add(self, sketch: TextSketch) -> None:
        """Add a sketch made by `sketch`."""
        self.short.add(self._added, sketch.short)
        self.add_sets(sketch.sets)
        self._added += len(sketch.sets)
        self._keys.append(sketch.keys)

    def keys(self, band: int) -> np.ndarray:
        """Return uint32 keys, equal for texts that share the band; texts without shingles have one too."""
        return np.concatenate([np.zeros(0, np.uint32), *(part[band] for part in self._keys)])

    def _band_keys(self, sets: ShingleSets) -> np.ndarray:
        keys = np.zeros((self.b, len(sets)), dtype=np.uint32)
        filled = np.flatnonzero(np.diff(sets.offsets))  # reduceat can't handle empty sets
        starts = sets.offsets[filled]
        first = 0
        while first < len(filled):
            last = int(np.searchsorted(starts, starts[first] + BLOCK, side="left"))
            end = int(starts[last]) if last < len(filled) else len(sets.values)
            values = sets.values[starts[first] : end]
            keys[:, filled[first:last]] = self._block_keys(values, starts[first:last] - starts[first])
            first = last
        return keys

    def _block_keys(self, values: np.ndarray, starts: np.ndarray) -> np.ndarray:
        product = np.empty_like(values)
        minima = np.empty(len(starts), dtype=np.uint32)
        keys = np.zeros((self.b, len(starts)), dtype=np.uint64)
        for number, factor in enumerate(self._factors):
            np.multiply(values, factor, out=product)  # modulo 2**32; the high bits permute the shingles
            np.minimum.reduceat(product, starts, out=minima)
            band = keys[number // self.r]
            band *= np.uint64(0x9E3779B97F4A7C15)
            band += minima
        return (mix_bits(keys) >> np.uint64(32)).astype(np.uint32)


# Near duplicates among sketches: the candidates of every band are verified and joined into clusters.
#
# Every pair that joins two texts is verified by its exact Jaccard similarity, or is a pair of short texts
# (`text_overlap`). In a bucket (texts that share a band) of up to `WINDOW` texts, all pairs are compared. A
# larger bucket has near copies, or texts made from one template, and too many pairs. There each text is
# compared with the next one in the order of another band, and with up to `LEADERS` texts that represent the
# bucket, each taken from those that no leader has matched so far. A bucket in which two or more leaders only
# represent themselves is left to the other bands. So the work grows linearly with the size of a bucket.

WINDOW = 8
LEADERS = 8
NEIGHBOUR_BANDS = 4  # bands that also compare texts of the same cluster, for the highest similarity
PAIRS_AT_A_TIME = 200_000  # pairs between checks for cancellation

ReportProgress = Callable[[int, int], None]  # (bands done, bands); may raise to cancel


@dataclass
class Clusters:
    """Clusters of near duplicates.

    `label`: int64, for each text the number of the first text of its cluster (its own if it is alone).
    `pairs`: verified pairs at or above the threshold, (first, second, similarity). `short`: pairs of short
    texts that are nearly equal by another measure (`text_overlap`); they join clusters too.
    """

    label: np.ndarray
    pairs: Pairs
    short: Pairs

    def all_pairs(self) -> Pairs:
        """Return `pairs` and `short` together."""
        first, second, similarity = (
            np.concatenate(both) for both in zip(self.pairs, self.short, strict=True)
        )
        return first, second, similarity


class _Search:
    """State of a search. `side`: if given, only pairs from different sides are compared."""

    def __init__(self, sketches: Sketches, side: np.ndarray | None, tell: ReportProgress) -> None:
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
        return Clusters(merge_groups(self.label, *short[:2]) if len(short[0]) else self.label, pairs, short)

    def _band(self, keys: np.ndarray, order: np.ndarray, texts: np.ndarray) -> None:
        """Process all buckets of a band, ordered by key, and within a bucket by another band."""
        keys, texts, order = _keep_shared(keys, texts, order)
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
        """Compare, in rounds, the first text of each bucket with the rest.

        Texts that it matches, or is connected to by now, are finished.
        """
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
        for begin in range(0, len(first), PAIRS_AT_A_TIME):
            self.tell(self.band, self.sketches.b)
            low, high = first[begin : begin + PAIRS_AT_A_TIME], second[begin : begin + PAIRS_AT_A_TIME]
            similarity = self.sketches.jaccard(low, high)
            good = similarity >= self.sketches.threshold
            low, high, similarity = low[good], high[good], similarity[good]
            self.verified.append((low, high, similarity))
            self._new = True

    _new = False  # there are pairs not yet in `label`

    def _join(self) -> None:
        """Update `label` to the smallest number of each connected component."""
        if not self._new:
            return
        self._new = False
        first = np.concatenate([self.label[part[0]] for part in self.verified])
        second = np.concatenate([self.label[part[1]] for part in self.verified])
        joins = first != second
        if joins.any():
            self.label = merge_groups(self.label, first[joins], second[joins])


def _keep_shared(keys: np.ndarray, *others: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return keys, texts and order of texts whose key is shared, sorted by key, then order, then text."""
    packed = (keys.astype(np.uint64) << np.uint64(32)) | np.arange(len(keys), dtype=np.uint64)
    packed.sort()  # much faster than argsort, and nearly all keys are unique
    key, place = packed >> np.uint64(32), (packed & np.uint64(0xFFFFFFFF)).astype(np.int64)
    twice = np.zeros(len(key), dtype=bool)
    twice[1:] = key[1:] == key[:-1]
    twice[:-1] |= twice[1:]
    place = place[twice]
    keys, (texts, order) = keys[place], (other[place] for other in others)
    by_key = np.lexsort((texts, order, keys))
    return keys[by_key], texts[by_key], order[by_key]


def find_clusters(sketches: Sketches, tell: ReportProgress, side: np.ndarray | None = None) -> Clusters:
    """Find clusters of near duplicates among closed sketches.

    side: int of each text, shape (texts,); if given, only pairs from two sides are compared, in large
    buckets some of them (see the comment above `WINDOW`).
    """
    return _Search(sketches, side, tell).run()
