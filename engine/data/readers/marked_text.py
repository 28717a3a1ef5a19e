"""Plain text in which marks say what is a question and what its answer: `Q:` and `A:`, or the headings of the
Alpaca prompt (`### Instruction:`, `### Input:`, `### Response:`).

A record begins at a mark of a question and goes on to the next one. What stands before the first mark, and a
question without an answer, is no row, and is counted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from engine.data.readers.lines import LineReader, Lines
from engine.data.readers.raw_rows import (
    MAX_ROW,
    MAX_ROW_TEXT,
    FileRow,
    ReadRow,
    Skipped,
    SourceProblem,
    skipped,
)
from engine.data.readers.streams import ByteStream

ENOUGH = 2  # questions by which marks are known to be meant


class TextMarks(NamedTuple):
    """title, and pattern -> column. The first column is what begins a record, the last what a row needs."""

    title: str
    pattern: re.Pattern[str]
    columns: tuple[str, ...]


def _marks(title: str, line: str, names: dict[str, str]) -> TextMarks:
    """`line` has the place {names}; names: what stands there -> the column."""
    groups = "|".join(f"(?P<{column}>{pattern})" for pattern, column in names.items())
    return TextMarks(title, re.compile(line.format(names=groups), re.IGNORECASE), tuple(names.values()))


MARKS = (
    _marks(
        "### Instruction and ### Response",
        r"\s*#{{1,4}}\s*(?:{names})\s*:?\s*(?P<rest>.*)",
        {"instruction|prompt": "instruction", "input|context": "input", "response|output|answer": "output"},
    ),
    _marks(
        "Q: and A:",
        r"\s*\**(?:{names})\s*\d*\s*[:.)]\**\s*(?P<rest>.*)",
        {"q|question": "question", "a|answer": "answer"},
    ),
)


def marks_in(head: str) -> TextMarks | None:
    """The marks of a text that begins so: two questions or more, and about as many answers."""
    lines = head.split("\n")
    for marks in MARKS:
        marked_columns = [column for line in lines if (column := column_at(line, marks)[0])]
        asked, answered = marked_columns.count(marks.columns[0]), marked_columns.count(marks.columns[-1])
        if asked >= ENOUGH and abs(asked - answered) <= max(1, asked // 10):
            return marks
    return None


def column_at(line: str, marks: TextMarks) -> tuple[str, str]:
    """The column whose mark begins the line (empty for none), and the rest of the line."""
    match = marks.pattern.fullmatch(line)
    if not match:
        return "", line
    return next(column for column in marks.columns if match[column]), match["rest"]


class MarkedTextReader(LineReader):
    """Rows of the columns of `marks`."""

    name = "text"

    def __init__(self, stream: ByteStream, lines: Lines, marks: TextMarks) -> None:
        super().__init__(stream, lines)
        self._marks = marks
        self.columns = list(marks.columns)
        self.problems.append(
            SourceProblem(None, f"Plain text with marks: {marks.title} begin the parts of each row.", True)
        )

    def rows(self) -> Iterator[ReadRow]:
        first = self._marks.columns[0]
        parts: dict[str, list[str]] = {}
        before: list[str] = []
        start = size = 0
        column = ""
        for number, line in self._lines:
            if isinstance(line, Skipped):
                yield number, line
                continue
            mark, rest = column_at(line, self._marks)
            if mark == first or (mark and mark in parts):
                if parts or any(before):
                    yield start, self._row(parts, before, size)
                parts, before, start, size = {}, [], number, 0
            start = start or number
            column = mark or column
            size += len(rest)
            if size <= MAX_ROW:
                (parts.setdefault(column, []) if column and (parts or mark) else before).append(rest)
        if parts or any(line.strip() for line in before):
            yield start, self._row(parts, before, size)

    def _row(self, parts: dict[str, list[str]], before: list[str], size: int) -> FileRow | Skipped:
        texts = {column: "\n".join(lines).strip() for column, lines in parts.items()}
        whole = "\n".join([*before, *texts.values()])
        if size > MAX_ROW:
            return skipped(f"longer than {MAX_ROW_TEXT}", whole)
        if not texts:
            return skipped("stands before the first question", whole)
        needed = (self._marks.columns[0], self._marks.columns[-1])
        if missing := next((column for column in needed if not texts.get(column)), None):
            return skipped(f"has no {missing}", whole)
        return {column: texts.get(column, "") for column in self._marks.columns}
