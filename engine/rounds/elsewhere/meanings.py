"""What the values of the deciding columns mean: which side a vote is for, and whether an answer passes.

Found from the first rows and said; a value that says nothing clear stops the import until somebody says what
it means, so that no vote is counted for the wrong side.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from engine.data.convert.judged_answers import BAD, GOOD, side_meanings, value_key
from engine.data.readers.column_values import FileRows, normalise, value_at
from engine.rounds.elsewhere.columns import RatedColumns, number_of
from store.catalog.formats import columns_of
from store.config.judging.round_config import ImportRound
from store.contract.errors import ConfigError

YES = frozenset({"1", "true", "yes", "y"})
NO = frozenset({"0", "false", "no", "n"})
SIDES = frozenset({"a", "b", "left", "right", "first", "second", "1", "2", "0", "model_a", "model_b"})
MAX_UNCLEAR = 12


class Meanings(NamedTuple):
    """values: key of a value -> what it means. unclear: values that mean nothing clear, with their rows."""

    values: dict[str, str]
    unclear: Counter[str]


def find_meanings(chosen: RatedColumns, rows: FileRows, config: ImportRound) -> Meanings:
    """Of the first rows. Raises ConfigError (values) for a meaning that the form does not have."""
    form = chosen.form
    given = {value_key(value): meaning for value, meaning in config.values.items()}
    if form is None:
        return Meanings(given, Counter())
    for value, meaning in given.items():
        if form.meanings and meaning not in form.meanings:
            raise ConfigError(
                f"values has {value}: {meaning!r}; it may be {', '.join(form.meanings)}.",
                fix=f"Write it as {value}={form.meanings[0]}.",
                field="values",
            )
    columns = columns_of(chosen.mapping, form.deciding)
    keys = Counter(
        value_key(value)
        for row in rows
        for column in columns
        if is_there(value := value_at(row, column)) and not isinstance(value, list | dict | bytes)
    )
    if form.name == "votes" and columns:
        return _of_votes(chosen.mapping, rows, columns, keys, given)
    if form.name == "passes":
        meanings = {key: "pass" if key in GOOD else "fail" for key in keys if key in GOOD | BAD} | given
        return Meanings(meanings, _rest(keys, meanings))
    if form.name == "scores":
        numbers = {key: key for key in keys if number_of(key) is not None}
        return Meanings(given, _rest(keys, numbers | given))
    return Meanings(given, Counter())


def is_there(value: Any) -> bool:
    """Whether a cell has something in it."""
    return value is not None and value == value and value != ""


def _rest(keys: Counter[str], meanings: Mapping[str, str]) -> Counter[str]:
    return Counter(
        dict(Counter({key: n for key, n in keys.items() if key not in meanings}).most_common(MAX_UNCLEAR))
    )


def _of_votes(
    mapping: Mapping[str, str],
    rows: FileRows,
    columns: Sequence[str],
    keys: Counter[str],
    given: Mapping[str, str],
) -> Meanings:
    """By side, and of a value that names one of its row's models in every row, by that name. Where the name
    is a word for a side too and they part, that is unclear."""
    sides = _sides(list(keys), mapping)
    votes = _with_names(mapping, rows, columns)
    meanings, unclear = dict(given), Counter[str]()
    for key, count in keys.items():
        if key in given:
            continue
        named = votes.get(key)
        if named is None:  # names no model of some row
            if key in sides:
                meanings[key] = sides[key]
            else:
                unclear[key] = count
        elif key in sides and named == {sides[key]}:
            meanings[key] = sides[key]
        elif normalise(key) in SIDES:
            unclear[key] = count
    return Meanings(meanings, Counter(dict(unclear.most_common(MAX_UNCLEAR))))


def _sides(keys: Sequence[str], mapping: Mapping[str, str]) -> dict[str, str]:
    """By the names of the answers' columns, and of the models'."""
    meanings: dict[str, str] = {}
    for first, second in (("answer_a", "answer_b"), ("model_a", "model_b")):
        meanings = side_meanings(keys, mapping.get(first, ""), mapping.get(second, "")) | meanings
    bad = {key: "both_bad" for key in keys if "bad" in key or normalise(key) in ("neither_good", "none_good")}
    return meanings | bad


def _with_names(mapping: Mapping[str, str], rows: FileRows, columns: Sequence[str]) -> dict[str, set[str]]:
    """Of values that name one of their row's models in every row: on which sides that model stood."""
    if "model_a" not in mapping or "model_b" not in mapping:
        return {}
    named: dict[str, set[str]] = {}
    other: set[str] = set()
    for row in rows:
        pair = [value_key(value_at(row, mapping[role])) for role in ("model_a", "model_b")]
        for column in columns:
            if is_there(value := value_at(row, column)):
                key = value_key(value)
                if key in pair and pair[0] != pair[1]:
                    named.setdefault(key, set()).add("first" if key == pair[0] else "second")
                else:
                    other.add(key)
    return {key: sides for key, sides in named.items() if key not in other}
