"""Decoded lines of text files with their physical line numbers from 1, and readers of plain text.

No line is dropped because it can't be decoded. If the file was ASCII so far, it is read as Windows-1252
(Latin-1), which is reported once with the line. If the file has been UTF-8 so far, or the user set the
encoding, the line is skipped with the reason.

The rows of plain text are its paragraphs, separated by blank lines, or its lines if none is blank. In text
with marks, `Q:` and `A:` or the headings of the Alpaca prompt (`### Instruction:`, `### Input:`, `###
Response:`), a record begins at the mark of a question and ends before the next one. Text before the first
mark, and a question without an answer, are skipped and counted.
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

TOO_LONG = f"longer than {MAX_ROW_TEXT}"
LATIN = (
    "Not UTF-8: read as Windows-1252 (Latin-1). Look whether accents are right in the preview;"
    " if not, name the encoding."
)


def is_wide(encoding: str) -> bool:
    """Return whether a newline is not the single byte 0x0A.

    If so, lines can only be split after decoding.
    """
    return encoding != "utf-8-sig" and "\n".encode(encoding) != b"\n"


class ByteSource(Protocol):
    def read(self) -> bytes:
        """Return the next bytes; empty at the end."""


class Lines:
    """Iterable, once, of (number, text without its line end or SkippedRow).

    encoding: the encoding to try. `fixed`: set by the user, otherwise a line may fall back to another one.
    A stream in a wide encoding is passed as UTF-8 (`DecodedStream`) with the name of its own encoding.
    """

    def __init__(self, stream: ByteSource, encoding: str, fixed: bool, newline: bytes = b"\n") -> None:
        self._stream = stream
        self._newline = newline
        self._fixed = fixed
        self._utf8_seen = False
        self.encoding = encoding
        fallback = encoding == "cp1252" and not fixed  # decide for each line: UTF-8 if valid
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
        """Yield whole lines joined by newlines, about 1 MiB at a time; too long lines as SkippedRow."""
        rest, cutting, first = b"", b"", True
        while piece := self._stream.read():
            if first:
                piece, first = piece.removeprefix(codecs.BOM_UTF8), False
            if self._newline == b"\r":
                piece = piece.replace(b"\r", b"\n")
            if cutting:  # inside a too long line: only search for its end
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
    """Base class of line-based readers: the file, its lines, and the detected encoding."""

    def __init__(self, stream: ByteStream, lines: Lines) -> None:
        super().__init__()
        self._stream = stream
        self._lines = lines
        self.problems = lines.problems  # shared list: lines may add problems while reading

    @property
    def encoding(self) -> str:  # type: ignore[override] # an attribute of Reader, worked out here
        return self._lines.encoding

    def position(self) -> float:
        return self._stream.position()

    def close(self) -> None:
        self._stream.close()


FEW_LINES = 20  # a text of at most so many lines, none blank, is one paragraph


class TextReader(LineReader):
    """Reader of rows `{"text": paragraph}`; line ends inside a paragraph are preserved."""

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
        """Yield paragraphs; an unreadable line is a skipped row and ends the paragraph before it."""
        parts: list[str] = []
        start = size = 0
        for number, line in self._lines:
            if isinstance(line, str) and line.strip():
                if not parts:
                    start = number
                size += len(line)
                # Of a paragraph over the limit, only the start is stored for the excerpt.
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


MIN_QUESTIONS = 2  # questions needed to detect marks


class TextMarks(NamedTuple):
    """Marks of a text: title, and pattern -> column.

    The mark of the first column begins a record; a row needs the first and the last column.
    """

    title: str
    pattern: re.Pattern[str]
    columns: tuple[str, ...]


def _make_marks(title: str, line: str, names: dict[str, str]) -> TextMarks:
    """Build marks. `line` has the placeholder {names}; names: pattern of a name -> column."""
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
    """Return the marks in use at the start of a text: at least two questions, and about as many answers."""
    lines = head.split("\n")
    for marks in MARKS:
        marked_columns = [column for line in lines if (column := find_column(line, marks)[0])]
        asked, answered = marked_columns.count(marks.columns[0]), marked_columns.count(marks.columns[-1])
        if asked >= MIN_QUESTIONS and abs(asked - answered) <= max(1, asked // 10):
            return marks
    return None


def find_column(line: str, marks: TextMarks) -> tuple[str, str]:
    """Return the column whose mark begins the line (empty if none), and the rest of the line."""
    match = marks.pattern.fullmatch(line)
    if not match:
        return "", line
    return next(column for column in marks.columns if match[column]), match["rest"]


class MarkedTextReader(LineReader):
    """Reader of text with marks; the columns are those of `marks`."""

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
            return make_skipped_row("precedes the first question", whole)
        needed = (self._marks.columns[0], self._marks.columns[-1])
        if missing := next((column for column in needed if not texts.get(column)), None):
            return make_skipped_row(f"has no {missing}", whole)
        return {column: texts.get(column, "") for column in self._marks.columns}
