"""What is wrong with an answer: it says nothing, repeats the question, refuses, or breaks off.

Each finder is a function of texts. They are read as a person would read them: a refusal is the answer's own
voice, at the start of a sentence near its beginning, not a word that it mentions; an answer is cut off where
it stops in mid-sentence or in a word, not where prose, a list, a verse or code ends without a full stop:
people leave that out (of 35 such answers in 2,000 that people wrote, 31 were whole).

How the answers of a data set end, and which of them stop before that.

A short answer without a full stop may be whole; whether it is, the other answers tell. Where nearly all
sentences of a set close with a mark, or nearly all last lines begin alike (#### 18), an answer that doesn't
is cut off. A set may hold cut answers itself, so `CLOSED` of the sentences are enough where so many of the
others end with a word that ends no sentence (the, of, and) that most of them must be cut: of answers cut
anywhere about a fifth end so.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

LONG = 200  # characters; a shorter answer without a full stop is a short answer
REFUSAL_HEAD = 300  # characters in which a refusal declares itself
ECHO_WORDS = 3

_SORRY = r"(?:(?:i['’]m|i am|well,? i['’]m) (?:(?:so|very|really|deeply) )?sorry[,;.]? (?:but |however,? )?)?"
_START = r"(?:^|(?<=[.!?\n]\s)|(?<=\n))\s*" + _SORRY  # of a sentence
_AI = (
    r"an? (?:ai|artificial intelligence|large language model|language model|chatbot|virtual assistant)"
    r"(?: (?:language )?(?:model|assistant|system|chatbot|bot|ai))*"
)
_NOT = (
    r"(?:can(?:no|['’])?t|can not|am (?:not able|unable) to|['’]m (?:not able|unable) to|won['’]t|will not"
    r"|am not (?:allowed|permitted) to)"
)
_DEED = (
    r"(?:help|assist|provide|fulfill?|comply|generate|create|produce|write|share|disclose|answer|discuss|engage"
    r"|support|access|browse|perform|complete|offer|give|do that|do this|continue with)"
)
_REFUSALS = (
    rf"as {_AI}(?: (?:developed|created|trained|designed|made) by [^,.]{{1,40}})?, (?:i\b|my )",
    rf"i(?:['’]m| am) (?:just |only |merely )?{_AI}(?: [^,.]{{0,60}})?(?:,|\.| and)"
    rf" (?:so |but |and )?i? ?{_NOT}",
    rf"i ?{_NOT} {_DEED}\b(?! (?:but|feeling|noticing|wondering|myself|thinking|up|enough|laughing))",
    r"(?:i['’]m|i am) (?:(?:so|very|really) )?sorry,? (?:but )?that['’]s not something i can",
    r"(?:i['’]m|i am) (?:(?:so|very|really) )?sorry,? (?:but )?i (?:can(?:no|['’])?t|am unable|am not able)",
    r"i (?:must|have to) (?:respectfully )?decline\b",
    r"(?:sorry, )?(?:but )?i(?:['’]m| am) (?:not able|unable) to (?:help|assist|provide|answer|comply)",
    r"i (?:do not|don['’]t) (?:feel comfortable|have (?:personal )?(?:opinions|feelings|beliefs))",
    r"my (?:programming|guidelines) (?:does|do|prevents?|prohibits?)",
)
_REFUSAL = re.compile(_START + "(?:" + "|".join(_REFUSALS) + ")", re.IGNORECASE)
# What a model says of its nature before it answers all the same is a preface, no refusal.
_PREFACE = re.compile(
    rf"as {_AI}[^,.]{{0,40}}, i (?:do not|don['’]t) (?:\w+ )?have [^.]{{0,120}}[.,;]\s*"
    r"(?:however|but|that said|still)\b"
    r"[^.]{0,40}\b(?:if i|imagine|i can (?:provide|offer|give|share|help)|let me|here (?:is|are))",
    re.IGNORECASE,
)
# RE2, over many rows at once: no row without a match of it can be a refusal.
REFUSAL_GATE = (
    r"(?i)\b(?:as an?|an ai|can['’]?t|cannot|can not|unable|not able|won['’]t|will not|not allowed"
    r"|not permitted|decline|comfortable|opinions|feelings|beliefs|programming|guidelines|sorry)\b"
)

_OPEN_WORDS = frozenset(  # no sentence ends with them
    {
        "the",
        "a",
        "an",
        "of",
        "and",
        "or",
        "to",
        "with",
        "in",
        "for",
        "on",
        "at",
        "by",
        "from",
        "as",
        "is",
        "are",
        "was",
        "were",
        "be",
        "that",
        "which",
        "who",
        "if",
        "but",
        "because",
        "so",
        "than",
        "into",
        "this",
        "these",
        "their",
        "his",
        "her",
        "its",
        "your",
        "our",
        "my",
        "not",
        "when",
        "while",
        "where",
        "about",
        "between",
    }
)
_NEVER_LAST = frozenset(  # a preposition ends a phrase: what one knows about
    {"the", "a", "an", "and", "or", "but", "because", "if", "than", "their", "its", "your", "our", "my"}
    | {"which", "very", "every"}
)
_FAREWELL = re.compile(r"\n[ \t]*(?:\w+ ){0,3}\w+,\Z")  # of a letter: its name may follow, or not
_WORDS = re.compile(r"[^\W\d_]+")
_INFLECTIONS = frozenset({"s", "es", "d", "ed", "ing", "ly", "r", "er", "y", "al", "n"})
_SENTENCE_SCRIPT = re.compile("[A-Za-z0-9\u00c0-\u052f]")  # written with full stops
_LETTER_OR_DIGIT = re.compile(r"[^\W_]")
_NOT_WORD = re.compile(r"[\W_]+")


def says_nothing(answer: str) -> bool:
    """No letter and no digit."""
    return _LETTER_OR_DIGIT.search(answer) is None


def echoes(asked: str, answer: str) -> bool:
    """The answer is the question, or begins with all of it; three words at least, for "yes" may answer
    "yes"."""
    if asked[:1].lower() != answer[:1].lower() and asked[:1].isalnum() and answer[:1].isalnum():
        return False
    question = _NOT_WORD.sub(" ", asked).lower().split()
    if len(question) < ECHO_WORDS:
        return False
    return _NOT_WORD.sub(" ", answer).lower().split()[: len(question)] == question


def refuses(answer: str) -> bool:
    """The answer declines in its own voice, and does not answer all the same."""
    head = answer[:REFUSAL_HEAD].lstrip()
    return _REFUSAL.search(head) is not None and _PREFACE.search(head) is None


def ends_open(answer: str, *, sentence: bool = False) -> bool:
    """The last word is one with which no phrase ends (`sentence`: no sentence), or a comma follows."""
    word = answer.rstrip().rsplit(None, 1)[-1:]
    if not word or _FAREWELL.search(answer.rstrip()):
        return False
    open_words = _OPEN_WORDS if sentence else _NEVER_LAST
    return word[0] in open_words or (word[0][-1:] == "," and word[0][-2:-1].isalnum())


def breaks_off(answer: str) -> bool:
    """A long answer that stops in the middle of a sentence, of a code block or of a bracket."""
    answer = answer.rstrip()
    if len(answer) < LONG:
        return False
    if answer.count("```") % 2:
        return True
    last = answer[-1]
    if last in ",;([{–—" or (last == "-" and answer[-2].isalnum()):
        return _FAREWELL.search(answer) is None
    if answer[0] in "[{" and answer.count(answer[0]) > answer.count("]" if answer[0] == "[" else "}"):
        return True
    if not _SENTENCE_SCRIPT.match(last):
        return False
    line = answer[answer.rfind("\n") + 1 :]
    word = line.rsplit(None, 1)[-1]
    if "/" in word or "@" in word or answer.endswith("```"):
        return False
    if line.count("(") > line.count(")") or (word.islower() and word in _OPEN_WORDS):
        return True
    return _ends_in_a_piece(answer)


def _ends_in_a_piece(answer: str) -> bool:
    """The last word is the beginning of another one of the answer ("hydroc" of "hydrochloric") and stands
    nowhere else in it."""
    *others, last = map(str.lower, _WORDS.findall(answer)) or [""]
    if not last or not answer.endswith(last) or last in others:
        return False
    return any(word.startswith(last) and word[len(last) :] not in _INFLECTIONS for word in others)


AnswerEnding = Literal["closed", "open"]
WORDS = 4  # of an answer that is a sentence
ENOUGH = 50  # sentences; fewer show no habit
CLOSED, SURELY_CLOSED = 0.7, 0.97  # of the sentences
SURE = 0.12  # of the others: that end with such a word
ALIKE = 0.8  # of the last lines begin with one word that is none
CLOSING = frozenset(".!?…。！？\"'”’»)]}`*_:;>|~/")


@dataclass(frozen=True)
class Endings:
    """ending: whether sentences close with a mark. opener: what last lines begin with, "" if they differ."""

    ending: AnswerEnding = "open"
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
    habit: AnswerEnding = "closed" if closed >= (CLOSED if sure >= SURE else SURELY_CLOSED) else "open"
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
