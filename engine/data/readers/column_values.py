"""The values of a column in the first rows of a file, and columns that lie inside objects, by a path.

`input.question` is the field `question` of the objects in the column `input`; `answers.text.0` the first text
of a list. A row of the file stays as it is: `with_paths` adds what a mapping needs.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from store.contract.errors import DataError

Rows = Sequence[dict[str, Any]]

MOST_COLUMNS = 4096
DEEPEST = 4  # objects in objects that a path goes through
MOST_PATHS = 200
FEWEST_ROWS, MOST_CELLS = 50, 1_000_000  # of the first rows; fewer of them where they are wide


def column_names(known: list[str], rows: Rows) -> list[str]:
    """Columns of the file: as known beforehand, else those of the first rows, in the order they appear.
    Raises DataError where there are more than 4,096."""
    return check_width(known or list(dict.fromkeys(name for row in rows for name in row)))


def check_width(columns: list[str]) -> list[str]:
    """The columns. Raises DataError where there are more than 4,096."""
    if len(columns) > MOST_COLUMNS:
        raise DataError(
            f"The file has {len(columns):,} columns; at most {MOST_COLUMNS:,} are read.",
            fix="Keep the columns that hold text, answers and labels, or give one object a line.",
            field="source",
        )
    return columns


def looked_at(columns: Sequence[str], rows: Rows) -> Rows:
    """So many of the first rows that a wide file costs as much to look at as a narrow one."""
    return rows[: max(FEWEST_ROWS, MOST_CELLS // max(1, len(columns)))]


def values_of(rows: Rows, column: str) -> list[Any]:
    """The values of a column that are there."""
    return list(_values(rows, column))


def first_values(rows: Rows, column: str, most: int) -> list[Any]:
    """The first of them."""
    return list(itertools.islice(_values(rows, column), most))


def _values(rows: Rows, column: str) -> Iterator[Any]:
    values = (row.get(column) for row in rows)
    return (value for value in values if value is not None and value == value and value != "")


def paths_of(columns: Sequence[str], rows: Rows) -> list[str]:
    """Paths to what lies in the objects and lists of texts of the first rows, at most 200."""
    found: dict[str, None] = {}
    for column in columns:
        for value in first_values(rows, column, 20):
            for path in _inside(value, column, 0):
                if path not in columns:
                    found.setdefault(path)
            if len(found) >= MOST_PATHS:
                return list(found)[:MOST_PATHS]
    return list(found)


def _inside(value: Any, path: str, depth: int) -> Iterator[str]:
    if isinstance(value, list):
        if value and all(isinstance(item, str) for item in value):
            yield f"{path}.0"
        elif value and isinstance(value[0], dict) and "text" in value[0]:
            yield f"{path}.0.text"
    elif isinstance(value, dict) and depth < DEEPEST:
        for key, item in value.items():
            inner = f"{path}.{key}"
            if isinstance(item, list):
                yield inner
            if isinstance(item, dict | list):
                yield from _inside(item, inner, depth + 1)
            else:
                yield inner


def value_at(row: dict[str, Any], path: str) -> Any:
    """What lies at the path; None where nothing does."""
    if path in row:
        return row[path]
    value: Any = row
    for part in path.split("."):
        if isinstance(value, dict):
            value = value.get(part)
        elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            return None
    return value


def with_paths(row: dict[str, Any], paths: Iterable[str]) -> dict[str, Any]:
    """The row, with what lies at the paths under their names."""
    return {**row, **{path: value_at(row, path) for path in paths}}


def ignored(columns: Sequence[str], mapping: dict[str, str]) -> list[str]:
    """The columns of the file of which nothing is used."""
    used = set(mapping.values())
    roots = {path.split(".", 1)[0] for path in used}
    return [column for column in columns if column not in used and column not in roots]
