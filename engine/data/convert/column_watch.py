"""The columns of a file, watched while all of its rows are read.

Its first rows say how it is read. A file that is sorted shows its bad answers last: so the rows after
them are watched for what the first did not show, and what was left out on purpose is counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from engine.data.convert.unused_columns import (
    ANSWERING,
    JUDGING,
    TaughtRows,
    as_text,
    is_covered,
    judge_column,
    refuse_undecided,
    repeats_answer,
    unused_columns,
    words_in,
)
from engine.data.readers.column_values import value_at, values_of
from engine.data.readers.raw_rows import FileRow, ReadRow, SourceProblem
from store.config.data.import_config import Wishes
from store.documents.data.inspection import UndecidedColumn

MAX_LATE = 200  # rows after the first that are judged with them


class ColumnWatch:
    """left_out: column left out on purpose -> rows that have something in it."""

    def __init__(self, taught: TaughtRows, wishes: Wishes) -> None:
        self.left_out: Counter[str] = Counter(dict.fromkeys(wishes.ignore, 0))
        self._taught, self._source = taught, wishes.source
        self._known = set(taught.columns)
        self._single: dict[str, str] = {}  # column or path -> its only value so far, empty for none
        self._repeating: list[str] = []  # that may say another answer than the one that is taught
        self._late: list[FileRow] = []
        for name in unused_columns(taught):
            values = {text for value in values_of(taught.rows, name) if (text := as_text(value))}
            if is_covered(name, wishes.ignore):
                continue
            if len(values) < 2:
                self._single[name] = next(iter(values), "")
            elif words_in(name) & (ANSWERING | JUDGING) and repeats_answer(name, taught):
                self._repeating.append(name)

    def rows(self, rows: Iterator[ReadRow]) -> Iterator[ReadRow]:
        """The rows as they come. Raises DataError at the first that shows a column to be undecided."""
        for line, row in rows:
            if isinstance(row, dict):
                for name in self.left_out:
                    self.left_out[name] += value_at(row, name) not in (None, "", [], {})
                if undecided := self._look(row):
                    raise refuse_undecided([undecided], self._source, line)
            yield line, row

    def problems(self) -> list[SourceProblem]:
        """Columns to leave out that no row has."""
        return [
            SourceProblem(None, f"The column {name!r} was to be left out; no row has anything in it.")
            for name, count in self.left_out.items()
            if not count
        ]

    def _look(self, row: FileRow) -> UndecidedColumn | None:
        for name in self._shown_by(row):
            self._late = [*self._late[1 - MAX_LATE :], {**row, name: value_at(row, name)}]
            rows = [*self._taught.rows, *self._late]
            if undecided := judge_column(name, self._taught._replace(rows=rows)):
                return undecided
        return None

    def _shown_by(self, row: FileRow) -> list[str]:
        """Columns of which the row shows something new."""
        for name in row.keys() - self._known:
            self._known.add(name)
            if name not in self.left_out:
                self._single[name] = ""
        shown = []
        for name, value in list(self._single.items()):
            text = as_text(value_at(row, name))
            if text and text != value:
                shown.append(name)
                self._single[name] = text
                if value:
                    del self._single[name]
        one = self._taught._replace(rows=[row])
        return [*shown, *(name for name in self._repeating if not repeats_answer(name, one))]
