"""The first rows of a file: enough to recognise it by, bounded in number and in size."""

from __future__ import annotations

import re
from collections.abc import Iterator

from engine.data.readers.column_values import FileRows, values_of
from engine.data.readers.raw_rows import FileRow, ReadRow, SourceProblem
from engine.data.readers.source_json import encode

MOST_BYTES = 32 * 1024 * 1024
MOST_ITEMS = 20_000  # rows and skipped rows together

_NUMBER = re.compile(r"\s*[-+]?\d[\d.,]*(e[-+]?\d+)?\s*", re.IGNORECASE)
# Roles that are read by the model; an answer or a label may well be a number.
ASKING = ("text", "prompt", "question", "instruction")


def read_first(rows: Iterator[ReadRow], most: int) -> list[ReadRow]:
    """Items from the front of `rows` until `most` rows were read; skipped ones come with them, in order."""
    items: list[ReadRow] = []
    count = size = 0
    for item in rows:
        items.append(item)
        if isinstance(item[1], dict):
            count += 1
            size += _size(item[1])
        if count >= most or size >= MOST_BYTES or len(items) >= MOST_ITEMS:
            break
    return items


def _size(row: FileRow) -> int:
    try:
        return len(encode(row))
    except RecursionError:
        return 0


def remarks(mapping: dict[str, str], rows: FileRows) -> list[SourceProblem]:
    """What is odd about the values of the mapped columns, though they can be read."""
    problems: list[SourceProblem] = []
    for role, column in mapping.items():
        values = values_of(rows, column)
        numbers = [value for value in values if isinstance(value, int | float)]
        if role in ASKING and values:
            as_text = [value for value in values if isinstance(value, str) and _NUMBER.fullmatch(value)]
            if len(numbers) + len(as_text) == len(values):
                reason = f"Every value of the column {column!r} is a number, yet it is read as the {role}."
                problems.append(SourceProblem(None, reason + " Map another column if it is not meant."))
                continue
        if numbers and role != "label":
            problems.append(SourceProblem(None, f"Numbers in the column {column!r} are read as text.", True))
    return problems
