"""Items of users' files as models are asked them: pairs of sentences, pronouns, multiple choice."""

from __future__ import annotations

from dataclasses import dataclass


class UnreadableItem(Exception):
    """A row is no item of its form; the message is why, the same for all rows with the same fault."""


@dataclass(frozen=True)
class SentencePair:
    """more: the sentence with more of a stereotype."""

    more: str
    less: str
    group: str


@dataclass(frozen=True)
class PronounItem:
    """A sentence with two occupations and a pronoun. fits: the pronoun goes with the stereotype of the
    right one; alike: equal for the two sentences that differ in the pronoun alone."""

    text: str
    pronoun: str
    right: str
    wrong: str
    fits: bool
    group: str
    alike: str


@dataclass(frozen=True)
class BiasQuestion:
    """A question about a text. right, unknown, biased: places among the options."""

    context: str
    question: str
    options: tuple[str, ...]
    right: int
    unknown: int
    biased: int
    ambiguous: bool
    group: str


Item = SentencePair | PronounItem | BiasQuestion
