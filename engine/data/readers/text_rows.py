"""Plain text: paragraphs, parted by blank lines, are the rows; where no line is blank, the lines are."""

from __future__ import annotations

from collections.abc import Iterator

from engine.data.readers.lines import LineReader, Lines
from engine.data.readers.raw_rows import MAX_ROW, MAX_ROW_TEXT, Problem, Row, Skipped, skipped
from engine.data.readers.streams import ByteStream

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
        self.problems.append(Problem(None, f"Plain text: {what} are the rows.", True))

    def rows(self) -> Iterator[Row]:
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
