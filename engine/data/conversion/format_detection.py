"""Detect the format of the rows of a file and the column of each role.

User settings take precedence; the rest is detected from the column names and the first rows. Conversations
are detected by their structure, everything else by column names, checked against the values. If no name fits,
the values decide and the result is marked as guessed, so that the user is told.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from engine.data.conversion.conversation_turns import find_turn_keys
from engine.data.conversion.judged_answers import (
    has_enough_pairs,
    infer_marks,
    infer_meanings,
    recognise_comparison,
    recognise_marked,
)
from engine.data.conversion.multiple_choice import recognise_answers, recognise_choices
from engine.data.readers.file_rows import (
    ALIASES,
    FLAG_PREFIXES,
    ROW_NUMBER_NAMES,
    TOOLS,
    TURN_NAMES,
    FileRows,
    limit_head,
    list_first_values,
    list_values,
    map_names,
    map_path_names,
    normalise_name,
)
from store.core.errors import ConfigError, DataError
from store.data.formats import FORMATS, AnswerBy, FormatName, list_columns

LABEL_LENGTH = 80  # maximum of the median label length in characters
FEW_VALUES = 0.5  # maximum ratio of distinct labels to rows if only values suggest a label
FLAGS = ({"0", "1"}, {"true", "false"}, {"yes", "no"}, {"y", "n"}, {"t", "f"})


class RecognisedFormats(NamedTuple):
    """Result of the format detection.

    format: None if no column holds text. mappings: of every format that fits, the best first.
    """

    format: FormatName | None
    mappings: dict[FormatName, dict[str, str]]
    guessed: bool


def recognise_format(columns: Sequence[str], rows: FileRows) -> RecognisedFormats:
    """Detect the format of the rows and the mapping of its roles, with every other format that fits.

    The rows must already have the values of those `columns` that are paths.
    """
    rows = limit_head(columns, rows)
    names = map_names(columns)
    within = map_path_names(columns)
    every = {**{name: paths[0] for name, paths in within.items()}, **names}
    fitting: dict[str, dict[str, str] | None] = {**_match_turns(columns, names, rows)}
    fitting["comparison"] = recognise_comparison(columns, every, rows)
    fitting["multiple_choice"] = recognise_choices(columns, every, rows)
    if marked := recognise_marked(every, rows):
        first, second = (
            ("marked_pairs", "marked") if has_enough_pairs(rows, marked) else ("marked", "marked_pairs")
        )
        fitting |= {first: marked, second: marked}
    for format in ALIASES:
        if format not in SPECIFIC_FORMATS:
            fitting[format] = _match_by_name(format, names, within, rows)
    if not fitting["text_label"] and not fitting["prompt_completion"]:
        fitting["text_label"] = _match_flagged(columns, names, rows)
    order = [*("messages", "sharegpt"), *ALIASES]
    if marked and next(name for name in fitting if name in MARKED_FORMATS) == "marked":
        order = [name for name in order if name != "marked_pairs"]
        order.insert(order.index("marked") + 1, "marked_pairs")
    mappings = {FORMATS[name].name: mapping for name in order if (mapping := fitting.get(name))}
    guessed = not mappings
    for name, mapping in _match_by_values(columns, rows).items():
        mappings.setdefault(name, mapping)
    return RecognisedFormats(next(iter(mappings), None), mappings, guessed and bool(mappings))


MARKED_FORMATS = ("marked", "marked_pairs")
SPECIFIC_FORMATS = (
    "comparison",
    "multiple_choice",
    *MARKED_FORMATS,
)  # detected by more than column names


def _match_flagged(columns: Sequence[str], names: Mapping[str, str], rows: FileRows) -> dict[str, str] | None:
    """Match a text column by name, and the first column with boolean values or a name as `is_toxic`."""
    aliases = (*ALIASES["text_label"]["text"], *ALIASES["text"]["text"])
    texts = (names[alias] for alias in aliases if alias in names)
    text = next(
        (column for column in texts if _can_play_role("text_label", "text", list_values(rows, column))), None
    )
    if text is None:
        return None
    for column in columns:
        if normalise_name(column) in ROW_NUMBER_NAMES:  # numbers 0 and 1 of two rows
            continue
        values = list_first_values(rows, column, 2000)
        keys = {str(value).strip().lower() for value in values}
        called = normalise_name(column).startswith(FLAG_PREFIXES) and len(keys) <= 2
        flat = not any(isinstance(value, list | dict | bytes) for value in values)
        if flat and keys and (called or any(keys == pair for pair in FLAGS) or keys <= {"true", "false"}):
            return {"text": text, "label": column}
    return None


def _match_turns(
    columns: Sequence[str], names: Mapping[str, str], rows: FileRows
) -> dict[str, dict[str, str]]:
    """Match columns whose values are lists of turns; the usual names first."""
    mappings: dict[str, dict[str, str]] = {}
    listed = next((names[alias] for alias in TOOLS if alias in names), None)
    extra = next((names[alias] for alias in ALIASES["instruction"]["system"] if alias in names), None)
    tools = {"tools": listed} if listed else {}
    for column in sorted(columns, key=lambda name: normalise_name(name) not in TURN_NAMES):
        if normalise_name(column) in ("chosen", "rejected", "prompt"):  # conversations of a preference
            continue
        keys = next(
            (keys for value in list_first_values(rows, column, 5) if (keys := find_turn_keys(value))), None
        )
        if keys == ("role", "content"):
            mappings.setdefault("messages", {"messages": column, **tools})
        elif keys:
            mapping = {"conversations": column, **({"system": extra} if extra else {}), **tools}
            mappings.setdefault("sharegpt", mapping)
    return mappings


def _match_by_name(
    format: str, names: Mapping[str, str], within: Mapping[str, list[str]], rows: FileRows
) -> dict[str, str] | None:
    """Return the mapping of a format if every required role has a column.

    names: normalized name -> column. within: normalized name -> paths.
    """
    mapping: dict[str, str] = {}
    for role, aliases in ALIASES[format].items():
        called: list[str] = []
        for alias in aliases:
            called += [names[alias]] if alias in names else []
            called += within.get(alias, [])
        free = [column for column in dict.fromkeys(called) if column not in mapping.values()]
        values = {column: list_values(rows, column) for column in free}
        column = next((column for column in free if _can_play_role(format, role, values[column])), None)
        required = role in FORMATS[format].required
        if column is None and required:  # the name decides, even if empty in the first rows
            column = next((column for column in free if not values[column]), None)
        if column:
            mapping[role] = column
        elif required:
            return None
    return mapping


def _can_play_role(format: str, role: str, values: list[Any]) -> bool:
    """Return whether the values fit the role: texts, or short values for a label."""
    if not values:
        return False
    if format == "preference":
        return all(isinstance(value, str) or find_turn_keys(value) for value in values)
    flat = [value for value in values if not isinstance(value, list | dict | bytes)]
    if len(flat) < len(values) / 2:
        return False
    return role != "label" or statistics.median(len(str(value)) for value in flat) <= LABEL_LENGTH


def _match_by_values(columns: Sequence[str], rows: FileRows) -> dict[FormatName, dict[str, str]]:
    """Return the mappings that fit the values if the names give no match."""
    sizes: dict[str, float] = {}
    labels: list[str] = []
    for column in columns:
        values = list_values(rows, column)
        texts = [value for value in values if isinstance(value, str)]
        if len(texts) > len(values) / 2:
            sizes[column] = statistics.median(len(text) for text in texts)
        flat = [str(value) for value in values if not isinstance(value, list | dict | bytes)]
        many = len(flat) >= 10 and 1 < len(set(flat)) <= FEW_VALUES * len(flat)
        if many and max(map(len, flat)) <= LABEL_LENGTH:
            labels.append(column)
    texts_only = [column for column in sizes if column not in labels]
    # Of several numbered answers, such as output_1 and output_2, use the first.
    bare = {normalise_name(column).rstrip("0123456789_"): column for column in reversed(columns)}
    numbered = {
        name: _match_by_name(name, bare, {}, rows)
        for name in ("instruction", "question_answer", "prompt_completion")
    }
    mappings = {FORMATS[name].name: mapping for name, mapping in numbered.items() if mapping}
    if not texts_only:
        return {"text": {"text": max(sizes, key=sizes.__getitem__)}} if sizes else {}
    longest = max(sizes[column] for column in texts_only)
    main = next(column for column in texts_only if sizes[column] >= longest / 2)
    if labels:
        label = min(labels, key=lambda name: not isinstance(list_values(rows, name)[0], str))
        mappings["text_label"] = {"text": main, "label": label}
    if len(texts_only) > 1:
        mappings.setdefault("prompt_completion", {"prompt": texts_only[0], "completion": texts_only[1]})
    return {**mappings, "text": {"text": main}}


class ChosenFormat(NamedTuple):
    """How rows are read: the format and its mapping role -> column.

    guessed: only the values led to it. answers: how answers name their choices (multiple choice). values:
    meanings of the deciding values (judged answers).
    """

    format: FormatName
    mapping: dict[str, str]
    guessed: bool = False
    answers: AnswerBy | None = None
    values: Mapping[str, str] = {}


class FormatOptions(NamedTuple):
    """User settings for reading the rows; anything None or missing is detected.

    columns: role -> column (empty: no column). answers: how answers name their choices. values: meanings of
    the deciding values.
    """

    format: FormatName | None
    columns: Mapping[str, str]
    answers: AnswerBy | None = None
    values: Mapping[str, str] = {}


def choose_format(
    columns: Sequence[str],
    rows: FileRows,
    given: FormatOptions,
    recognised: RecognisedFormats | None = None,
) -> ChosenFormat:
    """Decide how the rows are read, from the user's settings and from what is detected.

    A mapping of every required role is used as it is; otherwise the rest is detected. A role mapped to an
    empty text has no column. Raises ConfigError for an unknown column, and DataError if no format fits.
    """
    formats = recognised or recognise_format(columns, rows)
    format, roles, answers, values = given
    _check_columns(roles, columns)
    if format is None and roles:
        format = _find_format(roles, formats)
    guessed = format is None and formats.guessed
    format = format or formats.format
    if format is None:
        raise DataError(
            f"No column holds text to train on (columns: {_format_columns(columns)}).",
            fix="Choose a format and map its roles to columns.",
            field="format",
        )
    mapping = _complete_mapping(format, roles, formats.mappings.get(format, {}), columns)
    chosen = ChosenFormat(format, mapping, guessed)
    rows = limit_head(columns, rows)
    if format == "multiple_choice":
        answers = answers or recognise_answers(rows, list_columns(mapping, "choices"), mapping["answer"])
        if answers is None:
            raise _make_answer_error(mapping)
        return chosen._replace(answers=answers)
    if FORMATS[format].meanings:
        return chosen._replace(values=_resolve_meanings(format, mapping, rows, values))
    return chosen


def _find_format(roles: Mapping[str, str], formats: RecognisedFormats) -> FormatName | None:
    """Return the first format with all of these roles.

    Detected formats come first, then formats that require no other role.
    """
    able = [form.name for form in FORMATS.values() if all(form.has_role(role) for role in roles)]
    fitting = [name for name in formats.mappings if name in able]
    if not fitting:
        fitting = [name for name in able if set(FORMATS[name].required) <= set(roles)]
    return fitting[0] if fitting else None


def _complete_mapping(
    format: FormatName, given: Mapping[str, str], recognised: Mapping[str, str], columns: Sequence[str]
) -> dict[str, str]:
    """Return the given mapping, completed by the detected columns of the missing roles."""
    form = FORMATS[format]
    if set(form.required) <= set(given):
        recognised = {}
    several = tuple(f"{role}_" for role in form.several if role in given)
    mapping = {role: column for role, column in recognised.items() if not role.startswith(several or ("\0",))}
    mapping = {role: column for role, column in {**mapping, **given}.items() if column}
    for role in form.required:
        if role not in mapping:
            raise ConfigError(
                f"{form.title} needs a column for {role} (columns: {_format_columns(columns)}).",
                fix=f"Map a column to {role}, or choose another format.",
                field=f"columns.{role}",
            )
    _check_distinct(mapping)
    return mapping


def _resolve_meanings(
    format: FormatName, mapping: Mapping[str, str], rows: FileRows, given: Mapping[str, str]
) -> dict[str, str]:
    """Return the meanings of the deciding column's values. Raises DataError (field values) if unclear."""
    given = {value.strip().casefold(): meaning for value, meaning in given.items()}
    role = FORMATS[format].required[-1]
    columns = list_columns(mapping, role)
    if format == "comparison":
        recognised = infer_meanings(rows, columns, mapping["first"], mapping["second"])
    else:
        recognised = infer_marks(rows, mapping[role])
    if recognised is None and not given:
        able = ", ".join(FORMATS[format].meanings)
        raise DataError(
            f"What the values of {', '.join(columns)} can't be interpreted.",
            fix=f"Map each value: {able} (values), or choose another column or format.",
            field="values",
        )
    return dict(sorted({**(recognised or {}), **given}.items()))


def _make_answer_error(mapping: dict[str, str]) -> DataError:
    return DataError(
        f"The column {mapping['answer']!r} names none of the choices in {list_columns(mapping, 'choices')}.",
        fix="Map the columns of the choices and of the correct one, and its form: answers is text, letter,"
        " number from 0 or number from 1.",
        field="answers",
    )


def _check_columns(given: Mapping[str, str], columns: Sequence[str]) -> None:
    for role, column in given.items():
        if column and column not in columns:
            raise ConfigError(
                f"There is no column {column!r} for {role}.",
                fix=f"The file has {_format_columns(columns)}.",
                field=f"columns.{role}",
            )


def _check_distinct(mapping: dict[str, str]) -> None:
    taken: dict[str, str] = {}
    for role, column in mapping.items():
        if column in taken:
            raise ConfigError(
                f"{taken[column]} and {role} are both mapped to the column {column!r}.",
                fix="Map each role to a separate column.",
                field=f"columns.{role}",
            )
        taken[column] = role


def _format_columns(columns: Sequence[str]) -> str:
    return ", ".join(columns[:12]) + (f" and {len(columns) - 12} more" if len(columns) > 12 else "")
