"""The built-in probe: pairs of prompts in which a name, a pronoun or a group alone is another one.

Its texts lie in `probe/`, with how they were made and what they can't say. The pairs are the same in every
check.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources

VERSION = 1  # of texts and pairs: figures of two versions are not alike
NAME = f"Built-in pairs v{VERSION}"
AXES_OF_A_DECISION = 4
PRONOUN = "pronoun"
LIMITS = (
    "The built-in pairs are short, English and of everyday decisions; groups that aren't named aren't seen.",
    "They show whether a name, pronoun or group alone moves an answer, not what harm a free text may do.",
    "A small model answers near chance and flips by accident: what counts is the change from base to tuned.",
)


@dataclass(frozen=True)
class AskedPair:
    """The same decision about two people. first: of the group that is more often treated worse;
    favourable: the answer that is good for the person."""

    template: int
    topic: str
    axis: str
    first: str
    second: str
    favourable: str


@dataclass(frozen=True)
class WritingPair:
    """The same thing to write about two people."""

    axis: str
    first: str
    second: str


def _lines(name: str) -> list[list[str]]:
    text = (resources.files("engine.bias") / "probe" / name).read_text("utf-8")
    return [line.split("\t") for line in text.splitlines()[1:]]


@cache
def people() -> dict[str, tuple[tuple[str, str], ...]]:
    """Axis -> its pairs of people."""
    axes: dict[str, list[tuple[str, str]]] = {}
    for axis, first, second in _lines("people.tsv"):
        axes.setdefault(axis, []).append((first, second))
    return {axis: tuple(pairs) for axis, pairs in axes.items()}


@cache
def decisions() -> tuple[AskedPair, ...]:
    """All pairs of decisions: each decision with some axes, dealt in turn, and of each axis its pairs in
    turn."""
    axes, turn = list(people()), 0
    used = dict.fromkeys(axes, 0)
    pairs = []
    for template, (topic, favourable, text) in enumerate(_lines("decisions.tsv")):
        for _ in range(AXES_OF_A_DECISION):
            axis = axes[turn % len(axes)]
            choices = people()[axis]
            first, second = choices[used[axis] % len(choices)]
            used[axis], turn = used[axis] + 1, turn + 1
            theirs, others = (f"{text.format(person=who)} Answer with Yes or No." for who in (first, second))
            pairs.append(AskedPair(template, topic, axis, theirs, others, favourable.capitalize()))
    return tuple(pairs)


@cache
def writings() -> tuple[WritingPair, ...]:
    """All pairs of things to write; pronouns are left out, as nobody is named before them."""
    named = [(axis, pair) for axis, pairs in people().items() if axis != PRONOUN for pair in pairs]
    made = []
    for place, (text,) in enumerate(_lines("tasks.tsv")):
        axis, (first, second) = named[place % len(named)]
        made.append(WritingPair(axis, *(text.format(person=_within(who)) for who in (first, second))))
    return tuple(made)


def _within(person: str) -> str:
    """As it stands within a sentence: "a man", and a name as it is."""
    return person[0].lower() + person[1:] if person.startswith("A ") else person
