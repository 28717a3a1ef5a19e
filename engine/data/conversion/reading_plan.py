"""How the rows of a source are read, decided from its first rows: format, columns, what values mean, which
columns are left aside, which part a row is in. One way for the form that shows it and the import that does
it; rows that lie in the store already are judged in the same way.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, get_args

import numpy as np

from engine.data.conversion.format_detection import (
    ChosenFormat,
    GivenFormat,
    RecognisedFormats,
    choose,
    recognise,
)
from engine.data.conversion.judged_answers import Marking, count_pairs, pair_up
from engine.data.conversion.row_conversion import Canonical, Convert, converter
from engine.data.conversion.unused_columns import TaughtRows, find_undecided, is_covered
from engine.data.readers.file_rows import (
    FileRow,
    FileRows,
    ReadRow,
    SourceProblem,
    column_names,
    ignored,
    looked_at,
    paths_of,
    remarks,
    with_paths,
)
from engine.data.readers.file_selection import part_column, part_of_row
from store.core.errors import ConfigError
from store.core.home import Home
from store.data.config import Wishes
from store.data.dataset_files import load, open_rows
from store.data.formats import FORMATS, AnswerBy
from store.data.schemas import UndecidedColumn

# How the rows of a source are read, decided from its first rows, and the rows brought to the stored form.
#
# One way for the form that shows it beforehand and the import that does it: format, columns, what values
# mean, which columns are left aside, which part a row is in.


class SourceHead(NamedTuple):
    """The columns of a source, those inside objects, its first rows with them, and what they look like."""

    columns: list[str]
    paths: list[str]
    rows: FileRows
    recognised: RecognisedFormats
    marks: Mapping[str, list[str]]


def look(
    names: list[str], head: Sequence[ReadRow], marks: Mapping[str, list[str]] | None = None
) -> SourceHead:
    """What the first rows show. `names`, `marks`: columns and marks of the reader. Raises DataError where
    there are too many columns."""
    rows = [row for _, row in head if isinstance(row, dict)]
    columns = column_names(names, rows)
    paths = paths_of(columns, rows)
    if paths:
        rows = [with_paths(row, paths) for row in rows]
    return SourceHead(columns, paths, rows, recognise([*columns, *paths], rows), marks or {})


class RowReading(NamedTuple):
    """chosen: format and columns. ignored: columns of which nothing is used. part_column: None for none."""

    chosen: ChosenFormat
    ignored: list[str]
    part_column: str | None
    parts: Mapping[str, str]
    instruction: str
    label_column: str | None
    ignore: Sequence[str] = ()  # left out on purpose

    @property
    def paths(self) -> list[str]:
        """Columns that may lie inside objects."""
        named = (*self.chosen.mapping.values(), *([self.part_column] if self.part_column else []))
        return [column for column in named if "." in column]

    @property
    def marking(self) -> Marking | None:
        """Of rows that are to be paired: their columns."""
        if self.chosen.format != "marked_pairs":
            return None
        columns = self.chosen.mapping
        return Marking(columns["prompt"], columns["completion"], columns["label"], self.chosen.values)

    def convert(self) -> Convert:
        """A row of the file to the stored form, with its part; it raises RowSkipped."""
        plain = converter(
            self.chosen.format,
            self.chosen.mapping,
            instruction=self.instruction,
            label_column=self.label_column,
            answers=self.chosen.answers,
            values=self.chosen.values,
        )
        column, paths = self.part_column, self.paths
        if column is None:
            return plain if not paths else lambda row: plain(with_paths(row, paths))

        def convert(row: FileRow) -> Canonical:
            row = with_paths(row, paths)
            part = part_of_row(row, column, self.parts)
            return plain(row)._replace(part=part)

        return convert

    def items(self, rows: Iterator[ReadRow], again: Callable[[], Iterator[ReadRow]]) -> Iterator[ReadRow]:
        """The rows as they are converted, pairs made of those that are to be paired; `again` reads them from
        the beginning."""
        marking = self.marking
        if marking is None:
            return rows
        paths = self.paths
        whole = (with_paths(row, paths) for _, row in again() if isinstance(row, dict))
        counts: Counter[bytes] = count_pairs(whole, marking)
        return pair_up(_whole(rows, paths), marking, counts)


def _whole(rows: Iterator[ReadRow], paths: list[str]) -> Iterator[ReadRow]:
    return ((line, with_paths(row, paths) if isinstance(row, dict) else row) for line, row in rows)


def decide(seen: SourceHead, wishes: Wishes, label_column: str | None = None) -> RowReading:
    """Raises ConfigError and DataError that name the field."""
    columns = [*seen.columns, *seen.paths]
    given = GivenFormat(wishes.format, wishes.columns, wishes.answers, wishes.values)
    chosen = choose(columns, seen.rows, given, seen.recognised)
    column = wishes.part_column
    if column is None:
        column = part_column(columns, seen.rows, seen.marks)
        if column in chosen.mapping.values():
            column = None
    elif column and column not in columns:
        raise ConfigError(
            f"There is no column {column!r} to say which part a row is in.",
            fix=f"The file has {', '.join(columns[:12])}.",
            field="part_column",
        )
    used = {**chosen.mapping, **({"part": column} if column else {})}
    instruction = wishes.instruction if chosen.format == "text_label" else ""
    left = ignored(seen.columns, used)
    _check_ignored(wishes.ignore, used)
    parts = wishes.parts
    return RowReading(chosen, left, column or None, parts, instruction, label_column, wishes.ignore)


def _check_ignored(ignore: Sequence[str], used: Mapping[str, str]) -> None:
    for role, column in used.items():
        if is_covered(column, ignore):
            raise ConfigError(
                f"The column {column!r} is to be left out, and is used as {role}.",
                fix="Map another column, or take it off the columns to leave out.",
                field="ignore",
            )


def undecided_columns(reading: RowReading, seen: SourceHead) -> list[UndecidedColumn]:
    """The columns of which nothing would be used though they may be marks, answers or labels."""
    return find_undecided(taught_rows(reading, seen), reading.ignore)


def taught_rows(reading: RowReading, seen: SourceHead) -> TaughtRows:
    """What `engine.data.conversion.unused_columns` judges."""
    columns = [*seen.columns, *seen.paths]
    rows = looked_at(columns, seen.rows)
    kept = (reading.part_column, reading.label_column)
    return TaughtRows(reading.chosen, rows, columns, seen.recognised.mappings, frozenset(filter(None, kept)))


def reading_problems(reading: RowReading, rows: FileRows) -> list[SourceProblem]:
    """What is odd about the values, what was guessed, and what the format leaves out."""
    chosen = reading.chosen
    form = FORMATS[chosen.format]
    deciding = {*form.several, *(form.required[-1:] if form.meanings or form.several else ())}
    spoken = {role: c for role, c in chosen.mapping.items() if role.partition("_")[0] not in deciding}
    problems = remarks(spoken, rows)
    if chosen.guessed:
        title = FORMATS[chosen.format].title.lower()
        used = ", ".join(f"{role} = {column}" for role, column in chosen.mapping.items())
        problems.append(
            SourceProblem(
                None, f"The names of the columns fit no format: {title} ({used}) is guessed from the values."
            )
        )
    if chosen.format == "marked":
        problems += _of_marks(reading, rows)
    return problems


def _of_marks(reading: RowReading, rows: FileRows) -> list[SourceProblem]:
    columns = reading.chosen.mapping
    marking = Marking(columns["prompt"], columns["completion"], columns["label"], reading.chosen.values)
    pairs = count_pairs(rows, marking).total()
    if not pairs:
        return []
    title = FORMATS["marked_pairs"].title
    return [
        SourceProblem(
            None,
            f"Among the first {len(rows):,} rows {pairs:,} good answers have a bad one to the same prompt:"
            f" the format “{title}” makes preference pairs of them.",
        )
    ]


ANSWERS: tuple[AnswerBy, ...] = get_args(AnswerBy)
LOOKED_AT = 500  # rows, from the beginning and the end of a large set


def undecided_stored_columns(
    home: Home, fingerprint: str, imported: Mapping[str, object]
) -> list[UndecidedColumn]:
    """The columns that were ignored and may be marks, answers or labels. imported:
    `store.jobs.schemas.ImportedAs`; a column of which the rows know nothing asks nothing."""
    form, columns = FORMATS.get(str(imported["format"])), imported["columns"]
    if form is None or not isinstance(columns, dict):
        return []
    count = open_rows(home, fingerprint).metadata.num_rows
    row_ids = np.unique(np.concatenate([np.arange(LOOKED_AT // 2), count - 1 - np.arange(LOOKED_AT // 2)]))
    row_ids = row_ids[(row_ids >= 0) & (row_ids < count)]
    sources = load(home, fingerprint, ["source"], row_ids)["source"].to_pylist()
    rows = [row for source in sources if isinstance(row := json.loads(source or "null"), dict)]
    seen = look([], list(enumerate(rows)))
    mapping = {role: column for role, column in columns.items() if form.has_role(role)}
    kept = frozenset(column for role, column in columns.items() if role not in mapping)
    answers = imported.get("answers")
    chosen = ChosenFormat(form.name, mapping, answers=next((by for by in ANSWERS if by == answers), None))
    names = [*seen.columns, *seen.paths]
    return find_undecided(TaughtRows(chosen, seen.rows, names, seen.recognised.mappings, kept), [])
