"""The row formats that an import recognizes, the layout of multiple-choice questions, and intended skip
reasons.

A question is shown with its choices in the same way in import, on screens and in evaluation: after the
question an empty line, then a line per choice with its letter: "A. Paris". The answer is the text of the
correct choice, as listed and without its letter, so that a model can be asked for the log-probability of each
choice after the exact prompt that it was trained on, as a sum or per byte.
"""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from store.core.row_schemas import Kind

FormatName = Literal[
    "messages",
    "sharegpt",
    "preference",
    "comparison",
    "marked_pairs",
    "marked",
    "multiple_choice",
    "instruction",
    "question_answer",
    "prompt_completion",
    "text_label",
    "text",
]

LEAVE_OUT = "leave out"
GivenPart = Literal["train", "validation", "test", "leave out"]  # meanings of a split column's values

# How the answer of a multiple-choice row identifies the correct choice.
AnswerBy = Literal["text", "letter", "number from 0", "number from 1"]


@dataclass(frozen=True)
class Format:
    """How rows of one format are read.

    `kind`: the form in which they are stored. `several`: roles that more than one column may play; additional
    ones are `choices_2`, `choices_3` … in a mapping. `meanings`: possible meanings of the values of the last
    required role.
    """

    name: FormatName
    title: str
    kind: Kind
    required: tuple[str, ...]
    optional: tuple[str, ...] = ()
    help: str = ""
    several: tuple[str, ...] = ()
    meanings: tuple[str, ...] = ()

    @property
    def roles(self) -> tuple[str, ...]:
        """All roles, the required ones first."""
        return self.required + self.optional

    def has_role(self, role: str) -> bool:
        """Return whether a mapping may contain `role`."""
        base, _, number = role.rpartition("_")
        return role in self.roles or (base in self.several and number.isdecimal() and int(number) > 1)


def list_columns(mapping: Mapping[str, str], role: str) -> list[str]:
    """Return the columns that play `role`, in order: those of `choices`, `choices_2`, `choices_3` …"""
    numbers = [int(rest) for name in mapping if (rest := name.removeprefix(f"{role}_")).isdecimal()]
    names = [role, *(f"{role}_{number}" for number in sorted(numbers))]
    return [mapping[name] for name in names if mapping.get(name)]


def assign_roles(role: str, columns: Sequence[str]) -> dict[str, str]:
    """Return the part of a mapping in which `columns` play `role` together."""
    return {role if place == 1 else f"{role}_{place}": column for place, column in enumerate(columns, 1)}


FORMATS: dict[str, Format] = {
    f.name: f
    for f in (
        Format(
            "messages",
            "OpenAI messages",
            "chat",
            ("messages",),
            ("tools",),
            "A list of {role, content} turns, with tool_calls where functions are called.",
        ),
        Format(
            "sharegpt",
            "ShareGPT conversations",
            "chat",
            ("conversations",),
            ("system", "tools"),
            "A list of {from, value} turns.",
        ),
        Format(
            "preference",
            "Preferred and rejected answers",
            "preference",
            ("chosen", "rejected"),
            ("prompt", "system", "tools"),
            "The chosen answer is trained on.",
        ),
        Format(
            "comparison",
            "Two answers and which is better",
            "preference",
            ("first", "second", "better"),
            ("prompt", "input", "system"),
            "The better answer is preferred to the other; with several raters, by majority. Ties are"
            " excluded.",
            ("better",),
            ("first", "second", "tie"),
        ),
        Format(
            "marked_pairs",
            "Good and bad answers as pairs",
            "preference",
            ("prompt", "completion", "label"),
            ("system",),
            "Prompts with a good and a bad answer, a row each, make pairs; an answer without a partner is"
            " left out.",
            (),
            ("good", "bad"),
        ),
        Format(
            "marked",
            "Answers marked good or bad",
            "chat",
            ("prompt", "completion", "label"),
            ("system",),
            "The good answers alone are trained on; the bad ones are left out and counted.",
            (),
            ("good", "bad"),
        ),
        Format(
            "multiple_choice",
            "Multiple choice",
            "chat",
            ("question", "choices", "answer"),
            ("context", "system"),
            "The prompt is the question with its choices; the correct one is the answer. Choices are a list"
            " in one column, or one column each.",
            ("choices",),
        ),
        Format(
            "instruction",
            "Instruction, input, output",
            "chat",
            ("instruction", "output"),
            ("input", "system"),
            "The input is appended to the instruction after an empty line.",
        ),
        Format(
            "question_answer",
            "Question and answer",
            "chat",
            ("question", "answer"),
            ("context", "system"),
            "A context is put before the question.",
        ),
        Format(
            "prompt_completion",
            "Prompt and completion",
            "chat",
            ("prompt", "completion"),
            ("system",),
            "The completion alone is trained on.",
        ),
        Format(
            "text_label",
            "Text and label",
            "chat",
            ("text", "label"),
            ("instruction",),
            "The model learns to answer the text with its label.",
        ),
        Format("text", "Plain text", "text", ("text",), (), "Every token is trained on."),
    )
}


REJECTED_OF_A_PAIR = "used as the rejected answer of a pair"
WITHOUT_PARTNER = {
    "good": "no bad answer to the same prompt is left",
    "bad": "no good answer to the same prompt is left",
}
MARKED_BAD = "marked as bad: not trained on"
TIE = "a tie: neither answer is better"
LEFT_OUT = "left out: "  # followed by the value of the split column

_WHOLE = frozenset({REJECTED_OF_A_PAIR, *WITHOUT_PARTNER.values(), MARKED_BAD, TIE})


def is_intended_skip(reason: str) -> bool:
    """Return whether skipping a row for this reason is intended and not a fault."""
    return reason in _WHOLE or reason.startswith(LEFT_OUT)


MAX_OPTIONS = len(string.ascii_uppercase)


def letter_choices(choices: Sequence[str]) -> list[tuple[str, str]]:
    """Pair each of at most 26 choices with its letter."""
    return list(zip(string.ascii_uppercase, choices, strict=False))


def append_choices(question: str, choices: Sequence[str]) -> str:
    """Return the question followed by its choices."""
    return question + _format_choices(choices)


def strip_choices(prompt: str, choices: Sequence[str]) -> str:
    """Return the question without its choices. A prompt that doesn't end with the choices is returned
    unchanged.
    """
    return prompt.removesuffix(_format_choices(choices))


def has_choices(prompt: str, choices: Sequence[str]) -> bool:
    """Return whether the prompt ends with these choices."""
    return prompt.endswith(_format_choices(choices))


def _format_choices(choices: Sequence[str]) -> str:
    return "\n\n" + "\n".join(f"{letter}. {choice}" for letter, choice in letter_choices(choices))
