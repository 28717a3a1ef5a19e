"""Physical lines of a text file, decoded, with their numbers from 1.

A line that does not decode is never dropped: where the file was plain ASCII so far it is Windows-1252
(Latin-1), and that is said once, with the line; where the file has shown itself to be UTF-8, or the user
named the encoding, the line is skipped with the reason.

Plain text: paragraphs, parted by blank lines, are the rows; where no line is blank, the lines are.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from typing import Protocol

from engine.data.readers.raw_rows import (
    MAX_ROW,
    MAX_ROW_TEXT,
    Reader,
    ReadRow,
    Skipped,
    SourceProblem,
    skipped,
)
from engine.data.readers.streams import ByteStream

TOO_LONG = f"longer than {MAX_ROW_TEXT}"
LATIN = (
    "Not UTF-8: read as Windows-1252 (Latin-1). Look whether accents are right in the preview;"
    " if not, name the encoding."
)


def is_wide(encoding: str) -> bool:
    """Whether a newline is more than the one byte 0x0A, so that lines can't be cut before decoding."""
    return encoding != "utf-8-sig" and "\n".encode(encoding) != b"\n"


class Pieces(Protocol):
    def read(self) -> bytes:
        """The next bytes; empty at the end."""


class Lines:
    """Iterate once: (number, text without its line end | Skipped).

    encoding: what is tried; `fixed` where the user named it, else a line may fall back. A stream in a wide
    encoding comes as UTF-8 (`DecodedStream`) under its own name.
    """

    def __init__(self, stream: Pieces, encoding: str, fixed: bool, newline: bytes = b"\n") -> None:
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

    def __iter__(self) -> Iterator[tuple[int, str | Skipped]]:
        number = 0
        for block in self._blocks():
            if isinstance(block, Skipped):
                number += 1
                yield number, block
                continue
            for line in self._decode(block, number):
                number += 1
                yield number, line

    def _blocks(self) -> Iterator[bytes | Skipped]:
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
                yield skipped(TOO_LONG, cutting.decode("utf-8", "replace"))
                piece, cutting = piece[end + 1 :], b""
            rest += piece
            end = rest.find(b"\n")
            if end > MAX_ROW:
                yield skipped(TOO_LONG, rest[:1000].decode("utf-8", "replace"))
                rest = rest[end + 1 :]
            end = rest.rfind(b"\n")
            if end >= 0:
                yield rest[:end].replace(b"\r\n", b"\n").removesuffix(b"\r")
                rest = rest[end + 1 :]
            if len(rest) > MAX_ROW:
                rest, cutting = b"", rest[:1000]
        if cutting:
            yield skipped(TOO_LONG, cutting.decode("utf-8", "replace"))
        elif rest:
            yield rest.removesuffix(b"\r")

    def _decode(self, block: bytes, before: int) -> list[str] | list[str | Skipped]:
        try:
            text = block.decode(self._codec)
        except UnicodeDecodeError:
            lines = block.split(b"\n")
            return [self._decode_line(line, before + at) for at, line in enumerate(lines, 1)]
        if not self._utf8_seen and self.encoding != "cp1252" and not block.isascii():
            self._utf8_seen = True
        return text.split("\n")

    def _decode_line(self, line: bytes, number: int) -> str | Skipped:
        try:
            text = line.decode(self._codec)
        except UnicodeDecodeError:
            if self._fixed or self._utf8_seen:
                return skipped(f"not valid {self._codec}", line[:1000].decode("utf-8", "replace"))
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
            yield number, text if isinstance(text, Skipped) else {"text": text}

    def _lines_of_text(self) -> Iterator[tuple[int, str | Skipped]]:
        for number, line in self._lines:
            if isinstance(line, Skipped) or line.strip():
                yield number, line

    def _paragraphs(self) -> Iterator[tuple[int, str | Skipped]]:
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
            if isinstance(line, Skipped):
                yield number, line
        if parts:
            yield start, self._join(parts, size)

    def _join(self, parts: list[str], size: int) -> str | Skipped:
        text = "\n".join(parts).rstrip()
        return text if size <= MAX_ROW else skipped(f"longer than {MAX_ROW_TEXT}", text)
