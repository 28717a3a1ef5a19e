"""CSV, TSV and other delimited files, row by row, with physical line numbers.

A row whose number of fields differs from the header's is skipped with its line, never padded or cut.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from engine.data.readers.dialect import Dialect, looks_like_header, records
from engine.data.readers.lines import LineReader, Lines
from engine.data.readers.raw_rows import Problem, Row, Skipped, skipped, unique_names
from engine.data.readers.streams import ByteStream


class DelimitedReader(LineReader):
    """Rows of a delimited file; every value is a text. `has_header` None: judged from the first rows."""

    def __init__(self, stream: ByteStream, lines: Lines, dialect: Dialect, has_header: bool | None) -> None:
        super().__init__(stream, lines)
        self.name = "tsv" if dialect.delimiter == "\t" else "csv"
        self._dialect = dialect
        self.delimiter = dialect.delimiter
        first = dialect.records[0] if dialect.records else []
        self.has_header = looks_like_header(dialect.records) if has_header is None else has_header
        if self.has_header:
            self.columns, problems = unique_names(first)
            self.problems += problems
        else:
            self.columns = [f"column_{number}" for number in range(1, len(first) + 1)]
            if has_header is None:
                names = ", ".join(self.columns[:3])
                reason = f"The first line does not look like column names: the columns are called {names}."
                self.problems.append(Problem(None, reason))

    def rows(self) -> Iterator[Row]:
        columns = self.columns
        width = len(columns)
        waiting = self.has_header
        for number, fields, line in records(iter(self._lines), self._dialect.delimiter, self._dialect.quoted):
            if isinstance(fields, Skipped):
                yield number, fields
            elif waiting:
                waiting = False
            elif len(fields) != width:
                yield number, skipped(self._ragged(len(fields)), line)
            else:
                row: dict[str, Any] = dict(zip(columns, fields, strict=True))
                yield number, row

    def _ragged(self, found: int) -> str:
        what = "the header names" if self.has_header else "the first row has"
        return f"{found} field{'' if found == 1 else 's'} where {what} {len(self.columns)}"
