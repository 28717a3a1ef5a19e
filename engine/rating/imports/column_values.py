"""Interpret the values of a ratings file's verdict columns, and find unused columns that may matter.

An ambiguous value or such a column stops the import until the user says what it means or excludes it, so
that no vote counts for the wrong side.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from engine.data.conversion.judged_answers import BAD, GOOD, format_value_key, infer_side_meanings
from engine.data.conversion.unused_columns import (
    ANSWER_WORDS,
    JUDGING_WORDS,
    MAX_SHOWN,
    MAX_SHOWN_LENGTH,
    are_flags,
    are_labels,
    extract_text,
    is_covered,
    is_locator,
    split_name,
)
from engine.data.readers.file_rows import (
    FileRows,
    limit_head,
    list_ignored_columns,
    list_values,
    normalise_name,
    read_path,
)
from engine.rating.imports.columns import ColumnMapping, FileHead, parse_number
from store.core.errors import ConfigError
from store.data.formats import list_columns
from store.rating.config import ImportRound
from store.rating.rating_files import RatingForm
from store.rating.schemas import UnusedColumn

YES = frozenset({"1", "true", "yes", "y"})
NO = frozenset({"0", "false", "no", "n"})
SIDES = frozenset({"a", "b", "left", "right", "first", "second", "1", "2", "0", "model_a", "model_b"})
MAX_UNCLEAR = 12


class ValueMeanings(NamedTuple):
    """Meaning of each value key, and the ambiguous values with their number of rows."""

    values: dict[str, str]
    unclear: Counter[str]


def find_meanings(chosen: ColumnMapping, rows: FileRows, config: ImportRound) -> ValueMeanings:
    """Interpret the values of the first rows.

    Raises ConfigError (values) for a configured meaning that the form does not have.
    """
    form = chosen.form
    given = {format_value_key(value): meaning for value, meaning in config.values.items()}
    if form is None:
        return ValueMeanings(given, Counter())
    for value, meaning in given.items():
        if form.meanings and meaning not in form.meanings:
            raise ConfigError(
                f"values has {value}: {meaning!r}; it may be {', '.join(form.meanings)}.",
                fix=f"Write it as {value}={form.meanings[0]}.",
                field="values",
            )
    columns = list_columns(chosen.mapping, form.deciding)
    keys = Counter(
        format_value_key(value)
        for row in rows
        for column in columns
        if is_present(value := read_path(row, column)) and not isinstance(value, list | dict | bytes)
    )
    if form.name == "votes" and columns:
        return _find_vote_meanings(chosen.mapping, rows, columns, keys, given)
    if form.name == "passes":
        meanings = {key: "pass" if key in GOOD else "fail" for key in keys if key in GOOD | BAD} | given
        return ValueMeanings(meanings, _count_remaining(keys, meanings))
    if form.name == "scores":
        numbers = {key: key for key in keys if parse_number(key) is not None}
        return ValueMeanings(given, _count_remaining(keys, numbers | given))
    return ValueMeanings(given, Counter())


def is_present(value: Any) -> bool:
    """Return whether a cell has a value (not None, NaN or empty)."""
    return value is not None and value == value and value != ""


def _count_remaining(keys: Counter[str], meanings: Mapping[str, str]) -> Counter[str]:
    return Counter(
        dict(Counter({key: n for key, n in keys.items() if key not in meanings}).most_common(MAX_UNCLEAR))
    )


def _find_vote_meanings(
    mapping: Mapping[str, str],
    rows: FileRows,
    columns: Sequence[str],
    keys: Counter[str],
    given: Mapping[str, str],
) -> ValueMeanings:
    """Interpret votes by side, or by model name if a value names one of its row's models in every row.

    A value that is both a model name and a word for a different side is ambiguous.
    """
    sides = _find_sides(list(keys), mapping)
    votes = _find_sides_by_name(mapping, rows, columns)
    meanings, unclear = dict(given), Counter[str]()
    for key, count in keys.items():
        if key in given:
            continue
        named = votes.get(key)
        if named is None:  # in some row, it names neither model
            if key in sides:
                meanings[key] = sides[key]
            else:
                unclear[key] = count
        elif key in sides and named == {sides[key]}:
            meanings[key] = sides[key]
        elif normalise_name(key) in SIDES:
            unclear[key] = count
    return ValueMeanings(meanings, Counter(dict(unclear.most_common(MAX_UNCLEAR))))


def _find_sides(keys: Sequence[str], mapping: Mapping[str, str]) -> dict[str, str]:
    """Interpret values by the names of the answer columns, or of the model columns."""
    meanings: dict[str, str] = {}
    for first, second in (("answer_a", "answer_b"), ("model_a", "model_b")):
        meanings = infer_side_meanings(keys, mapping.get(first, ""), mapping.get(second, "")) | meanings
    bad = {
        key: "both_bad"
        for key in keys
        if "bad" in key or normalise_name(key) in ("neither_good", "none_good")
    }
    return meanings | bad


def _find_sides_by_name(
    mapping: Mapping[str, str], rows: FileRows, columns: Sequence[str]
) -> dict[str, set[str]]:
    """Return the sides of the named model, for values that name one of their row's models in every row."""
    if "model_a" not in mapping or "model_b" not in mapping:
        return {}
    named: dict[str, set[str]] = {}
    other: set[str] = set()
    for row in rows:
        pair = [format_value_key(read_path(row, mapping[role])) for role in ("model_a", "model_b")]
        for column in columns:
            if is_present(value := read_path(row, column)):
                key = format_value_key(value)
                if key in pair and pair[0] != pair[1]:
                    named.setdefault(key, set()).add("first" if key == pair[0] else "second")
                else:
                    other.add(key)
    return {key: sides for key, sides in named.items() if key not in other}


RATER_WORDS = frozenset(
    {
        "annotator",
        "assessor",
        "evaluator",
        "judge",
        "labeler",
        "labeller",
        "performer",
        "rater",
        "voter",
        "worker",
    }
)
MODEL_WORDS = frozenset({"competitor", "generator", "model", "player", "system"})
POSSIBLE_ROLES = {
    "rater": "may be the rater",
    "model": "may name a model",
    "mark": "may rate an answer",
    "answer": "may contain an answer",
    "label": "has few values that come again and again",
}
ROLES = {
    "rater": ("rater",),
    "model": ("model_a", "model_b", "model", "models"),
    "mark": ("winner", "preference_a", "preference_b", "passed", "score", "label"),
    "answer": ("answer_a", "answer_b", "answer", "comment"),
    "label": ("rater", "models", "model", "label"),
}


def list_unused_columns(head: FileHead, mapping: Mapping[str, str]) -> list[str]:
    """Return the columns of the file that aren't used."""
    return list_ignored_columns(head.columns, dict(mapping))


def find_undecided(
    head: FileHead, form: RatingForm, mapping: Mapping[str, str], ignore: Sequence[str]
) -> list[UnusedColumn]:
    """Return the unused columns that the user has to map or exclude."""
    rows = limit_head(head.columns, head.rows)
    used = {column: [extract_text(read_path(row, column)) for row in rows] for column in mapping.values()}
    undecided: list[UnusedColumn] = []
    for name in list_unused_columns(head, mapping):
        if is_covered(name, ignore):
            continue
        may_be = _guess_role(name, rows, mapping, used)
        if may_be is None:
            continue
        keys = Counter(filter(None, map(extract_text, list_values(rows, name))))
        free = [role for role in ROLES[may_be] if role in form.roles and role not in mapping]
        several = [role for role in form.several if role in ROLES[may_be] and role in mapping]
        undecided.append(
            UnusedColumn(
                name=name,
                why=POSSIBLE_ROLES[may_be],
                values=[key[:MAX_SHOWN_LENGTH] for key, _ in keys.most_common(MAX_SHOWN)],
                distinct=len(keys),
                roles=[*free, *several],
            )
        )
    return undecided


def _guess_role(
    name: str, rows: FileRows, mapping: Mapping[str, str], used: Mapping[str, list[str]]
) -> str | None:
    values = list_values(rows, name)
    keys = Counter(text for value in values if (text := extract_text(value)))
    if len(keys) < 2 or any(isinstance(value, dict) for value in values):
        return None
    own = [extract_text(row.get(name)) for row in rows]
    if any(_is_equivalent(own, other) for other in used.values()):
        return None
    words = {word.removesuffix("s") for word in split_name(name)}
    for kind, vocabulary in (("rater", RATER_WORDS), ("model", MODEL_WORDS)):
        if words & vocabulary and not all(isinstance(value, float) for value in values):
            return kind
    if are_flags(values) or words & JUDGING_WORDS:
        return "mark"
    if is_locator(name, values, keys) or _is_determined_by_prompt(own, mapping, used):
        return None
    if words & ANSWER_WORDS and not {"answer_a", "answer"} & set(mapping):
        return "answer"
    return "label" if are_labels(values, keys) else None


def _is_equivalent(own: Sequence[str], other: Sequence[str]) -> bool:
    """Return whether a column is a one-to-one recoding of a used one, such as ids next to names."""
    pairs = set(zip(own, other, strict=True))
    return len({first for first, _ in pairs}) == len(pairs) == len({second for _, second in pairs})


def _is_determined_by_prompt(
    own: Sequence[str], mapping: Mapping[str, str], used: Mapping[str, list[str]]
) -> bool:
    """Return whether a column is a function of the prompt, such as its topic or length, given repeated
    prompts.
    """
    for column in (mapping[role] for role in ("prompt", "prompt_id", "text") if role in mapping):
        prompts = used[column]
        if 2 * len(set(prompts)) <= len(prompts) and len(set(zip(prompts, own, strict=True))) == len(
            set(prompts)
        ):
            return True
    return False
