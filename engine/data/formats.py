"""Which format the rows of a file are in, from the names of its columns and the first rows.

Conversations are recognised by their structure, everything else by names (`aliases`), checked against
the values. Where no name fits, the values decide and the result is marked as guessed, so that the user
is told; nothing is guessed that a name says.
"""

from __future__ import annotations

import itertools
import re
import statistics
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from engine.data.aliases import ALIASES, CHOICE_STEMS, TOOLS, TURN_NAMES, normalise
from engine.data.choices import recognise_answers
from engine.data.turns import keys_of
from store.errors import ConfigError, DataError
from store.formats import FORMATS, AnswerBy, FormatName, columns_of, roles_for

LABEL_LENGTH = 80  # characters of a label, at the median
FEW_VALUES = 0.5  # distinct labels to rows, at most, where values alone say that a column is a label

FEWEST_ROWS, MOST_CELLS = 50, 1_000_000  # rows that are looked at, fewer of them where they are wide
_NUMBERED = re.compile(r"([a-z]*?)_?(\d{1,2}|[a-z])")

Rows = Sequence[dict[str, Any]]


class Recognised(NamedTuple):
    """format: None where no column holds text. mappings: of every format that fits, the best first."""

    format: FormatName | None
    mappings: dict[FormatName, dict[str, str]]
    guessed: bool

    @property
    def mapping(self) -> dict[str, str]:
        return self.mappings[self.format] if self.format else {}


def column_names(known: list[str], rows: Rows) -> list[str]:
    """Columns of the file: as known beforehand, else those of the first rows, in the order they appear."""
    return known or list(dict.fromkeys(name for row in rows for name in row))


def recognise(columns: list[str], rows: Rows) -> Recognised:
    """The format of the rows and the mapping of its roles, with every other format that fits."""
    rows = rows[: max(FEWEST_ROWS, MOST_CELLS // max(1, len(columns)))]
    mappings: dict[FormatName, dict[str, str]] = {**_turns(columns, rows)}
    names = {normalise(column): column for column in reversed(columns)}
    if choice := _choices(columns, names, rows):
        mappings["multiple_choice"] = choice
    for format in FORMATS:
        if format != "multiple_choice" and format in ALIASES and (mapping := _by_name(format, names, rows)):
            mappings[FORMATS[format].name] = mapping
    order = ("messages", "sharegpt", *ALIASES)
    mappings = {FORMATS[name].name: mappings[FORMATS[name].name] for name in order if name in mappings}
    guesses = _by_values(columns, rows)
    guessed = not mappings
    for name, mapping in guesses.items():
        mappings.setdefault(name, mapping)
    return Recognised(next(iter(mappings), None), mappings, guessed and bool(mappings))


class Chosen(NamedTuple):
    """How rows will be read: the format, role -> column, how answers name their choices (None for other
    formats), and whether the values alone led there."""

    format: FormatName
    mapping: dict[str, str]
    answers: AnswerBy | None
    guessed: bool


def choose(
    columns: list[str],
    rows: Rows,
    format: FormatName | None,
    given: dict[str, str],
    answers: AnswerBy | None = None,
) -> Chosen:
    """How the rows are read, from what the user gave and what is recognised.

    A mapping that names every required role is taken as it is; else the rest is recognised. A role
    mapped to an empty text has no column. Raises ConfigError for a column that is not there, DataError
    where nothing fits.
    """
    found = recognise(columns, rows)
    _check_columns(given, columns)
    if format is None and given:
        able = [form.name for form in FORMATS.values() if all(form.has_role(role) for role in given)]
        fitting = [name for name in found.mappings if name in able]
        if not fitting:
            fitting = [name for name in able if set(FORMATS[name].required) <= set(given)]
        format = fitting[0] if fitting else None
    guessed = format is None and found.guessed
    format = format or found.format
    if format is None:
        raise DataError(
            f"No column holds text to train on (columns: {_listed(columns)}).",
            fix="Choose a format and map its roles to columns.",
            field="format",
        )
    complete = set(FORMATS[format].required) <= set(given)
    mapping = {**({} if complete else found.mappings.get(format, {})), **given}
    mapping = {role: column for role, column in mapping.items() if column}
    for role in FORMATS[format].required:
        if role not in mapping:
            raise ConfigError(
                f"{FORMATS[format].title} needs a column for {role} (columns: {_listed(columns)}).",
                fix=f"Map a column to {role}, or choose another format.",
                field=f"columns.{role}",
            )
    _check_distinct(mapping)
    if format == "multiple_choice":
        answers = answers or recognise_answers(rows, columns_of(mapping, "choices"), mapping["answer"])
        if answers is None:
            raise _no_answers(mapping)
        return Chosen(format, mapping, answers, guessed)
    return Chosen(format, mapping, None, guessed)


def _no_answers(mapping: dict[str, str]) -> DataError:
    return DataError(
        f"The column {mapping['answer']!r} names none of the choices in {columns_of(mapping, 'choices')}.",
        fix="Map the columns of the choices and of the right one, and say how it names it: answers is text,"
        " letter, number from 0 or number from 1.",
        field="answers",
    )


def _check_columns(given: dict[str, str], columns: list[str]) -> None:
    for role, column in given.items():
        if column and column not in columns:
            raise ConfigError(
                f"There is no column {column!r} for {role}.",
                fix=f"The file has {_listed(columns)}.",
                field=f"columns.{role}",
            )


def _check_distinct(mapping: dict[str, str]) -> None:
    taken: dict[str, str] = {}
    for role, column in mapping.items():
        if column in taken:
            raise ConfigError(
                f"{taken[column]} and {role} are both mapped to the column {column!r}.",
                fix="Map each role to a column of its own.",
                field=f"columns.{role}",
            )
        taken[column] = role


def _listed(columns: list[str]) -> str:
    return ", ".join(columns[:12]) + (f" and {len(columns) - 12} more" if len(columns) > 12 else "")


def values_of(rows: Rows, column: str) -> list[Any]:
    """The values of a column that are there."""
    return list(_values(rows, column))


def first_values(rows: Rows, column: str, most: int) -> list[Any]:
    """The first of them."""
    return list(itertools.islice(_values(rows, column), most))


def _values(rows: Rows, column: str) -> Iterator[Any]:
    values = (row.get(column) for row in rows)
    return (value for value in values if value is not None and value == value and value != "")


def _turns(columns: list[str], rows: Rows) -> dict[FormatName, dict[str, str]]:
    """Columns whose values are lists of turns; the usual names first."""
    found: dict[FormatName, dict[str, str]] = {}
    listed = next((c for c in columns if normalise(c) in TOOLS), None)
    tools = {"tools": listed} if listed else {}
    for column in sorted(columns, key=lambda name: normalise(name) not in TURN_NAMES):
        if normalise(column) in ("chosen", "rejected", "prompt"):  # conversations of a preference
            continue
        keys = next((keys for value in first_values(rows, column, 5) if (keys := keys_of(value))), None)
        if keys == ("role", "content"):
            found.setdefault("messages", {"messages": column, **tools})
        elif keys:
            extra = next((c for c in columns if normalise(c) in ALIASES["instruction"]["system"]), None)
            mapping = {"conversations": column, **({"system": extra} if extra else {}), **tools}
            found.setdefault("sharegpt", mapping)
    return found


def _choices(columns: list[str], names: dict[str, str], rows: Rows) -> dict[str, str] | None:
    """A question, choices in a list or in columns of their own, and an answer that is one of them."""
    aliases = ALIASES["multiple_choice"]
    listed = [names[alias] for alias in aliases["choices"] if alias in names]
    for where in [*([column] for column in listed), *_choice_columns(columns)]:
        taken = {*where}
        answers = [names[alias] for alias in aliases["answer"] if names.get(alias, "") not in {"", *taken}]
        answer = next((column for column in answers if recognise_answers(rows, where, column)), None)
        asked = [
            names[alias] for alias in aliases["question"] if names.get(alias) not in {None, answer, *taken}
        ]
        question = next((column for column in asked if _fits("", "question", values_of(rows, column))), None)
        if not answer or not question:
            continue
        mapping = {"question": question, **roles_for("choices", where), "answer": answer}
        for role in ("context", "system"):
            free = [
                names[alias] for alias in aliases[role] if names.get(alias, "") not in {"", *mapping.values()}
            ]
            if column := next((column for column in free if _fits("", role, values_of(rows, column))), None):
                mapping[role] = column
        return mapping
    return None


def _choice_columns(columns: list[str]) -> list[list[str]]:
    """Families of columns that hold one choice each, `ans0, ans1, ans2` or `A, B, C, D`, the widest first."""
    families: dict[str, dict[str, str]] = {}
    for column in columns:
        match = _NUMBERED.fullmatch(normalise(column))
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


def _by_name(format: str, names: dict[str, str], rows: Rows) -> dict[str, str] | None:
    """The mapping of a format whose required roles all have a column. names: normalised name -> column."""
    mapping: dict[str, str] = {}
    for role, aliases in ALIASES[format].items():
        free = [names[alias] for alias in aliases if alias in names and names[alias] not in mapping.values()]
        values = {column: values_of(rows, column) for column in free}
        column = next((column for column in free if _fits(format, role, values[column])), None)
        required = role in FORMATS[format].required
        if column is None and required:  # the name stands, also where the first rows leave it empty
            column = next((column for column in free if not values[column]), None)
        if column:
            mapping[role] = column
        elif required:
            return None
    return mapping


def _fits(format: str, role: str, values: list[Any]) -> bool:
    """Whether the values can play the role: texts, or for a label something short."""
    if not values:
        return False
    if format == "preference":
        return all(isinstance(value, str) or keys_of(value) for value in values)
    flat = [value for value in values if not isinstance(value, list | dict | bytes)]
    if len(flat) < len(values) / 2:
        return False
    return role != "label" or statistics.median(len(str(value)) for value in flat) <= LABEL_LENGTH


def _by_values(columns: list[str], rows: Rows) -> dict[FormatName, dict[str, str]]:
    """Mappings that the values allow where names say nothing."""
    sizes: dict[str, float] = {}
    labels: list[str] = []
    for column in columns:
        values = values_of(rows, column)
        texts = [value for value in values if isinstance(value, str)]
        if len(texts) > len(values) / 2:
            sizes[column] = statistics.median(len(text) for text in texts)
        flat = [str(value) for value in values if not isinstance(value, list | dict | bytes)]
        many = len(flat) >= 10 and 1 < len(set(flat)) <= FEW_VALUES * len(flat)
        if many and max(map(len, flat)) <= LABEL_LENGTH:
            labels.append(column)
    texts_only = [column for column in sizes if column not in labels]
    # Of several numbered answers, such as output_1 and output_2, the first.
    bare = {normalise(column).rstrip("0123456789_"): column for column in reversed(columns)}
    numbered = {
        name: _by_name(name, bare, rows) for name in ("instruction", "question_answer", "prompt_completion")
    }
    found = {FORMATS[name].name: mapping for name, mapping in numbered.items() if mapping}
    if not texts_only:
        return {"text": {"text": max(sizes, key=sizes.__getitem__)}} if sizes else {}
    longest = max(sizes[column] for column in texts_only)
    main = next(column for column in texts_only if sizes[column] >= longest / 2)
    if labels:
        label = min(labels, key=lambda name: not isinstance(values_of(rows, name)[0], str))
        found["text_label"] = {"text": main, "label": label}
    if len(texts_only) > 1:
        found.setdefault("prompt_completion", {"prompt": texts_only[0], "completion": texts_only[1]})
    return {**found, "text": {"text": main}}
