"""How the answers of a data set end, and which of them stop before that.

A short answer without a full stop may be whole; whether it is, the other answers tell. Where nearly all
sentences of a set close with a mark, or nearly all last lines begin alike (#### 18), an answer that doesn't
is cut off. A set may hold cut answers itself, so `CLOSED` of the sentences are enough where so many of the
others end with a word that ends no sentence (the, of, and) that most of them must be cut: of answers cut
anywhere about a fifth end so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from engine.signals.texts.answers import breaks_off, ends_open

Ending = Literal["closed", "open"]
WORDS = 4  # of an answer that is a sentence
ENOUGH = 50  # sentences; fewer show no habit
CLOSED, SURELY_CLOSED = 0.7, 0.97  # of the sentences
SURE = 0.12  # of the others: that end with such a word
ALIKE = 0.8  # of the last lines begin with one word that is none
CLOSING = frozenset(".!?…。！？\"'”’»)]}`*_:;>|~/")


@dataclass(frozen=True)
class Endings:
    """ending: whether sentences close with a mark. opener: what last lines begin with, "" if they differ."""

    ending: Ending = "open"
    opener: str = ""

    @property
    def words(self) -> str:
        """As an option of what was measured."""
        return f"{self.ending}, {self.opener} in the last line" if self.opener else self.ending


def learn(answers: Sequence[str]) -> Endings:
    """The habit of these answers, of which some may be cut off."""
    sentences = [text for text in map(str.rstrip, answers) if len(text.split()) >= WORDS]
    if len(sentences) < ENOUGH:
        return Endings()
    openers = Counter(filter(None, map(_opener, sentences)))
    opener, count = openers.most_common(1)[0] if openers else ("", 0)
    others = [text for text in sentences if text[-1] not in CLOSING]
    closed = 1 - len(others) / len(sentences)
    sure = sum(ends_open(text, sentence=True) for text in others) / max(1, len(others))
    habit: Ending = "closed" if closed >= (CLOSED if sure >= SURE else SURELY_CLOSED) else "open"
    return Endings(habit, opener if count >= ALIKE * len(sentences) else "")


def stops_early(answer: str, endings: Endings) -> bool:
    """Whether an answer breaks off, by itself or against the habit of its set."""
    answer = answer.rstrip()
    if breaks_off(answer):
        return True
    if len(answer.split()) < WORDS:
        return False
    if ends_open(answer):
        return True
    if endings.opener:
        return _opener(answer) != endings.opener
    return endings.ending == "closed" and answer[-1] not in CLOSING and answer[-1].isascii()


def _opener(answer: str) -> str:
    """The first word of the last line where it is made of signs alone, as #### is; no mark of a list."""
    first = answer[answer.rfind("\n") + 1 :].split(None, 1)[:1]
    word = first[0] if first else ""
    return word if len(word) > 1 and not any(map(str.isalnum, word)) and set(word) != {"-"} else ""
