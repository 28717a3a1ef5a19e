"""New rows that repeat a row that judges in other words: pairs of questions that may ask the same, by rare
trigrams and by meaning, and answers, or parts of them, that say the same.
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

# Pairs of a new and a held-out question that may ask the same, by rare trigrams and by meaning.
#
# Every new question is held against every held-out one, a block of them at a time: what a block takes of the
# memory is bounded, however many are held out. Of a pair both cosines are looked at, so that the products are
# most of the time; `engine.data.similarity.text_overlap` has the sparse one.

TEMPLATE_SHARE = 0.1  # of the questions; a word that more have says nothing of what one means
MIN_OWN_WORDS = 3  # of a question, for its meaning to be looked at
NEAREST = 8  # held-out rows that are looked at, by each measure
BLOCK_BYTES = 16 * 2**20  # of the cosines of a block by one measure
MAX_ROWS = 1_024  # new questions of a block
TIE = 1e-6  # cosines that differ by less are equal: the sums of a block are in no order of their own
COMPARING_QUESTIONS = "Comparing questions"


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


def find_similar_questions(
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


def strip_template_words(texts: Sequence[str]) -> list[str]:
    """Each question without the words of a template, which would make all of them mean the same, and without
    numbers, whose vectors are all alike; "" where too few words are left to tell what is meant."""
    words = [split_words(text) for text in texts]
    often = Counter(word for own in words for word in set(own))
    most = max(FEW_PROMPTS, TEMPLATE_SHARE * len(texts))
    own = [[word for word in each if often[word] <= most and not word.isdecimal()] for each in words]
    return [" ".join(each) if len(set(each)) >= MIN_OWN_WORDS else "" for each in own]


# New rows that repeat a row that judges in other words: its answer, or a part of it, and its question by
# what it means.
#
# Answers are compared by runs of words that both have, counted in bits: a word that one in a thousand
# answers has tells ten. So what many answers say ("Yes", a label, a closing phrase) never makes a match,
# and half a sentence that only one has does. Questions are compared by rare trigrams of their characters
# and by the vectors that rows have elsewhere (`embeddings`); less is enough where the answer is the same
# too, and one that few rows have.
#
# `bench/detection/reworded.py` measures what is found, what is left out for nothing and what slips through.

RUN = 4  # words of a run
RARE = 20  # answers; a run that more have is no sign
MIN_BITS, MIN_SHARE = 40.0, 0.4  # of the held-out answer, to be copied in part
MANY_BITS = 100.0  # whatever its share
WHOLE_BITS, WHOLE_SHARE = 18.0, 0.9  # of an answer that is copied as a whole
MIN_ANSWER_BITS = 6.0  # of a whole answer, to count as the same: at most one in 64 old rows has it
DIGITS = 5  # of a cosine; of equal ones the last row is taken, whatever block it was in
STEP = 500  # answers between two looks at a request to stop
COMPARING_ANSWERS = "Comparing the answers"

ALONE = QuestionThresholds(0.6, 0.9)  # whatever is answered
SAME_ANSWER = QuestionThresholds(0.3, 0.6)
# Other words of one class are what a classifier is to learn: no leak.
OF_LABELS = QuestionThresholds(0.8, 2.0)


@dataclass(frozen=True)
class AnsweredQuestions:
    """Rows as they are compared here. questions: without system turns; "" of plain texts. answers: folded.
    labelled: bool, the answer is a label."""

    questions: Sequence[str]
    answers: Sequence[str]
    labelled: np.ndarray

    def __len__(self) -> int:
        return len(self.questions)

    def chosen(self, rows: np.ndarray) -> AnsweredQuestions:
        """Some of them, by their places."""
        places = rows.tolist()
        return AnsweredQuestions(
            [self.questions[place] for place in places],
            [self.answers[place] for place in places],
            self.labelled[rows],
        )


class RepeatMatches(NamedTuple):
    """Of each new row: `copied`, int64, the held-out row whose answer it copies, and `reworded`, the one
    whose question it asks, by their places; -1 where there is none."""

    copied: np.ndarray
    reworded: np.ndarray


def find_repeated(
    new: AnsweredQuestions, held: AnsweredQuestions, others: Sequence[str], progress: Progress
) -> RepeatMatches:
    """What of the new rows repeats which of the held-out ones; of two equal arguments which other one of
    them. others: further answers, folded, that say how rare a word is. `progress` may raise to stop."""
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
    """New answers that copy a held-out one, with the one of which they have most; with nothing held out those
    that copy another new one."""
    every = (*new, *held, *others)
    telling = _ProgressReporter(progress, len(held or new) + len(every) + len(new))
    partners = [split_words(text) for text in telling.each(held or new)]
    holders: dict[int, list[int]] = defaultdict(list)
    for partner, words in enumerate(partners):
        for run in set(_hash_runs(words)):
            holders[run].append(partner)
    often: Counter[str] = Counter()
    shared: Counter[int] = Counter()
    for text in telling.each(every):  # one after the other, as there may be many
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
    """Tells how far several passes over texts are, every so many texts."""

    def __init__(self, progress: Progress, total: int) -> None:
        self.progress, self.total, self.done = progress, total, 0

    def each(self, texts: Sequence[str]) -> Iterator[str]:
        """One pass."""
        for text in texts:
            if self.done % STEP == 0:
                self.progress(self.done, self.total, "answers", COMPARING_ANSWERS)
            self.done += 1
            yield text


def _hash_runs(words: Sequence[str]) -> Iterator[int]:
    """A hash of each run, as the runs of many long answers would fill the memory."""
    return (hash(tuple(words[at : at + RUN])) for at in range(len(words) - RUN + 1))


def _sum_shared_bits(words: Sequence[str], runs: set[int], bits: Mapping[str, float]) -> float:
    """Bits of the words that stand in these runs; 0 where they are few, and a small part of all."""
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
    partner[first[order]] = second[order]  # the last assignment, the most alike, wins
    return partner


def _encode_answers(new: Sequence[str], held: Sequence[str], others: Sequence[str]) -> np.ndarray:
    """Of each new and held-out row a number of its answer, -1 where the old rows have it so often that it
    says little."""
    old = Counter([*held, *others])
    total = old.total()
    least = min(MIN_ANSWER_BITS, log2(1 + total) - 0.5)  # of few rows an answer that one has
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
