"""How the rows of a file will be read: what the user said, and what is recognised where nothing is said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from engine.data.convert.judged_answers import marks_of, meanings_of
from engine.data.convert.read_choices import recognise_answers
from engine.data.convert.recognised_formats import RecognisedFormats, recognise
from engine.data.readers.column_values import FileRows, looked_at
from store.catalog.formats import FORMATS, AnswerBy, FormatName, columns_of
from store.contract.errors import ConfigError, DataError


class ChosenFormat(NamedTuple):
    """How rows will be read: the format, role -> column, whether the values alone led there, how answers name
    their choices (multiple choice), and what deciding values mean (judged answers)."""

    format: FormatName
    mapping: dict[str, str]
    guessed: bool = False
    answers: AnswerBy | None = None
    values: Mapping[str, str] = {}


class GivenFormat(NamedTuple):
    """What the user said of how the rows are read: the format, role -> column (an empty one: none), how
    answers name their choices, and what deciding values mean. What is None, or left out, is recognised."""

    format: FormatName | None
    columns: Mapping[str, str]
    answers: AnswerBy | None = None
    values: Mapping[str, str] = {}


def choose(
    columns: Sequence[str],
    rows: FileRows,
    given: GivenFormat,
    recognised: RecognisedFormats | None = None,
) -> ChosenFormat:
    """How the rows are read, from what the user gave and what is recognised.

    A mapping that names every required role is taken as it is; else the rest is recognised. A role
    mapped to an empty text has no column. Raises ConfigError for a column that is not there, DataError
    where nothing fits.
    """
    formats = recognised or recognise(columns, rows)
    format, roles, answers, values = given
    _check_columns(roles, columns)
    if format is None and roles:
        format = _format_with(roles, formats)
    guessed = format is None and formats.guessed
    format = format or formats.format
    if format is None:
        raise DataError(
            f"No column holds text to train on (columns: {_listed(columns)}).",
            fix="Choose a format and map its roles to columns.",
            field="format",
        )
    mapping = _mapped(format, roles, formats.mappings.get(format, {}), columns)
    chosen = ChosenFormat(format, mapping, guessed)
    rows = looked_at(columns, rows)
    if format == "multiple_choice":
        answers = answers or recognise_answers(rows, columns_of(mapping, "choices"), mapping["answer"])
        if answers is None:
            raise _no_answers(mapping)
        return chosen._replace(answers=answers)
    if FORMATS[format].meanings:
        return chosen._replace(values=_meanings(format, mapping, rows, values))
    return chosen


def _format_with(roles: Mapping[str, str], formats: RecognisedFormats) -> FormatName | None:
    """The first format that has all of these roles: of those that fit, else of those that need no other."""
    able = [form.name for form in FORMATS.values() if all(form.has_role(role) for role in roles)]
    fitting = [name for name in formats.mappings if name in able]
    if not fitting:
        fitting = [name for name in able if set(FORMATS[name].required) <= set(roles)]
    return fitting[0] if fitting else None


def _mapped(
    format: FormatName, given: Mapping[str, str], recognised: Mapping[str, str], columns: Sequence[str]
) -> dict[str, str]:
    """What is given, and what is recognised for the roles that it leaves open."""
    form = FORMATS[format]
    if set(form.required) <= set(given):
        recognised = {}
    several = tuple(f"{role}_" for role in form.several if role in given)
    mapping = {role: column for role, column in recognised.items() if not role.startswith(several or ("\0",))}
    mapping = {role: column for role, column in {**mapping, **given}.items() if column}
    for role in form.required:
        if role not in mapping:
            raise ConfigError(
                f"{form.title} needs a column for {role} (columns: {_listed(columns)}).",
                fix=f"Map a column to {role}, or choose another format.",
                field=f"columns.{role}",
            )
    _check_distinct(mapping)
    return mapping


def _meanings(
    format: FormatName, mapping: Mapping[str, str], rows: FileRows, given: Mapping[str, str]
) -> dict[str, str]:
    """What the values of the deciding column mean. Raises DataError (field values) where it is not plain."""
    given = {value.strip().casefold(): meaning for value, meaning in given.items()}
    role = FORMATS[format].required[-1]
    columns = columns_of(mapping, role)
    if format == "comparison":
        recognised = meanings_of(rows, columns, mapping["first"], mapping["second"])
    else:
        recognised = marks_of(rows, mapping[role])
    if recognised is None and not given:
        able = ", ".join(FORMATS[format].meanings)
        raise DataError(
            f"What the values of {', '.join(columns)} mean can't be told.",
            fix=f"Say it for each value: {able} (values), or choose another column or format.",
            field="values",
        )
    return dict(sorted({**(recognised or {}), **given}.items()))


def _no_answers(mapping: dict[str, str]) -> DataError:
    return DataError(
        f"The column {mapping['answer']!r} names none of the choices in {columns_of(mapping, 'choices')}.",
        fix="Map the columns of the choices and of the right one, and say how it names it: answers is text,"
        " letter, number from 0 or number from 1.",
        field="answers",
    )


def _check_columns(given: Mapping[str, str], columns: Sequence[str]) -> None:
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


def _listed(columns: Sequence[str]) -> str:
    return ", ".join(columns[:12]) + (f" and {len(columns) - 12} more" if len(columns) > 12 else "")
