"""Find new rows that paraphrase a held-out row: similar questions, by rare trigrams and by meaning, and
answers that copy another or parts of it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import log2
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from engine.data.signals.embeddings import EMBEDDED_CHARACTERS, embed
from engine.data.signals.protocol import Progress
from engine.data.similarity.text_overlap import TrigramProducts, TrigramWeights, split_words
from engine.data.split.dataset_split import FEW_PROMPTS

# Every new question is compared with every held-out one, in blocks, so that memory is bounded however many
# are held out. Both cosines are computed for each pair, and these products take most of the time;
# `engine.data.similarity.text_overlap` has the sparse one.

TEMPLATE_SHARE = 0.1  # share of questions; a more frequent word doesn't carry meaning
MIN_OWN_WORDS = 3  # minimum number of a question's own words to compare its meaning
NEAREST = 8  # held-out rows compared, by each measure
BLOCK_BYTES = 16 * 2**20  # bytes of a block's cosines by one measure
MAX_ROWS = 1_024  # new questions per block
TIE = 1e-6  # smaller differences are ties: the summation order varies by block
COMPARING_QUESTIONS = "Comparing questions"


class QuestionThresholds(NamedTuple):
    """Thresholds of question similarity, by trigrams or by meaning."""

    trigrams: float
    meaning: float

    def reached(self, trigrams: np.ndarray, meaning: np.ndarray) -> np.ndarray:
        """Return a boolean array of the pairs that reach either threshold."""
        enough: np.ndarray = (trigrams >= self.trigrams) | (meaning >= self.meaning)
        return enough


class QuestionPairs(NamedTuple):
    """Indices of the new and held-out questions, int64, and both cosines, float32."""

    first: np.ndarray
    second: np.ndarray
    trigrams: np.ndarray
    meaning: np.ndarray


def find_similar_questions(
    new: Sequence[str],
    held: Sequence[str],
    least: QuestionThresholds,
    progress: Progress,
    *,
    itself: bool = False,
) -> QuestionPairs:
    """Find pairs that reach `least` and are among the `NEAREST` of their new question by one of the measures.

    Neither side may be empty. With `itself`, both sides are the same, and questions aren't paired with
    themselves.
    """
    count = len(new)
    progress(0, count, "questions", COMPARING_QUESTIONS)
    texts = [text[:EMBEDDED_CHARACTERS] for text in (*new, *held)]
    weights = TrigramWeights(texts).rows
    progress(0, count, "questions", COMPARING_QUESTIONS)
    vectors = embed(pa.array(strip_template_words(texts), pa.large_string()))
    products = TrigramProducts(weights[:count], weights[count:])
    own, others = vectors[:count], vectors[count:]
    size = min(MAX_ROWS, max(1, BLOCK_BYTES // (4 * len(held))))
    parts = []
    for begin in range(0, count, size):
        progress(begin, count, "questions", COMPARING_QUESTIONS)
        trigrams, meaning = products.block(begin, begin + size), own[begin : begin + size] @ others.T
        rows, columns = _find_nearest(trigrams, meaning, least)
        if itself:
            apart = rows + begin != columns
            rows, columns = rows[apart], columns[apart]
        parts.append(QuestionPairs(rows + begin, columns, trigrams[rows, columns], meaning[rows, columns]))
    progress(count, count, "questions", COMPARING_QUESTIONS)
    return QuestionPairs(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _find_nearest(
    trigrams: np.ndarray, meaning: np.ndarray, least: QuestionThresholds
) -> tuple[np.ndarray, np.ndarray]:
    """Return rows and columns of the nearest pairs.

    If at most `NEAREST` pairs of a row reach `least`, all of them are among the nearest and no sorting is
    needed.
    """
    places = np.flatnonzero(least.reached(trigrams, meaning))  # faster than `nonzero` on two axes
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


def strip_template_words(texts: Sequence[str]) -> list[str]:
    """Remove template words and numbers from each question; "" if too few words are left to compare meaning.

    Template words would make all questions similar, and the vectors of numbers are all alike.
    """
    words = [split_words(text) for text in texts]
    often = Counter(word for own in words for word in set(own))
    most = max(FEW_PROMPTS, TEMPLATE_SHARE * len(texts))
    own = [[word for word in each if often[word] <= most and not word.isdecimal()] for each in words]
    return [" ".join(each) if len(set(each)) >= MIN_OWN_WORDS else "" for each in own]


# Answers are compared by runs of words that both have, counted in bits: a word that occurs in one of a
# thousand answers has ten bits. Frequent phrases ("Yes", a label, a closing phrase) therefore never match,
# and half a unique sentence does. Questions are compared by rare character trigrams and by the row vectors
# used elsewhere (`embeddings`); lower thresholds apply if the answers are equal and rare.
#
# `bench/detection/reworded.py` measures recall, false positives and misses.

RUN = 4  # words per run
RARE = 20  # answers; a more frequent run is ignored
MIN_BITS, MIN_SHARE = 40.0, 0.4  # minimum bits and share of a held-out answer that is copied in part
MANY_BITS = 100.0  # regardless of the share
WHOLE_BITS, WHOLE_SHARE = 18.0, 0.9  # minimum bits and share of an answer that is copied as a whole
MIN_ANSWER_BITS = 6.0  # minimum bits of equal answers: at most one in 64 old rows has it
DIGITS = 5  # decimals of a cosine; among ties the last row is taken, regardless of its block
STEP = 500  # answers between checks for cancellation
COMPARING_ANSWERS = "Comparing the answers"

ALONE = QuestionThresholds(0.6, 0.9)  # regardless of the answers
SAME_ANSWER = QuestionThresholds(0.3, 0.6)
# Paraphrases within one class are what a classifier should learn, so they are no leak.
OF_LABELS = QuestionThresholds(0.8, 2.0)


@dataclass(frozen=True)
class AnsweredQuestions:
    """Rows in the form in which they are compared here.

    questions: without system turns, "" for plain texts. answers: folded. labelled: bool, the answer is a
    label.
    """

    questions: Sequence[str]
    answers: Sequence[str]
    labelled: np.ndarray

    def __len__(self) -> int:
        return len(self.questions)

    def chosen(self, rows: np.ndarray) -> AnsweredQuestions:
        """Select rows by index."""
        places = rows.tolist()
        return AnsweredQuestions(
            [self.questions[place] for place in places],
            [self.answers[place] for place in places],
            self.labelled[rows],
        )


class RepeatMatches(NamedTuple):
    """Held-out partners of each new row, int64 indices, -1 for none.

    copied: the row whose answer it copies. reworded: the row whose question it paraphrases.
    """

    copied: np.ndarray
    reworded: np.ndarray


def find_repeated(
    new: AnsweredQuestions, held: AnsweredQuestions, others: Sequence[str], progress: Progress
) -> RepeatMatches:
    """Find which held-out row each new row repeats; if both arguments are the same object, which other row.

    `others` are further folded answers, used for word frequencies. `progress` may raise to stop.
    """
    copied = np.full(len(new), -1)
    if not len(new) or not len(held):
        return RepeatMatches(copied, copied.copy())
    itself = new is held
    for number, partner in _find_copied_answers(
        new.answers, [] if itself else held.answers, others, progress
    ):
        copied[number] = partner
    return RepeatMatches(copied, _find_reworded(new, held, others, progress))


def _find_copied_answers(
    new: Sequence[str], held: Sequence[str], others: Sequence[str], progress: Progress
) -> Iterator[tuple[int, int]]:
    """Yield new answers that copy a held-out one, with the one they share most with.

    If `held` is empty, new answers are compared with each other.
    """
    every = (*new, *held, *others)
    telling = _ProgressReporter(progress, len(held or new) + len(every) + len(new))
    partners = [split_words(text) for text in telling.each(held or new)]
    holders: dict[int, list[int]] = defaultdict(list)
    for partner, words in enumerate(partners):
        for run in set(_hash_runs(words)):
            holders[run].append(partner)
    often: Counter[str] = Counter()
    shared: Counter[int] = Counter()
    for text in telling.each(every):  # one at a time, as there may be many
        words = split_words(text)
        often.update(set(words))
        shared.update({run for run in _hash_runs(words) if run in holders})
    total = 1 + len(every)
    bits = {word: log2(total / often[word]) for words in partners for word in words}
    for number, text in enumerate(telling.each(new)):
        own = {run for run in _hash_runs(split_words(text)) if run in holders and shared[run] <= RARE}
        often_shared = Counter(partner for run in own for partner in holders[run])
        if not held:
            del often_shared[number]
        near = [partner for partner, _ in often_shared.most_common(NEAREST)]
        shared_bits = {partner: _sum_shared_bits(partners[partner], own, bits) for partner in near}
        if any(shared_bits.values()):
            yield number, max(shared_bits, key=lambda partner: shared_bits[partner])


class _ProgressReporter:
    """Reporter of progress over several passes through texts."""

    def __init__(self, progress: Progress, total: int) -> None:
        self.progress, self.total, self.done = progress, total, 0

    def each(self, texts: Sequence[str]) -> Iterator[str]:
        """Iterate over the texts of one pass."""
        for text in texts:
            if self.done % STEP == 0:
                self.progress(self.done, self.total, "answers", COMPARING_ANSWERS)
            self.done += 1
            yield text


def _hash_runs(words: Sequence[str]) -> Iterator[int]:
    """Yield a hash of each run of words; storing the runs of many long answers would fill the memory."""
    return (hash(tuple(words[at : at + RUN])) for at in range(len(words) - RUN + 1))


def _sum_shared_bits(words: Sequence[str], runs: set[int], bits: Mapping[str, float]) -> float:
    """Return the bits of the words in these runs, or 0 if they are too few and too small a part of all."""
    covered = {
        word for at, run in enumerate(_hash_runs(words)) if run in runs for word in words[at : at + RUN]
    }
    shared_bits = sum(bits[word] for word in covered)
    whole = sum(bits[word] for word in set(words))
    asked = ((MANY_BITS, 0.0), (MIN_BITS, MIN_SHARE), (WHOLE_BITS, WHOLE_SHARE))
    enough = any(shared_bits >= least and shared_bits >= share * whole for least, share in asked)
    return shared_bits if enough else 0.0


def _find_reworded(
    new: AnsweredQuestions, held: AnsweredQuestions, others: Sequence[str], progress: Progress
) -> np.ndarray:
    first, second, trigrams, meaning = find_similar_questions(
        new.questions, held.questions, SAME_ANSWER, progress, itself=new is held
    )
    codes = _encode_answers(new.answers, held.answers, others)
    mine, theirs = codes[first], codes[len(new) + second]
    labelled = new.labelled[first] | held.labelled[second]
    reached = np.where(labelled, OF_LABELS.reached(trigrams, meaning), ALONE.reached(trigrams, meaning))
    reached |= (mine == theirs) & (mine >= 0) & ~labelled & SAME_ANSWER.reached(trigrams, meaning)
    first, second, strength = first[reached], second[reached], np.maximum(trigrams, meaning)[reached]
    order = np.argsort(strength.round(DIGITS), kind="stable")
    partner = np.full(len(new), -1)
    partner[first[order]] = second[order]  # the last assignment, of the most similar, wins
    return partner


def _encode_answers(new: Sequence[str], held: Sequence[str], others: Sequence[str]) -> np.ndarray:
    """Return an integer code of each new and held-out row's answer, -1 if it is too frequent in old rows to
    matter.
    """
    old = Counter([*held, *others])
    total = old.total()
    least = min(MIN_ANSWER_BITS, log2(1 + total) - 0.5)  # with few rows, an answer that occurs once
    numbers: dict[str, int] = {}
    return np.array(
        [
            numbers.setdefault(answer, len(numbers))
            if answer and log2((1 + total) / max(1, old[answer])) >= least
            else -1
            for answer in (*new, *held)
        ],
        np.int64,
    )
