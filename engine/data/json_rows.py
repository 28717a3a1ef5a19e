"""JSON Lines, and JSON arrays of objects parsed piece by piece.

In JSONL a broken line costs one row. Inside an array nothing after a syntax error can be trusted, so
that the file is refused, with the line. Memory holds one value at a time, not the file.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from typing import Any

from engine.data.lines import LATIN, LineReader, Pieces, is_wide
from engine.data.rows import MAX_ROW, MAX_ROW_TEXT, Problem, Reader, Row, Skipped, skipped
from engine.data.streams import CHUNK, ByteStream
from store.errors import DataError

# Raw tabs and newlines inside strings are taken: many writers leave them, and nothing is ambiguous.
DECODER = json.JSONDecoder(strict=False)
SPACE = " \t\r\n"
KINDS = {list: "a list", str: "a text", bool: "true or false", int: "a number", float: "a number"}


class JsonLinesReader(LineReader):
    """One JSON object a line; blank lines are no rows."""

    name = "jsonl"

    def rows(self) -> Iterator[Row]:
        decode = DECODER.decode
        for number, line in self._lines:
            if isinstance(line, Skipped):
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
                    skipped(f"broken JSON ({error.msg.removesuffix(' at')})", text[start : error.pos + 80]),
                )
            except (ValueError, RecursionError):  # a number of thousands of digits; thousands of brackets
                yield number, skipped("JSON that nests too deeply or holds too long a number", text)
            else:
                yield number, row if type(row) is dict else not_an_object(row, text)


def not_an_object(value: Any, text: str) -> Skipped:
    return skipped(f"{KINDS.get(type(value), 'null')} where an object is expected", text)


class JsonArrayReader(Reader):
    """`[{...}, ...]`, or the first array of objects inside an object, as in `{"data": [...]}`."""

    name = "json"

    def __init__(self, stream: ByteStream, pieces: Pieces, encoding: str) -> None:
        super().__init__()
        self._stream = stream
        self._file = stream.path.name
        self._pieces = pieces
        self._decoder = codecs.getincrementaldecoder("utf-8" if is_wide(encoding) else encoding)()
        self.encoding = encoding
        if encoding == "cp1252":
            self.problems.append(Problem(None, LATIN))
        self._text = ""
        self._at = 0  # the next character of `_text`
        self._line = 1  # of that character
        self._ended = False

    def rows(self) -> Iterator[Row]:
        opening = self._peek()
        key = ""
        if opening == "{":
            key = self._enter_array()
        elif opening != "[":
            raise self._broken("no array of objects begins here")
        self._advance(self._at + 1)
        if self._peek() == "]":
            self._advance(self._at + 1)
        else:
            yield from self._elements()
        self._finish(key)

    def _elements(self) -> Iterator[Row]:
        while True:
            self._peek()
            line = self._line
            value, end = self._value()
            row = value if type(value) is dict else not_an_object(value, self._text[self._at : end][:500])
            self._advance(end)
            yield line, row
            mark = self._peek()
            if mark not in (",", "]"):
                raise self._broken("a comma or a closing bracket is missing")
            self._advance(self._at + 1)
            if mark == "]":
                return

    def _enter_array(self) -> str:
        """Go to the first array of objects in the object that begins here; the key under which it is."""
        self._advance(self._at + 1)
        while self._peek() == '"':
            key, end = self._value()
            self._advance(end)
            if self._peek() != ":":
                raise self._broken("a colon is missing")
            self._advance(self._at + 1)
            if self._peek() == "[" and self._second() in ("{", ""):
                return str(key)
            self._advance(self._value()[1])
            if self._peek() == ",":
                self._advance(self._at + 1)
        raise DataError(
            f"{self._file} holds one JSON object, without an array of objects in it.",
            fix="Save the rows as an array of objects, or as JSONL with one object a line.",
            field="source",
        )

    def _second(self) -> str:
        """The first character inside the bracket that comes next."""
        while True:
            rest = self._text[self._at + 1 :].lstrip(SPACE)
            if rest or not self._more():
                return rest[:1]

    def _finish(self, key: str) -> None:
        if key and self._peek() == ",":
            self.problems.append(
                Problem(self._line, f"Only the rows of {key!r} are read; the file has more after them.")
            )
        elif not key and self._peek():
            raise self._broken("there is more after the array")

    def _value(self) -> tuple[Any, int]:
        """The value that begins here, and where it ends; more is read until it is whole."""
        while True:
            try:
                value, end = DECODER.raw_decode(self._text, self._at)
                if end < len(self._text) or not self._more():  # else a number might go on
                    return value, end
            except json.JSONDecodeError as error:
                # Truncated text fails at its very end, or where an open string begins.
                at_end = error.pos >= len(self._text) - 16 or error.msg.startswith("Unterminated string")
                if at_end and len(self._text) - self._at > MAX_ROW:
                    raise self._broken(f"a value is longer than {MAX_ROW_TEXT}") from error
                if not at_end or not self._more():
                    self._advance(min(error.pos, len(self._text)))
                    said = error.msg[:1].lower() + error.msg[1:].removesuffix(" at")
                    raise self._broken("it ends in the middle" if at_end else said) from error
            except (ValueError, RecursionError) as error:
                raise self._broken("a value nests too deeply or holds too long a number") from error

    def _peek(self) -> str:
        """The next character that is no white space, without taking it; empty at the end."""
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
        """Read on, at least as much again as is waiting, so that a long value is not parsed over and over."""
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
