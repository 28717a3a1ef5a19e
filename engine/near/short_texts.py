"""Near duplicates among short texts, of which a single changed word spoils most word 5-grams.

Two texts of 4 to 32 words are nearly the same where they share three quarters of their words (Dice's
coefficient), and the cosine of their trigrams, weighted by rarity (`trigrams`), has the threshold. The second
parts what was made from one template: there the words that differ are the rare ones. Where they are not, as
in "a timer for 5 minutes", two more rules do. Near duplicates have the same numbers. And a word is what a
template is filled with where another stands in its place in `VARIED` pairs of texts, and in `VARIED_SHARE` of
those that have it; two texts are not the same where they are filled with other such words, or with the same
in another order, and one of them is in as many pairs. Candidates share two of their `RAREST` rarest words, as
any two texts do that differ by three words or fewer; the texts of a bucket are compared with the `WINDOW`
next ones in it, so a bucket of more, as templates make, costs no more.

`bench/detection/short_texts.py` measures what is found at which length, and how many unrelated texts match.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
from scipy import sparse

from engine.near.shingles import mix, normalise, words_hashed
from engine.near.trigrams import PIECE, TrigramWeights

MIN_WORDS, MAX_WORDS = 4, 32
MAX_CHARACTERS = 12 * MAX_WORDS
MIN_DICE = 0.75  # of the words
MIN_COSINE = 0.65  # of the trigrams
RAREST = 5  # words of a text, of which two are shared
WINDOW = 12
VARIED, VARIED_SHARE = 3, 0.3  # pairs that have another word in the place of a word, and of all its pairs
_NUMBER = re.compile(r"\d+")

Pairs = tuple[np.ndarray, np.ndarray, np.ndarray]  # first, second, similarity; of each pair once


class ShortTexts:
    """Those of many texts that may be short, by their numbers among all."""

    def __init__(self) -> None:
        self._numbers: list[int] = []
        self._texts: list[str] = []

    def add(self, first: int, texts: Mapping[int, str]) -> None:
        """Texts by their places in a batch whose first text has the number `first`."""
        self._numbers += [first + place for place in texts]
        self._texts += texts.values()

    def pairs(self, threshold: float = 0.0, side: np.ndarray | None = None) -> Pairs:
        """Near duplicates among them. threshold: where it asks for more than `MIN_COSINE`, that is asked.
        side: int of every text; then only pairs of two sides are looked at."""
        numbers = np.array(self._numbers, np.int64)
        sides = None if side is None else side[numbers]
        first, second, similarity = short_pairs(self._texts, max(MIN_COSINE, threshold - 0.05), sides)
        return numbers[first], numbers[second], similarity


def maybe_short(texts: Sequence[str]) -> dict[int, str]:
    """Those that have few characters, by their places; how many words they have is looked at later."""
    return {place: text for place, text in enumerate(texts) if len(text) <= MAX_CHARACTERS}


def short_pairs(
    texts: Sequence[str], min_cosine: float = MIN_COSINE, side: np.ndarray | None = None
) -> Pairs:
    """Near duplicates among the texts of `MIN_WORDS` to `MAX_WORDS` words, by their places."""
    hashes, offsets = words_hashed(texts)
    lengths = np.diff(offsets)
    short = (lengths >= MIN_WORDS) & (lengths <= MAX_WORDS)
    of_text = np.repeat(np.arange(len(texts)), lengths)
    hashes, of_text = hashes[short[of_text]], of_text[short[of_text]]
    words, places = np.unique(hashes, return_inverse=True)
    spoken = places, np.concatenate([[0], np.cumsum(lengths * short)])
    distinct = _distinct(of_text * max(1, len(words)) + places)
    of_text, places = np.divmod(distinct, max(1, len(words)))
    often = np.bincount(places, minlength=len(words))
    order = np.lexsort((places, often[places], of_text))
    first, second = _candidates(of_text[order], words[places[order]])
    if side is not None:  # the others say what varies
        across = _candidates(of_text[order], words[places[order]], side)
        codes = [low * len(texts) + high for low, high in ((first, second), across)]
        first, second = np.divmod(_distinct(np.concatenate(codes)), len(texts))
    ones = np.ones(len(places), np.int32)
    bags = sparse.csr_array((ones, (of_text, places)), shape=(len(texts), len(words)))
    close = _dice(bags, first, second) >= MIN_DICE
    first, second = first[close], second[close]
    if not len(first):
        return first, second, np.zeros(0)
    made = _of_template(bags, spoken, first, second) | _other_numbers(texts, first, second)
    kept = ~made if side is None else ~made & (side[first] != side[second])
    first, second = first[kept], second[kept]
    similarity = np.minimum(1.0, TrigramWeights(texts).cosines(first, second))
    good = similarity >= min_cosine - 1e-6  # sums of float32
    return first[good], second[good], similarity[good]


def _candidates(
    of_text: np.ndarray, words: np.ndarray, side: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of texts that share two of their rarest words. of_text, words: of each distinct word of a text,
    the rarest of each text first."""
    begins = np.flatnonzero(np.diff(of_text, prepend=-1))
    counts = np.diff(np.append(begins, len(of_text)))
    keys, owners = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
    for rarer, commoner in combinations(range(RAREST), 2):
        has = counts > commoner
        keys.append(mix(words[begins[has] + rarer]) + words[begins[has] + commoner])
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
        codes.append(_distinct(low[apart] * count + high[apart]))
    return np.divmod(_distinct(np.concatenate(codes)), count)


def _distinct(values: np.ndarray) -> np.ndarray:
    """Each value once, ascending: sorted, which is many times as fast here as numpy's hashed `unique`."""
    ordered = np.sort(values)
    return ordered[np.diff(ordered, prepend=-1) != 0]


def _dice(bags: sparse.csr_array, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Dice's coefficient of the words of each pair. bags: which texts have which words."""
    sizes = np.diff(bags.indptr)
    values = np.zeros(len(first))
    for begin in range(0, len(first), PIECE):
        low, high = first[begin : begin + PIECE], second[begin : begin + PIECE]
        shared = np.asarray(bags[low].multiply(bags[high]).sum(axis=1)).ravel()
        values[begin : begin + PIECE] = 2 * shared / (sizes[low] + sizes[high])
    return values


def _of_template(
    bags: sparse.csr_array, spoken: tuple[np.ndarray, np.ndarray], first: np.ndarray, second: np.ndarray
) -> np.ndarray:
    """Which pairs are filled with other words, or with the same in another order: bool. spoken: the words of
    all texts in their order, and where each text's begin."""
    low, high = _own_words(bags, first, second), _own_words(bags, second, first)
    replaced = (np.diff(low.indptr) > 0) & (np.diff(high.indptr) > 0)  # and not a word put in or dropped
    own = (low[replaced] + high[replaced]).sum(axis=0)
    having = np.bincount(np.concatenate([first, second]), minlength=bags.shape[0]) @ bags
    shared = (having - low.sum(axis=0) - high.sum(axis=0)) / 2
    varies = (own >= VARIED) & (own >= VARIED_SHARE * (own + shared))
    partners = np.bincount(np.concatenate([first[replaced], second[replaced]]), minlength=bags.shape[0])
    many = np.maximum(partners[first], partners[second]) >= VARIED
    made: np.ndarray = many & (low @ varies > 0) & (high @ varies > 0)
    left = np.flatnonzero(many & ~made)
    made[left] = _reordered(spoken, varies, first[left], second[left])
    return made


def _reordered(
    spoken: tuple[np.ndarray, np.ndarray], varies: np.ndarray, first: np.ndarray, second: np.ndarray
) -> np.ndarray:
    """Of each pair whether words that vary, and that both texts have, stand in another order."""
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


def _own_words(bags: sparse.csr_array, ours: np.ndarray, theirs: np.ndarray) -> sparse.csr_array:
    """Of each pair the words that the one text has and the other has not."""
    empty = sparse.csr_array((0, bags.shape[1]), dtype=bags.dtype)
    parts = []
    for begin in range(0, len(ours), PIECE):
        mine, other = bags[ours[begin : begin + PIECE]], bags[theirs[begin : begin + PIECE]]
        own = sparse.csr_array(mine - mine.multiply(other))
        own.eliminate_zeros()
        parts.append(own)
    return sparse.csr_array(sparse.vstack([empty, *parts], format="csr"))


def _other_numbers(texts: Sequence[str], first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Which pairs differ in their numbers, or the order of them: bool."""
    numbers = {
        place: _NUMBER.findall(normalise(texts[place])) for place in {*first.tolist(), *second.tolist()}
    }
    pairs = zip(first.tolist(), second.tolist(), strict=True)
    return np.fromiter((numbers[low] != numbers[high] for low, high in pairs), bool, len(first))
