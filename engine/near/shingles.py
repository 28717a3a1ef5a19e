"""Texts as sets of hashed word 5-grams, for whole batches of rows at once.

Words are runs of letters, digits, marks and underscores, after NFKC and casefold; a sign that carries meaning
(+ - * / % # @ & and the symbols of Unicode) is a word of its own, and so is a character of a script that is
written without spaces (Chinese, Japanese, Thai, Lao, Khmer, Burmese). All other punctuation parts words. A
row of one to four words has one shingle, all its words; a row without a word has none, and is no near
duplicate of anything.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

WORDS = 5  # of a shingle
BASE = np.uint64(0x9E3779B97F4A7C15)  # odd, so that it has an inverse modulo 2**64
INVERSE = np.uint64(pow(int(BASE), -1, 2**64))
ROW_MARK = "\ud800"  # stands between rows: half a surrogate pair, which no text can hold
TABLE_SIZE = 0x32400  # code points above hold no letters; they share the last entry
UNSPACED = (
    *((0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF)),  # Thai and Lao, Burmese, Khmer
    *((0x3040, 0x30FF), (0x3400, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x323AF)),  # kana, Han
)
SIGNS = "+-*/%#@&\\"


@dataclass(frozen=True)
class Sets:
    """For each row its distinct shingles, ascending. `values`: uint32, all rows one after the other;
    `offsets`: int64, shape (rows + 1,)."""

    values: np.ndarray
    offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1


def shingle_sets(texts: Sequence[str]) -> Sets:
    """The shingles of each text. 32 bits of a hash stand for a shingle: of two sets of 100 that share nothing
    two in a million would seem to share one."""
    words, offsets = words_hashed(texts)
    counts = np.diff(offsets)
    where = np.arange(len(words))
    ends = np.repeat(offsets[1:], counts)
    hashes = np.zeros(len(words), dtype=np.uint64)
    for number in range(min(WORDS, len(words))):  # a word beyond the row's end counts as nothing
        inside = where[number:] < ends[: len(words) - number]
        hashes[: len(words) - number] += words[number:] * _power(number) * inside
    first = np.repeat(offsets[:-1], counts)
    kept = (where + WORDS <= ends) | (where == first)
    rows = np.repeat(np.arange(len(counts), dtype=np.uint64), counts)[kept]
    keys = (rows << np.uint64(32)) | (mix(hashes[kept]) >> np.uint64(32))
    keys.sort()
    if len(keys):
        keys = keys[np.concatenate([[True], keys[1:] != keys[:-1]])]
    sizes = np.bincount((keys >> np.uint64(32)).astype(np.int64), minlength=len(counts))
    return Sets(keys.astype(np.uint32), np.concatenate([[0], np.cumsum(sizes)]))


def mix(values: np.ndarray) -> np.ndarray:
    """SplitMix64's last steps (Steele, Lea and Flood 2014): every bit of the input moves every bit."""
    x = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def normalise(text: str) -> str:
    """NFKC and casefold."""
    return text.lower() if text.isascii() else unicodedata.normalize("NFKC", text).casefold()


def words_hashed(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """A hash of each word, uint64, and where the words of each row begin, shape (rows + 1,).

    A word's hash is a polynomial of its code points, cut out of one running sum over the batch.
    """
    parts = [normalise(text) for text in texts]
    joined = ROW_MARK.join([*parts, ""]).encode("utf-32-le", "surrogatepass")
    codes = np.frombuffer(joined, dtype=np.uint32)
    kinds = _kinds()[np.minimum(codes, TABLE_SIZE - 1)]
    before = np.concatenate([np.zeros(1, np.uint8), kinds[:-1]])
    after = np.concatenate([kinds[1:], np.zeros(1, np.uint8)])
    begins = np.flatnonzero((kinds == 2) | ((kinds == 1) & (before != 1)))
    ends = np.flatnonzero((kinds == 2) | ((kinds == 1) & (after != 1))) + 1
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(codes * _powers(BASE, len(codes)))])
    hashes = mix((sums[ends] - sums[begins]) * _powers(INVERSE, len(codes))[begins])
    lengths = np.fromiter(map(len, parts), np.int64, len(parts))
    row_begins = np.concatenate([[0], np.cumsum(lengths + 1)])
    return hashes, np.searchsorted(begins, row_begins)


def _power(number: int) -> Any:
    return np.uint64(pow(0xD1342543DE82EF95, number + 1, 2**64))


_POWERS: dict[int, np.ndarray] = {}  # of each base as many as the longest batch wanted


def _powers(base: Any, count: int) -> np.ndarray:
    powers = _POWERS.get(int(base))
    if powers is None or len(powers) < count:
        powers = np.full(max(count, 2**20), base, dtype=np.uint64)
        powers[0] = 1
        np.cumprod(powers, out=powers)
        _POWERS[int(base)] = powers
    return powers[:count]


@cache
def _kinds() -> np.ndarray:
    """For each code point 0 (parts words), 1 (of a word) or 2 (a word by itself)."""
    kinds = np.zeros(TABLE_SIZE, dtype=np.uint8)
    for code in range(TABLE_SIZE - 1):
        category = unicodedata.category(chr(code))
        if category[0] in "LNM":
            kinds[code] = 1
        elif category[0] == "S":
            kinds[code] = 2
    for low, high in UNSPACED:
        block = kinds[low : high + 1]
        block[block == 1] = 2
    kinds[[ord(sign) for sign in SIGNS]] = 2
    kinds[ord("_")] = 1
    kinds[ord("`")] = kinds[ord("|")] = 0  # quotes of code and the bars of tables say nothing
    return kinds
