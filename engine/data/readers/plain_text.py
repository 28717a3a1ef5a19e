"""Physical lines of a text file, decoded, with their numbers from 1; and plain text in which marks (`Q:`,
`A:`, `### Instruction:`) say what is a question and what its answer. A line that does not decode is never
dropped: how it was read instead is said once, with the line.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from typing import NamedTuple, Protocol

from engine.data.readers.file_rows import (
    MAX_ROW,
    MAX_ROW_TEXT,
    FileRow,
    Reader,
    ReadRow,
    SkippedRow,
    SourceProblem,
    make_skipped_row,
)
from engine.data.readers.source_files import ByteStream

# Physical lines of a text file, decoded, with their numbers from 1.
#
# A line that does not decode is never dropped: where the file was plain ASCII so far it is Windows-1252
# (Latin-1), and that is said once, with the line; where the file has shown itself to be UTF-8, or the user
# named the encoding, the line is skipped with the reason.
#
# Plain text: paragraphs, parted by blank lines, are the rows; where no line is blank, the lines are.

TOO_LONG = f"longer than {MAX_ROW_TEXT}"
LATIN = (
    "Not UTF-8: read as Windows-1252 (Latin-1). Look whether accents are right in the preview;"
    " if not, name the encoding."
)


def is_wide(encoding: str) -> bool:
    """Whether a newline is more than the one byte 0x0A, so that lines can't be cut before decoding."""
    return encoding != "utf-8-sig" and "\n".encode(encoding) != b"\n"


class ByteSource(Protocol):
    def read(self) -> bytes:
        """The next bytes; empty at the end."""


class Lines:
    """Iterate once: (number, text without its line end | Skipped).

    encoding: what is tried; `fixed` where the user named it, else a line may fall back. A stream in a wide
    encoding comes as UTF-8 (`DecodedStream`) under its own name.
    """

    def __init__(self, stream: ByteSource, encoding: str, fixed: bool, newline: bytes = b"\n") -> None:
        self._stream = stream
        self._newline = newline
        self._fixed = fixed
        self._utf8_seen = False
        self.encoding = encoding
        fallback = encoding == "cp1252" and not fixed  # line by line: UTF-8 where it is valid
        self._codec = "utf-8" if fallback or encoding == "utf-8-sig" or is_wide(encoding) else encoding
        self.problems: list[SourceProblem] = []
        if fallback:
            self.problems.append(SourceProblem(None, LATIN))

    def __iter__(self) -> Iterator[tuple[int, str | SkippedRow]]:
        number = 0
        for block in self._blocks():
            if isinstance(block, SkippedRow):
                number += 1
                yield number, block
                continue
            for line in self._decode(block, number):
                number += 1
                yield number, line

    def _blocks(self) -> Iterator[bytes | SkippedRow]:
        """Whole lines, joined by newlines, about a MiB at a time; a line over the limit as Skipped."""
        rest, cutting, first = b"", b"", True
        while piece := self._stream.read():
            if first:
                piece, first = piece.removeprefix(codecs.BOM_UTF8), False
            if self._newline == b"\r":
                piece = piece.replace(b"\r", b"\n")
            if cutting:  # inside a line that is too long: look for its end only
                end = piece.find(b"\n")
                if end < 0:
                    continue
                yield make_skipped_row(TOO_LONG, cutting.decode("utf-8", "replace"))
                piece, cutting = piece[end + 1 :], b""
            rest += piece
            end = rest.find(b"\n")
            if end > MAX_ROW:
                yield make_skipped_row(TOO_LONG, rest[:1000].decode("utf-8", "replace"))
                rest = rest[end + 1 :]
            end = rest.rfind(b"\n")
            if end >= 0:
                yield rest[:end].replace(b"\r\n", b"\n").removesuffix(b"\r")
                rest = rest[end + 1 :]
            if len(rest) > MAX_ROW:
                rest, cutting = b"", rest[:1000]
        if cutting:
            yield make_skipped_row(TOO_LONG, cutting.decode("utf-8", "replace"))
        elif rest:
            yield rest.removesuffix(b"\r")

    def _decode(self, block: bytes, before: int) -> list[str] | list[str | SkippedRow]:
        try:
            text = block.decode(self._codec)
        except UnicodeDecodeError:
            lines = block.split(b"\n")
            return [self._decode_line(line, before + at) for at, line in enumerate(lines, 1)]
        if not self._utf8_seen and self.encoding != "cp1252" and not block.isascii():
            self._utf8_seen = True
        return text.split("\n")

    def _decode_line(self, line: bytes, number: int) -> str | SkippedRow:
        try:
            text = line.decode(self._codec)
        except UnicodeDecodeError:
            if self._fixed or self._utf8_seen:
                return make_skipped_row(f"not valid {self._codec}", line[:1000].decode("utf-8", "replace"))
        else:
            if self.encoding != "cp1252" and not line.isascii():
                self._utf8_seen = True
            return text
        if self.encoding != "cp1252":
            self.encoding = "cp1252"
            self.problems.append(SourceProblem(number, LATIN))
        try:
            return line.decode("cp1252")
        except UnicodeDecodeError:
            return line.decode("latin-1")


class LineReader(Reader):
    """What the readers of lines share: the file, its lines, and the encoding as it turned out."""

    def __init__(self, stream: ByteStream, lines: Lines) -> None:
        super().__init__()
        self._stream = stream
        self._lines = lines
        self.problems = lines.problems  # one list: lines may find something on the way

    @property
    def encoding(self) -> str:  # type: ignore[override] # an attribute of Reader, worked out here
        return self._lines.encoding

    def position(self) -> float:
        return self._stream.position()

    def close(self) -> None:
        self._stream.close()


FEW_LINES = 20  # a text of so few lines without a blank one is one paragraph


class TextReader(LineReader):
    """Rows `{"text": paragraph}`, their inner line ends kept."""

    name = "text"

    def __init__(self, stream: ByteStream, lines: Lines, head: str) -> None:
        super().__init__(stream, lines)
        self.columns = ["text"]
        sample = [line.strip() for line in head.strip().split("\n")]
        self.by_line = "" not in sample and len(sample) > FEW_LINES
        what = "its lines (no line is blank)" if self.by_line else "its paragraphs, parted by blank lines,"
        self.problems.append(SourceProblem(None, f"Plain text: {what} are the rows.", True))

    def rows(self) -> Iterator[ReadRow]:
        for number, text in self._lines_of_text() if self.by_line else self._paragraphs():
            yield number, text if isinstance(text, SkippedRow) else {"text": text}

    def _lines_of_text(self) -> Iterator[tuple[int, str | SkippedRow]]:
        for number, line in self._lines:
            if isinstance(line, SkippedRow) or line.strip():
                yield number, line

    def _paragraphs(self) -> Iterator[tuple[int, str | SkippedRow]]:
        """A line that can't be read makes a skipped row of its own and ends the paragraph before it."""
        parts: list[str] = []
        start = size = 0
        for number, line in self._lines:
            if isinstance(line, str) and line.strip():
                if not parts:
                    start = number
                size += len(line)
                # Of a paragraph over the limit only the beginning is kept, for the excerpt.
                if size <= MAX_ROW or len(parts) < 2:
                    parts.append(line)
                continue
            if parts:
                yield start, self._join(parts, size)
                parts, size = [], 0
            if isinstance(line, SkippedRow):
                yield number, line
        if parts:
            yield start, self._join(parts, size)

    def _join(self, parts: list[str], size: int) -> str | SkippedRow:
        text = "\n".join(parts).rstrip()
        return text if size <= MAX_ROW else make_skipped_row(f"longer than {MAX_ROW_TEXT}", text)


# Plain text in which marks say what is a question and what its answer: `Q:` and `A:`, or the headings of the
# Alpaca prompt (`### Instruction:`, `### Input:`, `### Response:`).
#
# A record begins at a mark of a question and goes on to the next one. What stands before the first mark,
# and a question without an answer, is no row, and is counted.

MIN_QUESTIONS = 2  # questions by which marks are known to be meant


class TextMarks(NamedTuple):
    """title, and pattern -> column. The first column is what begins a record, the last what a row needs."""

    title: str
    pattern: re.Pattern[str]
    columns: tuple[str, ...]


def _make_marks(title: str, line: str, names: dict[str, str]) -> TextMarks:
    """`line` has the place {names}; names: what stands there -> the column."""
    groups = "|".join(f"(?P<{column}>{pattern})" for pattern, column in names.items())
    return TextMarks(title, re.compile(line.format(names=groups), re.IGNORECASE), tuple(names.values()))


MARKS = (
    _make_marks(
        "### Instruction and ### Response",
        r"\s*#{{1,4}}\s*(?:{names})\s*:?\s*(?P<rest>.*)",
        {"instruction|prompt": "instruction", "input|context": "input", "response|output|answer": "output"},
    ),
    _make_marks(
        "Q: and A:",
        r"\s*\**(?:{names})\s*\d*\s*[:.)]\**\s*(?P<rest>.*)",
        {"q|question": "question", "a|answer": "answer"},
    ),
)


def find_marks(head: str) -> TextMarks | None:
    """The marks of a text that begins so: two questions or more, and about as many answers."""
    lines = head.split("\n")
    for marks in MARKS:
        marked_columns = [column for line in lines if (column := find_column(line, marks)[0])]
        asked, answered = marked_columns.count(marks.columns[0]), marked_columns.count(marks.columns[-1])
        if asked >= MIN_QUESTIONS and abs(asked - answered) <= max(1, asked // 10):
            return marks
    return None


def find_column(line: str, marks: TextMarks) -> tuple[str, str]:
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
            if isinstance(line, SkippedRow):
                yield number, line
                continue
            mark, rest = find_column(line, self._marks)
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

    def _row(self, parts: dict[str, list[str]], before: list[str], size: int) -> FileRow | SkippedRow:
        texts = {column: "\n".join(lines).strip() for column, lines in parts.items()}
        whole = "\n".join([*before, *texts.values()])
        if size > MAX_ROW:
            return make_skipped_row(f"longer than {MAX_ROW_TEXT}", whole)
        if not texts:
            return make_skipped_row("stands before the first question", whole)
        needed = (self._marks.columns[0], self._marks.columns[-1])
        if missing := next((column for column in needed if not texts.get(column)), None):
            return make_skipped_row(f"has no {missing}", whole)
        return {column: texts.get(column, "") for column in self._marks.columns}
