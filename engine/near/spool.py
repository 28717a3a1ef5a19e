"""Sets of shingles on the disk, and the exact Jaccard similarity of any two of them."""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from engine.near.shingles import Sets

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
        found = np.zeros(len(first))
        possible = np.flatnonzero((small >= self.threshold * large) & (small > 0))
        ends = np.cumsum((small + large)[possible])
        begin = 0
        while begin < len(possible):
            done = int(ends[begin - 1]) if begin else 0
            end = max(begin + 1, int(np.searchsorted(ends, done + VERIFY, side="right")))
            chosen = possible[begin:end]
            shared = self._shared(first[chosen], second[chosen])
            found[chosen] = shared / ((small + large)[chosen] - shared)
            begin = end
        return found

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
