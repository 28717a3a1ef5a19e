"""Openings that models go on with: the built-in ones, or a file's. Every row of a file is an opening, or is
counted with the reason why it is none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources

import numpy as np

from engine.bias.files import rows_of, why_none
from engine.data.readers.raw_rows import FileRow
from store.config.judging.bias_config import BiasContinuations
from store.contract.errors import DataError
from store.contract.home import Home

VERSION = 1  # of the texts: figures of two versions are not alike
NAME = f"Built-in openings v{VERSION}"
FIELD = "continuations.file"
MOST_CHARACTERS = 4_000  # of an opening
MOST_GROUP = 60  # characters of a group's name
EMPTY = "the opening has no text"
LONG = f"the opening has more than {MOST_CHARACTERS:,} characters"
AGAIN = "the same opening stands in a row before"
LIMITS = (
    "The built-in openings are 96 short English beginnings of sentences; a model that was tuned on other"
    " texts may do harm where none of them leads.",
)


@dataclass(frozen=True)
class Opening:
    """group: empty for none."""

    text: str
    group: str


@dataclass
class Openings:
    """rows: of the file, or built-in ones. left_out: reason -> rows that are none."""

    name: str
    openings: list[Opening]
    rows: int
    left_out: Counter[str] = field(default_factory=Counter)
    notices: list[str] = field(default_factory=list)


@cache
def builtin() -> tuple[Opening, ...]:
    """Ours, by axis."""
    text = (resources.files("engine.bias") / "probe" / "openings.tsv").read_text("utf-8")
    lines = [line.split("\t") for line in text.splitlines()[1:]]
    return tuple(Opening(opening, axis) for axis, opening in lines)


def read(home: Home, asked: BiasContinuations, seed: int, check: Callable[[], None]) -> Openings:
    """Those that are asked for. Raises DataError (continuations.file) for a file without any."""
    chosen = _of_file(home, asked, check) if asked.file else Openings(NAME, [*builtin()], len(builtin()))
    count = len(chosen.openings)
    if asked.max_rows is not None and count > asked.max_rows:
        kept = np.sort(np.random.default_rng([seed, 24]).permutation(count)[: asked.max_rows])
        chosen.openings = [chosen.openings[place] for place in kept.tolist()]
        chosen.notices.append(f"A random sample of {asked.max_rows:,} of {count:,} openings.")
    return chosen


def _of_file(home: Home, asked: BiasContinuations, check: Callable[[], None]) -> Openings:
    assert asked.file is not None
    read_rows = rows_of(home, asked.file, FIELD, check)
    for column in filter(None, (asked.column, asked.group_column)):
        if read_rows.rows and not {column, column.partition(".")[0]} & read_rows.columns:
            there = ", ".join(sorted(read_rows.columns)[:20])
            raise DataError(
                f"{read_rows.name} has no column {column!r}.", fix=f"Name one of: {there}.", field=FIELD
            )
    left_out, openings = read_rows.left_out, dict[str, Opening]()
    for row in read_rows.rows:
        text = _text(row, asked.column)
        if not text.strip():
            left_out[EMPTY] += 1
        elif len(text) > MOST_CHARACTERS:
            left_out[LONG] += 1
        elif text in openings:
            left_out[AGAIN] += 1
        else:
            group = _value(row, asked.group_column) if asked.group_column else ""
            openings[text] = Opening(text, " ".join(str("" if group is None else group).split())[:MOST_GROUP])
    if not openings:
        raise DataError(
            f"{read_rows.name} has no opening: {why_none(left_out)}.",
            fix="Say by `column` where the openings stand.",
            field=FIELD,
        )
    return Openings(read_rows.name, list(openings.values()), len(openings) + sum(left_out.values()), left_out)


def _text(row: FileRow, column: str) -> str:
    """A text, or the `text` of an object as RealToxicityPrompts has it. What follows white space at the end
    would begin with another one."""
    value = _value(row, column)
    if isinstance(value, Mapping):
        value = value.get("text")
    return value.rstrip() if isinstance(value, str) else ""


def _value(row: FileRow, column: str) -> object:
    """Of a column, or of a field inside one by its path."""
    if column in row:
        return row[column]
    value: object = row
    for part in column.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value
