"""MinHash signatures of sets of shingles, kept as keys of bands; the sets themselves go to a spool file.

A signature is b bands of r minima. Rows whose sets have the Jaccard similarity s share a minimum with the
probability s (Broder 1997) and at least one band with 1 - (1 - s**r)**b (Leskovec, Rajaraman and Ullman,
Mining of Massive Datasets, 3.4). `bands(t)` takes the largest r for which at most 160 minima find a pair at
the threshold t with a probability of 0.99: at 0.7 that is r = 5 and b = 26, which finds a pair at 0.7 with
0.992, at 0.8 with 0.99998, and has one at 0.3 verified for nothing in 6 of 100 cases.

Memory is 4 b bytes a row; of the sets (4 bytes a shingle) only what is verified is read back from the disk.
The minima are made by numpy: it is as fast as rensa's Rust at this and, unlike there, what it makes is an
array; reading rensa's matrix as lists costs several times the making.

Sets of shingles on the disk, and the exact Jaccard similarity of any two of them.
"""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import numpy as np

from engine.near.shingles import Sets, mix, shingle_sets
from engine.near.short_texts import ShortTexts, maybe_short

VERIFY = 1_000_000  # shingles of pairs at a time


class ShingleSpool:
    """Sets in the order in which they were added: number n is the n-th.

    Use as a context manager; the spool file lies in `folder` and is gone afterwards, also after a kill. Of
    the sets (4 bytes a shingle) only what is compared is read back from the disk.
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

    def add_sets(self, sets: Sets) -> None:
        """Keep these sets."""
        self._spool.write(sets.values.tobytes())
        self._sizes.append(np.diff(sets.offsets).astype(np.int32))

    def close(self) -> None:
        """No more sets; from here on there is `jaccard`."""
        self._spool.flush()
        sizes = np.concatenate([np.zeros(0, np.int32), *self._sizes])
        self.offsets = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
        if self.offsets[-1]:
            self._values = np.memmap(self._spool, dtype=np.uint32, mode="r", shape=(int(self.offsets[-1]),))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def sizes(self) -> np.ndarray:
        """Shingles of each set."""
        return np.diff(self.offsets)

    def jaccard(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """The exact Jaccard similarity of pairs of texts, float64; 0 where the sizes alone put it below the
        threshold. first, second: numbers of texts, shape (pairs,)."""
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
        """How many shingles each pair has in common: those that stand twice when both sets are sorted."""
        both = np.concatenate([first, second])
        lengths = self.sizes[both]
        total = np.cumsum(lengths)
        places = np.arange(int(total[-1])) + np.repeat(self.offsets[both] - (total - lengths), lengths)
        pairs = np.repeat(np.tile(np.arange(len(first), dtype=np.uint64), 2), lengths)
        keys = (pairs << np.uint64(32)) | self._values[places]
        keys.sort(kind="stable")  # two runs that are in order already: merged in linear time
        twice = keys[1:][keys[1:] == keys[:-1]] >> np.uint64(32)
        return np.bincount(twice.astype(np.int64), minlength=len(first))


FOUND = 0.99  # of the pairs at the threshold
MOST = 160  # minima a row
BLOCK = 60_000  # shingles at a time: what is worked on stays in the processor's cache


def bands(threshold: float) -> tuple[int, int]:
    """(r, b): minima in a band, and bands, for pairs at that Jaccard similarity, 0.5 to 1."""
    best = (1, 1)
    for r in range(1, 33):
        share = threshold**r
        b = 1 if share >= FOUND else math.ceil(math.log(1 - FOUND) / math.log(1 - share))
        if r * b <= MOST and r * b >= best[0]:
            best = (r, b)
    return best


class TextSketch(NamedTuple):
    """Of a batch of texts: shingles, keys of bands of shape (b, texts), and the short texts by place."""

    sets: Sets
    keys: np.ndarray
    short: dict[int, str]


class Sketches(ShingleSpool):
    """Texts in the order in which they were added, as sets of shingles and keys of bands; the short ones as
    they are, too."""

    def __init__(self, threshold: float, folder: Path) -> None:
        super().__init__(threshold, folder)
        self.r, self.b = bands(threshold)
        random = np.random.default_rng(0)
        self._factors = random.integers(0, 2**32, self.r * self.b, dtype=np.uint32) | np.uint32(1)
        self._keys: list[np.ndarray] = []
        self._added = 0
        self.short = ShortTexts()

    def sketch(self, texts: list[str]) -> TextSketch:
        """What `add` takes of texts. Changes nothing, so threads may share it."""
        sets = shingle_sets(texts)
        return TextSketch(sets, self._band_keys(sets), maybe_short(texts))

    def add(self, sketch: TextSketch) -> None:
        """Keep what `sketch` made."""
        self.short.add(self._added, sketch.short)
        self.add_sets(sketch.sets)
        self._added += len(sketch.sets)
        self._keys.append(sketch.keys)

    def keys(self, band: int) -> np.ndarray:
        """uint32 of each text, equal where two share the band; texts without shingles have one too."""
        return np.concatenate([np.zeros(0, np.uint32), *(part[band] for part in self._keys)])

    def _band_keys(self, sets: Sets) -> np.ndarray:
        keys = np.zeros((self.b, len(sets)), dtype=np.uint32)
        filled = np.flatnonzero(np.diff(sets.offsets))  # reduceat has no word for an empty set
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
            np.multiply(values, factor, out=product)  # modulo 2**32; the high bits order the shingles anew
            np.minimum.reduceat(product, starts, out=minima)
            band = keys[number // self.r]
            band *= np.uint64(0x9E3779B97F4A7C15)
            band += minima
        return (mix(keys) >> np.uint64(32)).astype(np.uint32)
