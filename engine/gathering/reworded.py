"""New rows that repeat a row that judges in other words: its answer, or a part of it, and its question by
what it means.

Answers are compared by runs of words that both have, counted in bits: a word that one in a thousand answers
has tells ten. So what many answers say ("Yes", a label, a closing phrase) never makes a match, and half a
sentence that only one has does. Questions are compared by rare trigrams of their characters and by the
vectors that rows have elsewhere (`embeddings`); less is enough where the answer is the same too, and one that
few rows have.

`bench/detection/reworded.py` measures what is found, what is left out for nothing and what slips through.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import log2
from typing import NamedTuple

import numpy as np

from engine.gathering.near_questions import NEAREST, QuestionThresholds, near_questions
from engine.near.trigrams import words_of
from engine.signals.group import Progress

RUN = 4  # words of a run
RARE = 20  # answers; a run that more have is no sign
MIN_BITS, MIN_SHARE = 40.0, 0.4  # of the held-out answer, to be copied in part
MANY_BITS = 100.0  # whatever its share
WHOLE_BITS, WHOLE_SHARE = 18.0, 0.9  # of an answer that is copied as a whole
MIN_ANSWER_BITS = 6.0  # of a whole answer, to count as the same: at most one in 64 old rows has it
DIGITS = 5  # of a cosine; of equal ones the last row is taken, whatever block it was in
STEP = 500  # answers between two looks at a request to stop
COMPARING = "Comparing the answers"

ALONE = QuestionThresholds(0.6, 0.9)  # whatever is answered
SAME_ANSWER = QuestionThresholds(0.3, 0.6)
# Other words of one class are what a classifier is to learn: no leak.
OF_LABELS = QuestionThresholds(0.8, 2.0)


@dataclass(frozen=True)
class QuestionsAnswered:
    """Rows as they are compared here. questions: without system turns; "" of plain texts. answers: folded.
    labelled: bool, the answer is a label."""

    questions: Sequence[str]
    answers: Sequence[str]
    labelled: np.ndarray

    def __len__(self) -> int:
        return len(self.questions)

    def chosen(self, rows: np.ndarray) -> QuestionsAnswered:
        """Some of them, by their places."""
        places = rows.tolist()
        return QuestionsAnswered(
            [self.questions[place] for place in places],
            [self.answers[place] for place in places],
            self.labelled[rows],
        )


class Repeated(NamedTuple):
    """Of each new row: `copied`, int64, the held-out row whose answer it copies, and `reworded`, the one
    whose question it asks, by their places; -1 where there is none."""

    copied: np.ndarray
    reworded: np.ndarray


def find_repeated(
    new: QuestionsAnswered, held: QuestionsAnswered, others: Sequence[str], progress: Progress
) -> Repeated:
    """What of the new rows repeats which of the held-out ones; of two equal arguments which other one of
    them. others: further answers, folded, that say how rare a word is. `progress` may raise to stop."""
    copied = np.full(len(new), -1)
    if not len(new) or not len(held):
        return Repeated(copied, copied.copy())
    itself = new is held
    for number, partner in _copied(new.answers, [] if itself else held.answers, others, progress):
        copied[number] = partner
    return Repeated(copied, _reworded(new, held, others, progress))


def _copied(
    new: Sequence[str], held: Sequence[str], others: Sequence[str], progress: Progress
) -> Iterator[tuple[int, int]]:
    """New answers that copy a held-out one, with the one of which they have most; with nothing held out those
    that copy another new one."""
    every = (*new, *held, *others)
    telling = _Telling(progress, len(held or new) + len(every) + len(new))
    partners = [words_of(text) for text in telling.each(held or new)]
    holders: dict[int, list[int]] = defaultdict(list)
    for partner, words in enumerate(partners):
        for run in set(_runs(words)):
            holders[run].append(partner)
    often: Counter[str] = Counter()
    shared: Counter[int] = Counter()
    for text in telling.each(every):  # one after the other, as there may be many
        words = words_of(text)
        often.update(set(words))
        shared.update({run for run in _runs(words) if run in holders})
    total = 1 + len(every)
    bits = {word: log2(total / often[word]) for words in partners for word in words}
    for number, text in enumerate(telling.each(new)):
        own = {run for run in _runs(words_of(text)) if run in holders and shared[run] <= RARE}
        often_shared = Counter(partner for run in own for partner in holders[run])
        if not held:
            del often_shared[number]
        near = [partner for partner, _ in often_shared.most_common(NEAREST)]
        shared_bits = {partner: _shared_bits(partners[partner], own, bits) for partner in near}
        if any(shared_bits.values()):
            yield number, max(shared_bits, key=lambda partner: shared_bits[partner])


class _Telling:
    """Tells how far several passes over texts are, every so many texts."""

    def __init__(self, progress: Progress, total: int) -> None:
        self.progress, self.total, self.done = progress, total, 0

    def each(self, texts: Sequence[str]) -> Iterator[str]:
        """One pass."""
        for text in texts:
            if self.done % STEP == 0:
                self.progress(self.done, self.total, "answers", COMPARING)
            self.done += 1
            yield text


def _runs(words: Sequence[str]) -> Iterator[int]:
    """A hash of each run, as the runs of many long answers would fill the memory."""
    return (hash(tuple(words[at : at + RUN])) for at in range(len(words) - RUN + 1))


def _shared_bits(words: Sequence[str], runs: set[int], bits: Mapping[str, float]) -> float:
    """Bits of the words that stand in these runs; 0 where they are few, and a small part of all."""
    covered = {word for at, run in enumerate(_runs(words)) if run in runs for word in words[at : at + RUN]}
    shared_bits = sum(bits[word] for word in covered)
    whole = sum(bits[word] for word in set(words))
    asked = ((MANY_BITS, 0.0), (MIN_BITS, MIN_SHARE), (WHOLE_BITS, WHOLE_SHARE))
    enough = any(shared_bits >= least and shared_bits >= share * whole for least, share in asked)
    return shared_bits if enough else 0.0


def _reworded(
    new: QuestionsAnswered, held: QuestionsAnswered, others: Sequence[str], progress: Progress
) -> np.ndarray:
    first, second, trigrams, meaning = near_questions(
        new.questions, held.questions, SAME_ANSWER, progress, itself=new is held
    )
    codes = _answer_codes(new.answers, held.answers, others)
    mine, theirs = codes[first], codes[len(new) + second]
    labelled = new.labelled[first] | held.labelled[second]
    reached = np.where(labelled, OF_LABELS.reached(trigrams, meaning), ALONE.reached(trigrams, meaning))
    reached |= (mine == theirs) & (mine >= 0) & ~labelled & SAME_ANSWER.reached(trigrams, meaning)
    first, second, strength = first[reached], second[reached], np.maximum(trigrams, meaning)[reached]
    order = np.argsort(strength.round(DIGITS), kind="stable")
    partner = np.full(len(new), -1)
    partner[first[order]] = second[order]  # the last assignment, the most alike, wins
    return partner


def _answer_codes(new: Sequence[str], held: Sequence[str], others: Sequence[str]) -> np.ndarray:
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
