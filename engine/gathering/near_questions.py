"""Pairs of a new and a held-out question that may ask the same, by rare trigrams and by meaning.

Every new question is held against every held-out one, a block of them at a time: what a block takes of the
memory is bounded, however many are held out. Of a pair both cosines are looked at, so that the products are
most of the time; `engine.near.trigrams` has the sparse one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from engine.data.deal.dealing import FEW_PROMPTS
from engine.near.trigrams import TrigramProducts, TrigramWeights, words_of
from engine.signals.embedded.embeddings import FIRST, embed
from engine.signals.group import Progress

TEMPLATE_SHARE = 0.1  # of the questions; a word that more have says nothing of what one means
MIN_OWN_WORDS = 3  # of a question, for its meaning to be looked at
NEAREST = 8  # held-out rows that are looked at, by each measure
BLOCK_BYTES = 16 * 2**20  # of the cosines of a block by one measure
MOST_ROWS = 1_024  # new questions of a block
TIE = 1e-6  # cosines that differ by less are equal: the sums of a block are in no order of their own
COMPARING = "Comparing what is asked"


class QuestionThresholds(NamedTuple):
    """How alike two questions have to be: by trigrams or by meaning."""

    trigrams: float
    meaning: float

    def reached(self, trigrams: np.ndarray, meaning: np.ndarray) -> np.ndarray:
        """Of pairs: bool."""
        enough: np.ndarray = (trigrams >= self.trigrams) | (meaning >= self.meaning)
        return enough


class QuestionPairs(NamedTuple):
    """Places among the new and among the held-out questions, int64, and both cosines, float32."""

    first: np.ndarray
    second: np.ndarray
    trigrams: np.ndarray
    meaning: np.ndarray


def near_questions(
    new: Sequence[str],
    held: Sequence[str],
    least: QuestionThresholds,
    progress: Progress,
    *,
    itself: bool = False,
) -> QuestionPairs:
    """Pairs that reach `least` and are among the `NEAREST` of their new question by one of the measures.
    There is a question on either side. itself: both are the same, and none is its own pair."""
    count = len(new)
    progress(0, count, "questions", COMPARING)
    texts = [text[:FIRST] for text in (*new, *held)]
    weights = TrigramWeights(texts).rows
    progress(0, count, "questions", COMPARING)
    vectors = embed(pa.array(own_words(texts), pa.large_string()))
    products = TrigramProducts(weights[:count], weights[count:])
    own, others = vectors[:count], vectors[count:]
    size = min(MOST_ROWS, max(1, BLOCK_BYTES // (4 * len(held))))
    parts = []
    for begin in range(0, count, size):
        progress(begin, count, "questions", COMPARING)
        trigrams, meaning = products.block(begin, begin + size), own[begin : begin + size] @ others.T
        rows, columns = _nearest(trigrams, meaning, least)
        if itself:
            apart = rows + begin != columns
            rows, columns = rows[apart], columns[apart]
        parts.append(QuestionPairs(rows + begin, columns, trigrams[rows, columns], meaning[rows, columns]))
    progress(count, count, "questions", COMPARING)
    return QuestionPairs(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _nearest(
    trigrams: np.ndarray, meaning: np.ndarray, least: QuestionThresholds
) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the pairs. Where no more than `NEAREST` of a row reach `least`, each of them is
    among the largest by the measure by which it does, and nothing has to be put in order."""
    places = np.flatnonzero(least.reached(trigrams, meaning))  # which is faster than `nonzero` of two axes
    rows, columns = np.divmod(places, trigrams.shape[1])
    crowded = np.flatnonzero(np.bincount(rows, minlength=len(trigrams)) > NEAREST)
    if not len(crowded):
        return rows, columns
    largest = np.zeros(len(rows), bool)
    for cosines in (trigrams, meaning):
        floor = np.full(len(cosines), -np.inf, np.float32)
        ordered = cosines[crowded]
        ordered.partition(-NEAREST, axis=1)
        floor[crowded] = ordered[:, -NEAREST] - TIE
        largest |= cosines[rows, columns] >= floor[rows]
    return rows[largest], columns[largest]


def own_words(texts: Sequence[str]) -> list[str]:
    """Each question without the words of a template, which would make all of them mean the same, and without
    numbers, whose vectors are all alike; "" where too few words are left to tell what is meant."""
    words = [words_of(text) for text in texts]
    often = Counter(word for own in words for word in set(own))
    most = max(FEW_PROMPTS, TEMPLATE_SHARE * len(texts))
    own = [[word for word in each if often[word] <= most and not word.isdecimal()] for each in words]
    return [" ".join(each) if len(set(each)) >= MIN_OWN_WORDS else "" for each in own]
