"""Readers for JSON Lines, and for JSON arrays of objects, which are parsed incrementally.

In JSONL a broken line costs one row. In an array nothing after a syntax error can be trusted, so the file
is rejected with the line. Memory holds one value at a time, not the file.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from typing import Any

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
from engine.data.readers.file_selection import parse_part
from engine.data.readers.plain_text import LATIN, ByteSource, LineReader, is_wide
from engine.data.readers.source_files import CHUNK, ByteStream
from store.core.errors import DataError

# Raw tabs and newlines inside strings are accepted: many writers leave them, and they are unambiguous.
DECODER = json.JSONDecoder(strict=False)
SPACE = " \t\r\n"
KINDS = {list: "a list", str: "a text", bool: "true or false", int: "a number", float: "a number"}


PART_COLUMN = "split"  # column added if each part has its own array
MAX_DEPTH = 20  # nesting depth of the search for an array of rows
INNER_LISTS = ("paragraphs", "qas")  # lists of rows inside rows, as in SQuAD


class JsonLinesReader(LineReader):
    """Reader of one JSON object per line; blank lines are ignored."""

    name = "jsonl"

    def rows(self) -> Iterator[ReadRow]:
        decode = DECODER.decode
        for number, line in self._lines:
            if isinstance(line, SkippedRow):
                yield number, line
                continue
            text = line.strip()
            if not text:
                continue
            try:
                row = decode(text)
            except json.JSONDecodeError as error:
                start = max(0, error.pos - 80)
                yield (
                    number,
                    make_skipped_row(
                        f"broken JSON ({error.msg.removesuffix(' at')})", text[start : error.pos + 80]
                    ),
                )
            except (ValueError, RecursionError):  # thousands of digits or brackets
                yield number, make_skipped_row("JSON with too deep nesting or too long a number", text)
            else:
                yield number, row if type(row) is dict else make_skipped_value(row, text)


def unfold_rows(row: FileRow, lists: tuple[str, ...]) -> Iterator[FileRow | SkippedRow]:
    """Yield the rows in the innermost of these nested lists, each with the scalar values of its ancestors."""
    inner = row.get(lists[0]) if lists else None
    if not isinstance(inner, list):
        yield row
        return
    outer = {key: value for key, value in row.items() if not isinstance(value, list | dict)}
    for value in inner:
        if isinstance(value, dict):
            yield from unfold_rows({**outer, **value}, lists[1:])
        else:
            yield make_skipped_value(value, str(value))


def make_skipped_value(value: Any, text: str) -> SkippedRow:
    return make_skipped_row(f"{KINDS.get(type(value), 'null')} where an object is expected", text)


class JsonArrayReader(Reader):
    """Reader of `[{...}, ...]`, or of the first array of objects inside objects.

    The path of a nested array, as in `{"data": {"rows": [...]}}`, is reported. Rows that contain other
    rows, as SQuAD's paragraphs contain questions, are unfolded into those, with the scalar values of their
    ancestors.
    """

    name = "json"

    def __init__(self, stream: ByteStream, pieces: ByteSource, encoding: str) -> None:
        super().__init__()
        self._stream = stream
        self._file = stream.path.name
        self._pieces = pieces
        self._decoder = codecs.getincrementaldecoder("utf-8" if is_wide(encoding) else encoding)()
        self.encoding = encoding
        if encoding == "cp1252":
            self.problems.append(SourceProblem(None, LATIN))
        self._text = ""
        self._at = 0  # position in `_text`
        self._line = 1  # line of that position
        self._ended = False
        self._more_after = False  # the object continues after the array

    def rows(self) -> Iterator[ReadRow]:
        opening = self._peek()
        path: list[str] = []
        if opening == "{":
            path = self._enter_array()
        elif opening != "[":
            raise self._broken("no array of objects begins here")
        while True:
            self._advance(self._at + 1)
            named = parse_part(path[-1]) if path else None
            if self._peek() == "]":
                self._advance(self._at + 1)
            else:
                yield from self._elements({PART_COLUMN: path[-1]} if named else {})
            if not named or not self._next_part(path):
                break
        self._finish(path)

    def _elements(self, marks: dict[str, str]) -> Iterator[ReadRow]:
        """Yield the rows of the array, adding `marks` for columns that a row doesn't have."""
        while True:
            self._peek()
            line = self._line
            value, end = self._value()
            row = (
                value if type(value) is dict else make_skipped_value(value, self._text[self._at : end][:500])
            )
            self._advance(end)
            if isinstance(row, dict) and isinstance(row.get(INNER_LISTS[0]), list):
                self._say_inner()
            for inner in unfold_rows(row, INNER_LISTS) if isinstance(row, dict) else [row]:
                yield line, {**marks, **inner} if marks and isinstance(inner, dict) else inner
            mark = self._peek()
            if mark not in (",", "]"):
                raise self._broken("a comma or a closing bracket is missing")
            self._advance(self._at + 1)
            if mark == "]":
                return

    def _say_inner(self) -> None:
        """Report once that the array's items contain the rows."""
        where = ".".join(INNER_LISTS)
        notice = SourceProblem(None, f"Each contains objects under {where!r}, which are the rows.", True)
        if notice not in self.problems:
            self.problems.append(notice)

    def _enter_array(self) -> list[str]:
        """Move to the first array of objects in the current object; return its keys."""
        path: list[str] = []
        self._advance(self._at + 1)
        while True:
            mark = self._peek()
            if mark == "}":  # no array in this object: continue in its parent
                self._advance(self._at + 1)
                if not path:
                    break
                path.pop()
                if self._peek() == ",":
                    self._advance(self._at + 1)
                continue
            if mark != '"':
                break
            key, end = self._value()
            self._advance(end)
            if self._peek() != ":":
                raise self._broken("a colon is missing")
            self._advance(self._at + 1)
            opening = self._peek()
            if opening == "[" and self._second() in ("{", ""):
                path.append(str(key))
                self.problems.append(
                    SourceProblem(None, f"The rows are those under {'.'.join(path)!r}.", True)
                )
                return path
            if opening == "{" and len(path) < MAX_DEPTH:
                path.append(str(key))
                self._advance(self._at + 1)
                continue
            self._advance(self._value()[1])
            if self._peek() == ",":
                self._advance(self._at + 1)
        raise DataError(
            f"{self._file} contains one JSON object without an array of objects.",
            fix="Save the rows as an array of objects, or as JSONL with one object a line.",
            field="source",
        )

    def _next_part(self, path: list[str]) -> bool:
        """Move to the next array if it is another part of the data set.

        Parts are arrays side by side, as in `{"train": [...], "test": [...]}`.
        """
        if self._peek() != ",":
            return False
        self._more_after = True
        self._advance(self._at + 1)
        if self._peek() != '"':
            return False
        key, end = self._value()
        self._advance(end)
        if self._peek() != ":":
            return False
        self._advance(self._at + 1)
        if not parse_part(str(key)) or self._peek() != "[" or self._second() not in ("{", "]"):
            return False
        path[-1], self._more_after = str(key), False
        return True

    def _second(self) -> str:
        """Return the first character inside the next bracket."""
        while True:
            rest = self._text[self._at + 1 :].lstrip(SPACE)
            if rest or not self._more():
                return rest[:1]

    def _finish(self, path: list[str]) -> None:
        """Read the closing braces after the array; report anything else, which is not read."""
        for _ in path:
            mark = "," if self._more_after else self._peek()
            if mark == ",":
                where = ".".join(path)
                self.problems.append(
                    SourceProblem(
                        self._line, f"Only the rows of {where!r} are read; the file has more after them."
                    )
                )
                return
            if mark != "}":
                raise self._broken("a closing brace is missing")
            self._advance(self._at + 1)
        if self._peek():
            raise self._broken("there is more after the array")

    def _value(self) -> tuple[Any, int]:
        """Return the value at the current position and its end, reading more text until it is complete."""
        while True:
            try:
                value, end = DECODER.raw_decode(self._text, self._at)
                if end < len(self._text) or not self._more():  # otherwise a number might continue
                    return value, end
            except json.JSONDecodeError as error:
                # Truncated text fails at its end, or at the start of an unterminated string.
                at_end = error.pos >= len(self._text) - 16 or error.msg.startswith("Unterminated string")
                if at_end and len(self._text) - self._at > MAX_ROW:
                    raise self._broken(f"a value is longer than {MAX_ROW_TEXT}") from error
                if not at_end or not self._more():
                    self._advance(min(error.pos, len(self._text)))
                    message = error.msg[:1].lower() + error.msg[1:].removesuffix(" at")
                    raise self._broken("it ends in the middle" if at_end else message) from error
            except (ValueError, RecursionError) as error:
                raise self._broken("a value has too deep nesting or too long a number") from error

    def _peek(self) -> str:
        """Return the next non-space character without consuming it; empty at the end."""
        while True:
            text, at = self._text, self._at
            while at < len(text) and text[at] in SPACE:
                at += 1
            self._advance(at)
            if at < len(text):
                return text[at]
            if not self._more():
                return ""

    def _advance(self, to: int) -> None:
        self._line += self._text.count("\n", self._at, to)
        self._at = to

    def _more(self) -> bool:
        """Read at least as much text as is buffered, so that a long value isn't parsed over and over."""
        if self._ended:
            return False
        waiting = self._text[self._at :]
        parts, size = [waiting], 0
        while size < max(CHUNK, len(waiting)) and not self._ended:
            piece = self._pieces.read()
            self._ended = not piece
            try:
                parts.append(self._decoder.decode(piece, final=self._ended))
            except UnicodeDecodeError as error:
                raise DataError(
                    f"{self._file} is not valid {self.encoding} after line {self._line}.",
                    fix="Name its encoding (latin-1 is the most likely), or save it as UTF-8.",
                    field="encoding",
                ) from error
            size += len(piece)
        self._text, self._at = "".join(parts), 0
        return True

    def _broken(self, what: str) -> DataError:
        if self._at >= len(self._text) and self._ended:
            what = "it ends in the middle"
        return DataError(
            f"{self._file} is not valid JSON at line {self._line}: {what}.",
            fix="Repair or download it again; as JSONL, one broken row would cost that row alone.",
            field="source",
        )

    def position(self) -> float:
        return self._stream.position()

    def close(self) -> None:
        self._stream.close()
