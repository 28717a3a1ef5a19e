"""Overlap of texts: hashed word 5-grams (shingles), TF-IDF weighted character trigrams, and short texts.

In a short text, a single changed word spoils most 5-grams. Short texts are near duplicates if both Dice's
coefficient of their words and the cosine of their trigrams are high enough.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from typing import Any

import numpy as np
from scipy import sparse

# Texts as sets of hashed word 5-grams, computed for whole batches of rows.
#
# Words are runs of letters, digits, marks and underscores, after NFKC and casefold. A meaningful sign (+ - *
# / % # @ & and Unicode symbols) is a word of its own, and so is each character of a script without spaces
# (Chinese, Japanese, Thai, Lao, Khmer, Burmese). All other punctuation separates words. A row of one to four
# words has one shingle of all its words; a row without words has none and is never a near duplicate.

SHINGLE_WORDS = 5  # words of a shingle
BASE = np.uint64(0x9E3779B97F4A7C15)  # odd, so that it has an inverse modulo 2**64
INVERSE = np.uint64(pow(int(BASE), -1, 2**64))
ROW_MARK = "\ud800"  # separates rows: a lone surrogate, which no text can contain
TABLE_SIZE = 0x32400  # code points above are no letters and share the last entry
UNSPACED = (
    *((0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF)),  # Thai and Lao, Burmese, Khmer
    *((0x3040, 0x30FF), (0x3400, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x323AF)),  # kana, Han
)
SIGNS = "+-*/%#@&\\"


@dataclass(frozen=True)
class ShingleSets:
    """The distinct shingles of each row, ascending.

    `values`: uint32, all rows concatenated. `offsets`: int64, shape (rows + 1,).
    """

    values: np.ndarray
    offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1


def build_shingle_sets(texts: Sequence[str]) -> ShingleSets:
    """Return the shingles of each text, as 32-bit hashes.

    Of two disjoint sets of 100 shingles, two in a million would appear to share one.
    """
    words, offsets = hash_words(texts)
    counts = np.diff(offsets)
    where = np.arange(len(words))
    ends = np.repeat(offsets[1:], counts)
    hashes = np.zeros(len(words), dtype=np.uint64)
    for number in range(min(SHINGLE_WORDS, len(words))):  # words beyond the row's end add 0
        inside = where[number:] < ends[: len(words) - number]
        power: Any = np.uint64(pow(0xD1342543DE82EF95, number + 1, 2**64))
        hashes[: len(words) - number] += words[number:] * power * inside
    first = np.repeat(offsets[:-1], counts)
    kept = (where + SHINGLE_WORDS <= ends) | (where == first)
    rows = np.repeat(np.arange(len(counts), dtype=np.uint64), counts)[kept]
    keys = (rows << np.uint64(32)) | (mix_bits(hashes[kept]) >> np.uint64(32))
    keys.sort()
    if len(keys):
        keys = keys[np.concatenate([[True], keys[1:] != keys[:-1]])]
    sizes = np.bincount((keys >> np.uint64(32)).astype(np.int64), minlength=len(counts))
    return ShingleSets(keys.astype(np.uint32), np.concatenate([[0], np.cumsum(sizes)]))


def mix_bits(values: np.ndarray) -> np.ndarray:
    """Apply the last steps of SplitMix64 (Steele, Lea and Flood 2014): every input bit affects every bit."""
    x = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: np.ndarray = x ^ (x >> np.uint64(31))
    return mixed


def normalise_text(text: str) -> str:
    """Apply NFKC and casefold."""
    return text.lower() if text.isascii() else unicodedata.normalize("NFKC", text).casefold()


def hash_words(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return a hash of each word, uint64, and the offset of each row's first word, shape (rows + 1,).

    A word's hash is a polynomial of its code points, computed from one running sum over the batch.
    """
    parts = [normalise_text(text) for text in texts]
    joined = ROW_MARK.join([*parts, ""]).encode("utf-32-le", "surrogatepass")
    codes = np.frombuffer(joined, dtype=np.uint32)
    kinds = _classify_code_points()[np.minimum(codes, TABLE_SIZE - 1)]
    before = np.concatenate([np.zeros(1, np.uint8), kinds[:-1]])
    after = np.concatenate([kinds[1:], np.zeros(1, np.uint8)])
    begins = np.flatnonzero((kinds == 2) | ((kinds == 1) & (before != 1)))
    ends = np.flatnonzero((kinds == 2) | ((kinds == 1) & (after != 1))) + 1
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(codes * _compute_powers(BASE, len(codes)))])
    hashes = mix_bits((sums[ends] - sums[begins]) * _compute_powers(INVERSE, len(codes))[begins])
    lengths = np.fromiter(map(len, parts), np.int64, len(parts))
    row_begins = np.concatenate([[0], np.cumsum(lengths + 1)])
    return hashes, np.searchsorted(begins, row_begins)


_POWERS: dict[int, np.ndarray] = {}  # base -> as many powers as the longest batch needed


def _compute_powers(base: Any, count: int) -> np.ndarray:
    powers = _POWERS.get(int(base))
    if powers is None or len(powers) < count:
        powers = np.full(max(count, 2**20), base, dtype=np.uint64)
        powers[0] = 1
        np.cumprod(powers, out=powers)
        _POWERS[int(base)] = powers
    return powers[:count]


@cache
def _classify_code_points() -> np.ndarray:
    """Return for each code point 0 (separates words), 1 (part of a word) or 2 (a word by itself)."""
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
    kinds[ord("`")] = kinds[ord("|")] = 0  # code quotes and table bars have no meaning
    return kinds


# Similarity of texts by character trigrams, weighted by rarity.
#
# TF-IDF (Spärck Jones 1972) with logarithmic counts, and its cosine. A changed word or a typo removes a few
# trigrams and leaves the rest; what all texts share, such as the words of a template, has almost no weight.
# Words are runs of letters, digits and marks, after NFKC and casefold, separated and surrounded by a blank.

BUCKETS = 2**20  # hash buckets of trigrams
TRIGRAM_BATCH = 4_000  # texts at a time
TRIGRAM_PIECE = 20_000  # pairs at a time
DENSE_SHARE = 1 / 1_024  # share of pairs from which a common trigram is a dense column
MAX_DENSE = 512  # dense columns: 2 KiB a text
_WORD = re.compile(r"\w+")


def split_words(text: str) -> list[str]:
    """Return the words of the text, casefolded."""
    return _WORD.findall(normalise_text(text))


class TrigramWeights:
    """Texts as weighted trigrams: float32 rows of length 1, or 0 for a text without words."""

    def __init__(self, texts: Sequence[str]) -> None:
        counts = [
            _count_trigrams(texts[begin : begin + TRIGRAM_BATCH])
            for begin in range(0, len(texts), TRIGRAM_BATCH)
        ]
        empty = sparse.csr_array((0, BUCKETS), dtype=np.float32)
        rows = sparse.csr_array(sparse.vstack([empty, *counts], format="csr"))
        often = np.bincount(rows.indices, minlength=BUCKETS)
        rows.data *= np.log((1 + len(texts)) / often[rows.indices]).astype(np.float32)
        lengths = np.sqrt(np.asarray(rows.multiply(rows).sum(axis=1), np.float32)).ravel()
        rows.data /= np.repeat(np.maximum(lengths, np.finfo(np.float32).tiny), np.diff(rows.indptr))
        self.rows = rows

    def cosines(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Return the cosine of pairs of texts, by their numbers: float64, shape (pairs,)."""
        values = np.zeros(len(first))
        for begin in range(0, len(first), TRIGRAM_PIECE):
            piece = slice(begin, begin + TRIGRAM_PIECE)
            products = self.rows[first[piece]].multiply(self.rows[second[piece]])
            values[piece] = np.asarray(products.sum(axis=1)).ravel()
        return values


class TrigramProducts:
    """Cosines of every text of one side with every text of the other, block by block.

    A sparse product takes a step for each trigram shared by two texts, and nearly all of these steps are
    for a few trigrams that most texts have. Those are stored as dense columns, which takes about a
    hundredth of the time for each; rare trigrams, shared by few pairs, stay sparse.
    """

    def __init__(self, first: sparse.csr_array, second: sparse.csr_array) -> None:
        """first, second: rows of `TrigramWeights`."""
        counts = [np.bincount(side.indices, minlength=BUCKETS) for side in (first, second)]
        often = counts[0].astype(np.float64) * counts[1]  # pairs that have both
        many = np.flatnonzero(often > DENSE_SHARE * first.shape[0] * second.shape[0])
        common = np.sort(many[np.argsort(often[many])[-MAX_DENSE:]])
        self._first_common = _select_columns(first, common)
        self._second_common = _select_columns(second, common).toarray().T
        self._first_rare = _drop_columns(first, common)
        self._second_rare = sparse.csr_array(_drop_columns(second, common).T)

    def block(self, begin: int, end: int) -> np.ndarray:
        """Return float32 [texts, others]: these texts of the first side with all of the other."""
        product: np.ndarray = (self._first_rare[begin:end] @ self._second_rare).toarray()
        product += self._first_common[begin:end].toarray() @ self._second_common
        return product


def _select_columns(rows: sparse.csr_array, columns: np.ndarray) -> sparse.csr_array:
    """Return only these columns, in order."""
    place = np.full(BUCKETS, -1)
    place[columns] = np.arange(len(columns))
    return _build_from_entries(rows, place[rows.indices], len(columns))


def _drop_columns(rows: sparse.csr_array, columns: np.ndarray) -> sparse.csr_array:
    """Return the rows without these columns; the other columns keep their positions."""
    place = np.arange(BUCKETS)
    place[columns] = -1
    return _build_from_entries(rows, place[rows.indices], BUCKETS)


def _build_from_entries(rows: sparse.csr_array, places: np.ndarray, width: int) -> sparse.csr_array:
    """Build a matrix from the entries of these rows at new columns; -1 drops an entry."""
    kept = places >= 0
    ends = np.concatenate([[0], np.cumsum(kept)])[rows.indptr]
    return sparse.csr_array((rows.data[kept], places[kept], ends), shape=(rows.shape[0], width))


def _count_trigrams(texts: Sequence[str]) -> sparse.csr_array:
    """Return the logarithm of the count of each trigram in each text."""
    parts = [f" {' '.join(split_words(text))} " for text in texts]
    codes = np.frombuffer("".join(parts).encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    lengths = np.fromiter(map(len, parts), np.int64, len(parts))
    ends = np.cumsum(lengths)
    inside = np.ones(len(codes), bool)
    inside[np.concatenate([ends - 1, ends - 2])] = False  # trigrams that would cross into the next text
    places = np.flatnonzero(inside)
    hashes = codes[places] * np.uint64(1_000_003**2) + codes[places + 1] * np.uint64(1_000_003)
    hashes = mix_bits(hashes + codes[places + 2]) % np.uint64(BUCKETS)
    offsets = np.concatenate([[0], np.cumsum(np.maximum(lengths - 2, 0))])
    ones = np.ones(len(hashes), np.float32)
    rows = sparse.csr_array((ones, hashes.astype(np.int64), offsets), shape=(len(parts), BUCKETS))
    rows.sum_duplicates()
    rows.data = np.log2(1 + rows.data)
    return rows


# Near duplicates among short texts, in which a single changed word spoils most word 5-grams.
#
# Two texts of 4 to 32 words are nearly equal if they share three quarters of their words (Dice's coefficient)
# and the cosine of their trigrams, weighted by rarity, reaches the threshold. The cosine separates texts made
# from one template, as the words that differ are the rare ones. If they are not, as in "a timer for 5
# minutes", two more rules apply. Near duplicates have the same numbers. And a word is a template's filler if
# another word takes its place in `VARIED` pairs of texts, and in `VARIED_SHARE` of the pairs that have it;
# two texts are not equal if they have different fillers, or the same ones in another order, and one of the
# texts is in as many pairs. Candidates share two of their `RAREST` rarest words, as do any two texts that
# differ by at most three words. The texts of a bucket are compared with the next `WINDOW` texts in it, so
# that large buckets, as templates make, cost no more.
#
# `bench/detection/short_texts.py` measures what is found at each length, and how many unrelated texts match.

MIN_WORDS, MAX_WORDS = 4, 32
MAX_CHARACTERS = 12 * MAX_WORDS
MIN_DICE = 0.75  # of words
MIN_COSINE = 0.65  # of trigrams
RAREST = 5  # rarest words of a text, two of which are shared
WINDOW = 12
VARIED, VARIED_SHARE = 3, 0.3  # pairs with another word in place of a word; share of its pairs
_NUMBER = re.compile(r"\d+")

Pairs = tuple[np.ndarray, np.ndarray, np.ndarray]  # first, second, similarity; each pair once


class ShortTexts:
    """Potentially short texts among many, by their numbers."""

    def __init__(self) -> None:
        self._numbers: list[int] = []
        self._texts: list[str] = []

    def add(self, first: int, texts: Mapping[int, str]) -> None:
        """Add texts by their positions in a batch whose first text has the number `first`."""
        self._numbers += [first + place for place in texts]
        self._texts += texts.values()

    def pairs(self, threshold: float = 0.0, side: np.ndarray | None = None) -> Pairs:
        """Find near duplicates among the texts.

        threshold: raises the required cosine above `MIN_COSINE` if it is higher. side: int of every text;
        if given, only pairs from two sides are compared.
        """
        numbers = np.array(self._numbers, np.int64)
        sides = None if side is None else side[numbers]
        first, second, similarity = find_short_pairs(self._texts, max(MIN_COSINE, threshold - 0.05), sides)
        return numbers[first], numbers[second], similarity


def find_short_candidates(texts: Sequence[str]) -> dict[int, str]:
    """Return the texts with few characters, by position; their words are counted later."""
    return {place: text for place, text in enumerate(texts) if len(text) <= MAX_CHARACTERS}


def find_short_pairs(
    texts: Sequence[str], min_cosine: float = MIN_COSINE, side: np.ndarray | None = None
) -> Pairs:
    """Find near duplicates among the texts of `MIN_WORDS` to `MAX_WORDS` words, by their positions."""
    hashes, offsets = hash_words(texts)
    lengths = np.diff(offsets)
    short = (lengths >= MIN_WORDS) & (lengths <= MAX_WORDS)
    of_text = np.repeat(np.arange(len(texts)), lengths)
    hashes, of_text = hashes[short[of_text]], of_text[short[of_text]]
    words, places = np.unique(hashes, return_inverse=True)
    spoken = places, np.concatenate([[0], np.cumsum(lengths * short)])
    distinct = _sort_unique(of_text * max(1, len(words)) + places)
    of_text, places = np.divmod(distinct, max(1, len(words)))
    often = np.bincount(places, minlength=len(words))
    order = np.lexsort((places, often[places], of_text))
    first, second = _find_candidates(of_text[order], words[places[order]])
    if side is not None:  # all pairs are needed to find what varies
        across = _find_candidates(of_text[order], words[places[order]], side)
        codes = [low * len(texts) + high for low, high in ((first, second), across)]
        first, second = np.divmod(_sort_unique(np.concatenate(codes)), len(texts))
    ones = np.ones(len(places), np.int32)
    bags = sparse.csr_array((ones, (of_text, places)), shape=(len(texts), len(words)))
    close = _dice(bags, first, second) >= MIN_DICE
    first, second = first[close], second[close]
    if not len(first):
        return first, second, np.zeros(0)
    made = _find_template_pairs(bags, spoken, first, second) | _find_other_numbers(texts, first, second)
    kept = ~made if side is None else ~made & (side[first] != side[second])
    first, second = first[kept], second[kept]
    similarity = np.minimum(1.0, TrigramWeights(texts).cosines(first, second))
    good = similarity >= min_cosine - 1e-6  # float32 rounding
    return first[good], second[good], similarity[good]


def _find_candidates(
    of_text: np.ndarray, words: np.ndarray, side: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return pairs of texts that share two of their rarest words.

    of_text, words: text and word of each distinct word of a text, the rarest of each text first.
    """
    begins = np.flatnonzero(np.diff(of_text, prepend=-1))
    counts = np.diff(np.append(begins, len(of_text)))
    keys, owners = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
    for rarer, commoner in combinations(range(RAREST), 2):
        has = counts > commoner
        keys.append(mix_bits(words[begins[has] + rarer]) + words[begins[has] + commoner])
        owners.append(of_text[begins[has]])
    key, owner = np.concatenate(keys), np.concatenate(owners)
    order = np.lexsort((owner, key))
    key, owner = key[order], owner[order]
    codes = [np.zeros(0, np.int64)]
    count = int(owner.max()) + 1 if len(owner) else 1
    for step in range(1, WINDOW + 1):
        same = np.flatnonzero(key[step:] == key[:-step])
        low, high = owner[same], owner[same + step]
        apart = slice(None) if side is None else side[low] != side[high]
        codes.append(_sort_unique(low[apart] * count + high[apart]))
    return np.divmod(_sort_unique(np.concatenate(codes)), count)


def _sort_unique(values: np.ndarray) -> np.ndarray:
    """Return the distinct values, ascending; many times faster here than numpy's hashed `unique`."""
    ordered = np.sort(values)
    distinct: np.ndarray = ordered[np.diff(ordered, prepend=-1) != 0]
    return distinct


def _dice(bags: sparse.csr_array, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return Dice's coefficient of the words of each pair. bags: matrix of texts by words."""
    sizes = np.diff(bags.indptr)
    values = np.zeros(len(first))
    for begin in range(0, len(first), TRIGRAM_PIECE):
        low, high = first[begin : begin + TRIGRAM_PIECE], second[begin : begin + TRIGRAM_PIECE]
        shared = np.asarray(bags[low].multiply(bags[high]).sum(axis=1)).ravel()
        values[begin : begin + TRIGRAM_PIECE] = 2 * shared / (sizes[low] + sizes[high])
    return values


def _find_template_pairs(
    bags: sparse.csr_array, spoken: tuple[np.ndarray, np.ndarray], first: np.ndarray, second: np.ndarray
) -> np.ndarray:
    """Return which pairs are one template filled with other words, or the same words in another order: bool.

    spoken: the words of all texts in order, and the offset of each text's first word.
    """
    low, high = _select_own_words(bags, first, second), _select_own_words(bags, second, first)
    replaced = (np.diff(low.indptr) > 0) & (np.diff(high.indptr) > 0)  # no pure insertions or deletions
    own = (low[replaced] + high[replaced]).sum(axis=0)
    having = np.bincount(np.concatenate([first, second]), minlength=bags.shape[0]) @ bags
    shared = (having - low.sum(axis=0) - high.sum(axis=0)) / 2
    varies = (own >= VARIED) & (own >= VARIED_SHARE * (own + shared))
    partners = np.bincount(np.concatenate([first[replaced], second[replaced]]), minlength=bags.shape[0])
    many = np.maximum(partners[first], partners[second]) >= VARIED
    made: np.ndarray = many & (low @ varies > 0) & (high @ varies > 0)
    left = np.flatnonzero(many & ~made)
    made[left] = _find_reordered(spoken, varies, first[left], second[left])
    return made


def _find_reordered(
    spoken: tuple[np.ndarray, np.ndarray], varies: np.ndarray, first: np.ndarray, second: np.ndarray
) -> np.ndarray:
    """Return for each pair whether varying words that both texts have are in another order."""
    words, begins = spoken
    fillers: dict[int, list[int]] = {}
    for text in {*first.tolist(), *second.tolist()}:
        own = words[begins[text] : begins[text + 1]]
        fillers[text] = own[varies[own]].tolist()
    pairs = ((fillers[low], fillers[high]) for low, high in zip(first.tolist(), second.tolist(), strict=True))
    orders = (
        [word for word in low if word in high] != [word for word in high if word in low]
        for low, high in pairs
    )
    return np.fromiter(orders, bool, len(first))


def _select_own_words(bags: sparse.csr_array, ours: np.ndarray, theirs: np.ndarray) -> sparse.csr_array:
    """Return for each pair the words of the first text that the second one doesn't have."""
    empty = sparse.csr_array((0, bags.shape[1]), dtype=bags.dtype)
    parts = []
    for begin in range(0, len(ours), TRIGRAM_PIECE):
        mine, other = bags[ours[begin : begin + TRIGRAM_PIECE]], bags[theirs[begin : begin + TRIGRAM_PIECE]]
        own = sparse.csr_array(mine - mine.multiply(other))
        own.eliminate_zeros()
        parts.append(own)
    return sparse.csr_array(sparse.vstack([empty, *parts], format="csr"))


def _find_other_numbers(texts: Sequence[str], first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return which pairs differ in their numbers or in the order of these: bool."""
    numbers = {
        place: _NUMBER.findall(normalise_text(texts[place])) for place in {*first.tolist(), *second.tolist()}
    }
    pairs = zip(first.tolist(), second.tolist(), strict=True)
    return np.fromiter((numbers[low] != numbers[high] for low, high in pairs), bool, len(first))
