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
    is_neutral,
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
        self._columns = set(taught.columns)
        self._single: dict[str, object] = {}  # column or path -> its only value so far, None for none
        self._repeating: list[str] = []  # that may say another answer than the one that is taught
        self._late: list[FileRow] = []
        for name in unused_columns(taught):
            values = values_of(taught.rows, name)
            if (
                is_covered(name, wishes.ignore)
                or is_neutral(name)
                or any(isinstance(v, dict) for v in values)
            ):
                continue
            if len({as_text(value) for value in values} - {""}) < 2:
                self._single[name] = next(iter(values), None)
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
        for name in row.keys() - self._columns:
            self._columns.add(name)
            if name not in self.left_out and not is_neutral(name):
                self._single[name] = None
        news = [name for name, value in self._single.items() if _differs(row, name, value)]
        for name in news:
            if self._single[name] is None:
                self._single[name] = value_at(row, name)
            else:
                del self._single[name]
        if not self._repeating:
            return news
        alone = self._taught._replace(rows=[row])
        return [*news, *(name for name in self._repeating if not repeats_answer(name, alone))]


def _differs(row: FileRow, name: str, value: object) -> bool:
    """Whether the row has another value there. Most have the same one, so that is looked at first."""
    own = row[name] if name in row else value_at(row, name) if "." in name else None
    if own is None or own == value:
        return False
    text = as_text(own) if own == own else ""
    return bool(text) and text != as_text(value)
