"""Multiple choice: read choices and the right one from a file, and load stored questions for scoring.

Each choice is scored by its log-probability. `store.data.formats` defines how a prompt lists the choices.
"""

from __future__ import annotations

import contextlib
import re
import string
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypedDict

import numpy as np

from engine.data.conversion.conversation_turns import format_value, parse_texts
from engine.data.readers.file_rows import (
    ALIASES,
    CHOICE_STEMS,
    FileRow,
    FileRows,
    RowSkipped,
    list_values,
    normalise_name,
)
from store.core.formatting import plural
from store.core.home import Home
from store.core.row_schemas import Message
from store.data import dataset_files
from store.data.formats import MAX_OPTIONS, AnswerBy, assign_roles, strip_choices

_LETTER = re.compile(r"\s*\(?([A-Za-z])[).:]?\s*")
_NUMBER = re.compile(r"\s*(\d{1,2})(\.0)?\s*")
_INDEX = re.compile(r"(?:^|_)(?:index|idx)$")
MIN_CHOICES = 2
_NUMBERED = re.compile(r"([a-z]*?)_?(\d{1,2}|[a-z])")


class RowChoices(NamedTuple):
    """The choices of a row and the index of the right one, from 0."""

    options: tuple[str, ...]
    answer: int


class ChoiceQuestion(NamedTuple):
    """A stored multiple-choice row.

    bare: the prompt turns without the choices in the last turn. listed: the prompt turns with them.
    """

    row_id: int
    bare: list[Message]
    listed: list[Message]
    choices: RowChoices


def load_questions(
    home: Home, fingerprint: str, row_ids: Sequence[int] | np.ndarray
) -> list[ChoiceQuestion | None]:
    """Load the rows with these ids, in this order; None for a row that is not multiple choice."""
    columns = ["row_id", "messages", "choices", "answer_index"]
    rows = dataset_files.load_rows(home, fingerprint, columns=columns, row_ids=row_ids).to_pylist()
    return [_build_question(row) if row["choices"] else None for row in rows]


class _StoredRow(TypedDict):
    """Columns read from a multiple-choice row."""

    row_id: int
    messages: list[Message]
    choices: list[str]
    answer_index: int


def _build_question(row: _StoredRow) -> ChoiceQuestion:
    prompt = row["messages"][:-1]
    content = strip_choices(prompt[-1]["content"], row["choices"])
    asked: Message = {"role": prompt[-1]["role"], "content": content}
    choices = RowChoices(tuple(row["choices"]), row["answer_index"])
    return ChoiceQuestion(row["row_id"], [*prompt[:-1], asked], prompt, choices)


def read_choices(row: FileRow, columns: Sequence[str]) -> tuple[tuple[str, ...], list[str]]:
    """Return the choices of a row and their names in the file (empty if there are none).

    One column holds all choices, or each choice has its own column. Raises RowSkipped if the choices are
    invalid.
    """
    if len(columns) == 1:
        choices, names = _read_choice_list(row.get(columns[0]), columns[0])
    else:
        choices, names = _read_choice_columns(row, columns), []
    if len(choices) < MIN_CHOICES:
        raise RowSkipped(f"{plural(len(choices), 'choice')}, where two are the least")
    if len(choices) > MAX_OPTIONS:
        raise RowSkipped(f"more than {MAX_OPTIONS} choices")
    if not all(choice.strip() for choice in choices):
        raise RowSkipped("a choice is empty")
    return choices, names


def _read_choice_list(value: Any, name: str) -> tuple[tuple[str, ...], list[str]]:
    """Read a list of texts, a list of {label, text}, or {"label": [...], "text": [...]}; JSON is parsed."""
    value = parse_texts(value)
    if value is None:
        raise RowSkipped(f"{name} is missing")
    names: Any = None
    if isinstance(value, dict):
        value, names = value.get("text", value.get("choices")), value.get("label", value.get("labels"))
    elif isinstance(value, list) and value and all(isinstance(each, dict) for each in value):
        names = [each.get("label", each.get("key")) for each in value]
        value = [each.get("text", each.get("content")) for each in value]
    if not isinstance(value, list):
        raise RowSkipped(f"{name} is not a list of choices")
    labels = [str(each) for each in names] if isinstance(names, list) and len(names) == len(value) else []
    return tuple(format_value(choice, f"a choice of {name}") for choice in value), labels


def _read_choice_columns(row: FileRow, columns: Sequence[str]) -> tuple[str, ...]:
    """Read one choice a column; empty trailing columns are ignored, as questions may have fewer choices."""
    values = [row.get(column) for column in columns]
    while values and (values[-1] is None or values[-1] != values[-1] or not str(values[-1]).strip()):
        values.pop()
    return tuple(format_value(value, column) for value, column in zip(values, columns, strict=False))


def find_answer_index(value: Any, choices: Sequence[str], by: AnswerBy, names: Sequence[str] = ()) -> int:
    """Return the index of the right choice, from 0. Raises RowSkipped if the answer is not a choice."""
    if value is None or value != value or (isinstance(value, str) and not value.strip()):
        raise RowSkipped("the answer is missing")
    place = INDEX_FINDERS[by](value, choices, names)
    if place is None or not 0 <= place < len(choices):
        raise RowSkipped(f"the answer {str(value)[:30]!r} is none of {len(choices)} choices (read as {by})")
    return place


def _find_by_text(value: Any, choices: Sequence[str], names: Sequence[str]) -> int | None:
    wanted = format_value(value, "the answer").strip()
    for fold in (str, str.casefold):
        places = [i for i, choice in enumerate(choices) if fold(choice.strip()) == fold(wanted)]
        if len(places) > 1:
            raise RowSkipped("the answer is several of the choices")
        if places:
            return places[0]
    return None


def _find_by_letter(value: Any, choices: Sequence[str], names: Sequence[str]) -> int | None:
    text = str(value).strip()
    if names:
        return names.index(text) if text in names else None
    match = _LETTER.fullmatch(text)
    return string.ascii_uppercase.index(match[1].upper()) if match else None


def _find_by_number(value: Any, first: int) -> int | None:
    if isinstance(value, bool):
        return None
    match = _NUMBER.fullmatch(str(value))
    return int(match[1]) - first if match else None


INDEX_FINDERS: dict[AnswerBy, Callable[[Any, Sequence[str], Sequence[str]], int | None]] = {
    "text": _find_by_text,
    "letter": _find_by_letter,
    "number from 0": lambda value, choices, names: _find_by_number(value, 0),
    "number from 1": lambda value, choices, names: _find_by_number(value, 1),
}


def recognise_answers(rows: Sequence[FileRow], columns: Sequence[str], answer: str) -> AnswerBy | None:
    """Detect how the column `answer` names the choices in `columns`: the way that fits the most rows.

    Among equals, text is preferred, but numbers if the file has numbers or the column is called an index.
    Returns None if no way fits half of the rows that have choices.
    """
    asked: list[tuple[Any, tuple[str, ...], list[str]]] = []
    for row in rows:
        with contextlib.suppress(RowSkipped):
            asked.append((row.get(answer), *read_choices(row, columns)))
    order: tuple[AnswerBy, ...] = ("text", "letter", "number from 0", "number from 1")
    if _INDEX.search(normalise_name(answer)) or any(isinstance(value, int | float) for value, _, _ in asked):
        order = ("number from 0", "number from 1", "text")
    fits = {
        by: sum(_is_matching(value, choices, by, names) for value, choices, names in asked) for by in order
    }
    best = max(order, key=lambda by: fits[by])  # the first among equals
    return best if fits[best] * 2 > len(asked) else None


def _is_matching(value: Any, choices: Sequence[str], by: AnswerBy, names: Sequence[str]) -> bool:
    try:
        find_answer_index(value, choices, by, names)
    except RowSkipped:
        return False
    return True


def recognise_choices(
    columns: Sequence[str], names: Mapping[str, str], rows: FileRows
) -> dict[str, str] | None:
    """Match a question, choices in a list or in separate columns, and an answer that is one of them."""
    aliases = ALIASES["multiple_choice"]
    listed = [names[alias] for alias in aliases["choices"] if alias in names]
    for where in [*([column] for column in listed), *_find_choice_columns(columns)]:
        taken = {*where}
        answers = [names[alias] for alias in aliases["answer"] if names.get(alias, "") not in {"", *taken}]
        answer = next((column for column in answers if recognise_answers(rows, where, column)), None)
        asked = [
            names[alias] for alias in aliases["question"] if names.get(alias) not in {None, answer, *taken}
        ]
        question = next((column for column in asked if _are_texts(rows, column)), None)
        if not answer or not question:
            continue
        mapping = {"question": question, **assign_roles("choices", where), "answer": answer}
        for role in ("context", "system"):
            free = [
                names[alias] for alias in aliases[role] if names.get(alias, "") not in {"", *mapping.values()}
            ]
            if column := next((column for column in free if _are_texts(rows, column)), None):
                mapping[role] = column
        return mapping
    return None


def _find_choice_columns(columns: Sequence[str]) -> list[list[str]]:
    """Return families of columns with one choice each, `ans0, ans1` or `A, B, C, D`, the widest first."""
    families: dict[str, dict[str, str]] = {}
    for column in columns:
        match = _NUMBERED.fullmatch(normalise_name(column))
        if match and (not match[1] or match[1] in CHOICE_STEMS):
            families.setdefault(match[1] + ("0" if match[2].isdigit() else "a"), {})[match[2]] = column
    ordered = []
    for members in families.values():
        marks = sorted(members, key=lambda mark: (len(mark), mark))
        first = "a" if not marks[0].isdigit() else marks[0] if marks[0] in "01" else "0"
        wanted = [str(int(first) + i) if first.isdigit() else chr(ord(first) + i) for i in range(len(marks))]
        if len(marks) > 1 and marks == wanted:
            ordered.append([members[mark] for mark in marks])
    return sorted(ordered, key=len, reverse=True)


def _are_texts(rows: FileRows, column: str) -> bool:
    values = list_values(rows, column)
    return bool(values) and sum(isinstance(value, str) for value in values) * 2 > len(values)
