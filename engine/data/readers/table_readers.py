"""Readers of tables: delimited files (CSV, TSV and others) with physical line numbers, and Parquet.

Parquet is read in batches. A delimited row whose number of fields differs from the header's is skipped
with its line, never padded or cut. The delimiter, whether quotes enclose fields, and whether line 1 is a
header are detected from the first records, which need not be clean: the delimiter is the one with which
most records have as many fields as the first.
"""

from __future__ import annotations

import csv
import itertools
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from engine.data.readers.file_rows import (
    KNOWN_NAMES,
    MAX_ROW,
    FileRow,
    Reader,
    ReadRow,
    SkippedRow,
    SourceProblem,
    make_skipped_row,
    normalise_name,
    unique_names,
)
from engine.data.readers.plain_text import LineReader, Lines
from engine.data.readers.source_files import ByteStream
from store.core.errors import DataError
from store.core.formatting import plural
from store.core.table_values import convert_times_to_text, unescape_cell

DELIMITERS = (",", "\t", ";", "|")
SAMPLE_RECORDS = 200  # records used for detection
EXPORT_COLUMN = "row_id"  # column that every exported file has

csv.field_size_limit(2 * MAX_ROW)


class Dialect(NamedTuple):
    """Dialect of a delimited file.

    `agreement`: share of the first records with as many fields as the very first; 0 for a single column.
    """

    delimiter: str
    quoted: bool
    agreement: float
    records: list[list[str]]


class _UnclosedQuote(Exception):
    """Raised for a quoted field that does not end within the limit or the file."""


class _PushBack:
    """Iterator over numbered lines that can be pushed back."""

    def __init__(self, lines: Iterator[tuple[int, str | SkippedRow]]) -> None:
        self._lines = lines
        self._returned: list[tuple[int, str | SkippedRow]] = []

    def __iter__(self) -> _PushBack:
        return self

    def __next__(self) -> tuple[int, str | SkippedRow]:
        return self._returned.pop() if self._returned else next(self._lines)

    def give_back(self, lines: list[tuple[int, str | SkippedRow]]) -> None:
        self._returned.extend(reversed(lines))


def read_records(
    lines: Iterator[tuple[int, str | SkippedRow]], delimiter: str, quoted: bool
) -> Iterator[tuple[int, list[str] | SkippedRow, str]]:
    """Yield (first physical line of the record, its fields or why it was skipped, its first line).

    Blank lines are ignored. An unclosed quote only costs its own line: the lines it would swallow are read
    again as records.
    """
    source = _PushBack(lines)
    for number, line in source:
        if isinstance(line, SkippedRow):
            yield number, line, line.excerpt
        elif not line:
            continue
        elif not quoted or '"' not in line:
            yield number, line.split(delimiter), line
        else:
            yield number, _parse(line, source, delimiter), line


def _parse(line: str, source: _PushBack, delimiter: str) -> list[str] | SkippedRow:
    taken: list[tuple[int, str | SkippedRow]] = []
    try:
        return next(csv.reader(_continue(line, source, taken), delimiter=delimiter))
    except _UnclosedQuote:
        source.give_back(taken)
        return make_skipped_row("a quote opens here and is never closed", line)
    except csv.Error as error:
        return make_skipped_row(f"broken CSV ({error})", line)


def _continue(line: str, source: _PushBack, taken: list[tuple[int, str | SkippedRow]]) -> Iterator[str]:
    """Yield the line, and further lines as the parser requests them, which it only does inside quotes."""
    size = len(line)
    yield line + "\n"
    for number, more in source:
        taken.append((number, more))
        if isinstance(more, SkippedRow):
            raise _UnclosedQuote
        size += len(more)
        if size > MAX_ROW:
            raise _UnclosedQuote
        yield more + "\n"
    raise _UnclosedQuote


def sniff(text: str, preferred: str | None) -> Dialect:
    """Detect the dialect of the first whole lines. `preferred`, the extension's delimiter, wins ties."""
    best: Dialect | None = None
    order = sorted(DELIMITERS, key=lambda mark: mark != preferred)
    for delimiter in order:
        quoted = delimiter != "\t" or _has_tsv_quotes(text)
        lines: Iterator[tuple[int, str | SkippedRow]] = iter(enumerate(text.split("\n"), 1))
        first_records = itertools.islice(read_records(lines, delimiter, quoted), SAMPLE_RECORDS)
        rows = [fields for _, fields, _ in first_records if isinstance(fields, list)]
        width = len(rows[0]) if rows else 0
        agreement = sum(len(fields) == width for fields in rows) / len(rows) if width > 1 else 0.0
        if best is None or agreement > best.agreement:
            best = Dialect(delimiter, quoted, agreement, rows)
    assert best is not None
    return best


def _has_tsv_quotes(text: str) -> bool:
    """Return whether quotes enclose fields in a TSV, where they are mostly plain characters.

    They do if every field that begins with a quote also ends with one.
    """
    opening = [
        field
        for line in text.split("\n")
        for field in line.split("\t")
        if field.startswith('"') and len(field) > 1
    ]
    return bool(opening) and all(field.endswith('"') for field in opening)


_NUMBER = re.compile(r"[-+]?[\d.,]+(e[-+]?\d+)?%?", re.IGNORECASE)
_NAME = re.compile(r"[^\W\d][\w .:/()-]{0,60}")


def looks_like_header(rows: list[list[str]]) -> bool:
    """Return whether the first record is a header: short, distinct names, not numbers.

    A value that later rows have in the same column is no column name.
    """
    if not rows:
        return False
    first, rest = [cell.strip() for cell in rows[0]], rows[1:]
    named = [cell for cell in first if cell]
    if not named or any(len(cell) > 64 or _NUMBER.fullmatch(cell) for cell in named):
        return False
    for position, cell in enumerate(first):
        if cell and any(position < len(row) and row[position].strip() == cell for row in rest):
            return False
    if any(normalise_name(cell) in KNOWN_NAMES for cell in named):
        return True
    words = 1 if len(first) == 1 else 4
    return all(_NAME.fullmatch(cell) and len(cell.split()) <= words for cell in named)


class DelimitedReader(LineReader):
    """Reader of a delimited file; all values are texts. `has_header` None: detected from the first rows."""

    def __init__(self, stream: ByteStream, lines: Lines, dialect: Dialect, has_header: bool | None) -> None:
        super().__init__(stream, lines)
        self.name = "tsv" if dialect.delimiter == "\t" else "csv"
        self._dialect = dialect
        self.delimiter = dialect.delimiter
        first = dialect.records[0] if dialect.records else []
        self._guarded = EXPORT_COLUMN in first
        self.has_header = looks_like_header(dialect.records) if has_header is None else has_header
        if self.has_header:
            named = [unescape_cell(name) for name in first] if self._guarded else first
            self.columns, problems = unique_names(named)
            self.problems += problems
        else:
            self.columns = [f"column_{number}" for number in range(1, len(first) + 1)]
            if has_header is None:
                names = ", ".join(self.columns[:3])
                reason = f"The first line does not look like column names; column names: {names}."
                self.problems.append(SourceProblem(None, reason))

    def rows(self) -> Iterator[ReadRow]:
        columns = self.columns
        width = len(columns)
        waiting = self.has_header
        for number, fields, line in read_records(
            iter(self._lines), self._dialect.delimiter, self._dialect.quoted
        ):
            if isinstance(fields, SkippedRow):
                yield number, fields
            elif waiting:
                waiting = False
            elif len(fields) != width:
                yield number, make_skipped_row(self._ragged(len(fields)), line)
            else:
                if self._guarded:
                    fields = [unescape_cell(cell) for cell in fields]
                row: FileRow = dict(zip(columns, fields, strict=True))
                yield number, row

    def _ragged(self, fields: int) -> str:
        what = "the header names" if self.has_header else "the first row has"
        return f"{plural(fields, 'field')} where {what} {len(self.columns)}"


PARQUET_BATCH = 1000


class ParquetReader(Reader):
    """Reader of a Parquet file. Raises DataError if it is truncated or broken."""

    name = "parquet"

    def __init__(self, stream: ByteStream, scratch: Path) -> None:
        super().__init__()
        self._name = stream.path.name
        self._unpacked: IO[bytes] | None = None
        self._done = 0
        source: Any = stream.path
        if stream.compressed:  # Parquet is read from its end and must be decompressed first
            self._unpacked = source = _unpack(stream, scratch)
        stream.close()
        try:
            self._file = pq.ParquetFile(source)
            names = self._file.schema_arrow.names
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            self.close()
            raise self._broken(error) from error
        self.total = self.bytes = stream.size
        self.columns, self.problems = unique_names(names)

    def rows(self) -> Iterator[ReadRow]:
        try:
            for batch in self._file.iter_batches(batch_size=PARQUET_BATCH):
                for row in _iterate_rows(convert_times_to_text(batch.rename_columns(self.columns))):
                    self._done += 1
                    yield self._done, row
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise self._broken(error) from error

    def _broken(self, error: Exception) -> DataError:
        after = f" after row {self._done}" if self._done else ""
        reason = " ".join(str(error).split())[:150]
        return DataError(
            f"{self._name} is a Parquet file that is cut off or broken{after} ({reason}).",
            fix="Copy or download it again.",
            field="source",
        )

    def position(self) -> float:
        return float(self.total * self._done / max(1, self._file.metadata.num_rows))

    def close(self) -> None:
        if self._unpacked:
            self._unpacked.close()


def _iterate_rows(batch: pa.RecordBatch) -> Iterator[FileRow | SkippedRow]:
    """Yield the rows; a row with invalid Unicode text is skipped alone."""
    try:
        yield from batch.to_pylist()
    except UnicodeDecodeError:
        for place in range(batch.num_rows):
            try:
                yield batch.slice(place, 1).to_pylist()[0]
            except UnicodeDecodeError:
                yield make_skipped_row("contains text that is not valid UTF-8", "")


def _unpack(stream: ByteStream, scratch: Path) -> IO[bytes]:
    folder = scratch if scratch.is_dir() else None
    file: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (open as long as the reader)
    while piece := stream.read():
        file.write(piece)
    file.seek(0)
    return file
