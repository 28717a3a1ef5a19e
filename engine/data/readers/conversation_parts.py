"""The part of a data set that a file or a column of it names: train, validation or test.

Words that people use for them ("dev", "val", "oos_test", `train.csv`) are known; any other value has no part
until somebody gives it one. A row of a value that has none, or is to be left out, is not taken, and counted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from engine.data.readers.column_values import FileRows, normalise, values_of
from engine.data.readers.raw_rows import FileRow, RowSkipped
from store.catalog.formats import LEAVE_OUT
from store.catalog.left_out import LEFT_OUT

WORDS = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev", "development", "eval"), "validation"),
    **dict.fromkeys(("test", "testing", "tst", "holdout", "heldout"), "test"),
}
COLUMNS = (
    "file",
    "split",
    "part",
    "set",
    "subset",
    "partition",
    "fold",
    "data_split",
    "dataset_split",
    "usage",
    "phase",
)
MOST_VALUES = 30  # of a column that is the split


def part_named(value: str) -> str | None:
    """The part that a value names, by the last of its words that names one."""
    words = re.split(r"[^a-z]+", value.lower())
    return next((WORDS[word] for word in reversed(words) if word in WORDS), None)


def parts_of(values: Iterable[str], given: Mapping[str, str]) -> dict[str, str]:
    """value -> part: as given, else as the value names it; values without a part are not in it."""
    named = {value: given.get(value) or part_named(value) for value in values}
    return {value: part for value, part in named.items() if part}


def part_column(columns: Sequence[str], rows: FileRows, marks: Mapping[str, Sequence[str]]) -> str | None:
    """The column that says of every row which part it is in: called so, with values that name parts.
    `marks`: all values of columns of which they are known beforehand."""
    for column in columns:
        if normalise(column) in COLUMNS:
            values = {part_value(value) for value in (marks.get(column) or values_of(rows, column))}
            if values and len(values) <= MOST_VALUES and all(part_named(value) for value in values):
                return column
    return None


def part_value(value: Any) -> str:
    """A value of the column as parts are given to it."""
    return str(value).strip()[:80]


def part_of_row(row: FileRow, column: str, given: Mapping[str, str]) -> str:
    """train, validation or test. Raises RowSkipped for a row that is to be left out, or has no part."""
    value = row.get(column)
    if value is None or value != value or value == "":
        raise RowSkipped(f"{column} is empty: the row is in no part")
    name = part_value(value)
    part = given.get(name) or part_named(name)
    if part is None:
        raise RowSkipped(f"{column} is {name[:40]!r}, to which no part was given")
    if part == LEAVE_OUT:
        raise RowSkipped(f"{LEFT_OUT}{column} is {name[:40]!r}")
    return part
