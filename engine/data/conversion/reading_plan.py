"""Plan how the rows of a source are read, from its first rows, and convert them to the stored form.

The plan covers the format, columns, meanings of values, ignored columns, and the part of each row. The form
that previews an import and the import itself share it; stored rows are judged in the same way.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, get_args

import numpy as np

from engine.data.conversion.format_detection import (
    ChosenFormat,
    FormatOptions,
    RecognisedFormats,
    choose_format,
    recognise_format,
)
from engine.data.conversion.judged_answers import MarkColumns, count_pairs, pair_up
from engine.data.conversion.row_conversion import CanonicalRow, RowConverter, make_converter
from engine.data.conversion.unused_columns import RowSample, find_undecided, is_covered
from engine.data.readers.file_rows import (
    FileRow,
    FileRows,
    ReadRow,
    SourceProblem,
    add_paths,
    find_value_problems,
    limit_head,
    list_column_names,
    list_ignored_columns,
    list_paths,
)
from engine.data.readers.file_selection import find_part_column, read_part
from store.core.errors import ConfigError
from store.core.home import Home
from store.data.config import ImportOptions
from store.data.dataset_files import load_rows, open_rows
from store.data.formats import FORMATS, AnswerBy
from store.data.schemas import UndecidedColumn


class SourceHead(NamedTuple):
    """Columns and first rows of a source, and the formats detected.

    paths: paths inside objects; the rows include the values at these paths.
    """

    columns: list[str]
    paths: list[str]
    rows: FileRows
    recognised: RecognisedFormats
    marks: Mapping[str, list[str]]


def inspect_head(
    names: list[str], head: Sequence[ReadRow], marks: Mapping[str, list[str]] | None = None
) -> SourceHead:
    """Inspect the first rows. `names`, `marks`: columns and marks of the reader.

    Raises DataError if there are too many columns.
    """
    rows = [row for _, row in head if isinstance(row, dict)]
    columns = list_column_names(names, rows)
    paths = list_paths(columns, rows)
    if paths:
        rows = [add_paths(row, paths) for row in rows]
    return SourceHead(columns, paths, rows, recognise_format([*columns, *paths], rows), marks or {})


class ReadingPlan(NamedTuple):
    """How rows are read.

    chosen: format and columns. ignored: unused columns. part_column: None if there is none.
    """

    chosen: ChosenFormat
    ignored: list[str]
    part_column: str | None
    parts: Mapping[str, str]
    instruction: str
    label_column: str | None
    ignore: Sequence[str] = ()  # excluded by the user

    @property
    def paths(self) -> list[str]:
        """Columns in use that may be paths inside objects."""
        named = (*self.chosen.mapping.values(), *([self.part_column] if self.part_column else []))
        return [column for column in named if "." in column]

    @property
    def marking(self) -> MarkColumns | None:
        """Columns for pairing marked answers; None for other formats."""
        if self.chosen.format != "marked_pairs":
            return None
        columns = self.chosen.mapping
        return MarkColumns(columns["prompt"], columns["completion"], columns["label"], self.chosen.values)

    def convert(self) -> RowConverter:
        """Return the function that converts a source row, including its part, to the stored form.

        The function raises RowSkipped.
        """
        plain = make_converter(
            self.chosen.format,
            self.chosen.mapping,
            instruction=self.instruction,
            label_column=self.label_column,
            answers=self.chosen.answers,
            values=self.chosen.values,
        )
        column, paths = self.part_column, self.paths
        if column is None:
            return plain if not paths else lambda row: plain(add_paths(row, paths))

        def convert(row: FileRow) -> CanonicalRow:
            row = add_paths(row, paths)
            part = read_part(row, column, self.parts)
            return plain(row)._replace(part=part)

        return convert

    def items(self, rows: Iterator[ReadRow], again: Callable[[], Iterator[ReadRow]]) -> Iterator[ReadRow]:
        """Return the rows to convert, with marked answers paired. `again` reads the rows from the start."""
        marking = self.marking
        if marking is None:
            return rows
        paths = self.paths
        whole = (add_paths(row, paths) for _, row in again() if isinstance(row, dict))
        counts: Counter[bytes] = count_pairs(whole, marking)
        items = ((line, add_paths(row, paths) if isinstance(row, dict) else row) for line, row in rows)
        return pair_up(items, marking, counts)


def plan_reading(seen: SourceHead, wishes: ImportOptions, label_column: str | None = None) -> ReadingPlan:
    """Plan the reading. Raises ConfigError and DataError that name the field."""
    columns = [*seen.columns, *seen.paths]
    given = FormatOptions(wishes.format, wishes.columns, wishes.answers, wishes.values)
    chosen = choose_format(columns, seen.rows, given, seen.recognised)
    column = wishes.part_column
    if column is None:
        column = find_part_column(columns, seen.rows, seen.marks)
        if column in chosen.mapping.values():
            column = None
    elif column and column not in columns:
        raise ConfigError(
            f"There is no column {column!r} for the split.",
            fix=f"The file has {', '.join(columns[:12])}.",
            field="part_column",
        )
    used = {**chosen.mapping, **({"part": column} if column else {})}
    instruction = wishes.instruction if chosen.format == "text_label" else ""
    left = list_ignored_columns(seen.columns, used)
    _check_ignored(wishes.ignore, used)
    parts = wishes.parts
    return ReadingPlan(chosen, left, column or None, parts, instruction, label_column, wishes.ignore)


def _check_ignored(ignore: Sequence[str], used: Mapping[str, str]) -> None:
    for role, column in used.items():
        if is_covered(column, ignore):
            raise ConfigError(
                f"The column {column!r} is to be left out, and is used as {role}.",
                fix="Map another column, or take it off the columns to exclude.",
                field="ignore",
            )


def find_undecided_columns(reading: ReadingPlan, seen: SourceHead) -> list[UndecidedColumn]:
    """Return the unused columns that may be marks, answers or labels."""
    return find_undecided(build_row_sample(reading, seen), reading.ignore)


def build_row_sample(reading: ReadingPlan, seen: SourceHead) -> RowSample:
    """Build the input of `engine.data.conversion.unused_columns`."""
    columns = [*seen.columns, *seen.paths]
    rows = limit_head(columns, seen.rows)
    kept = (reading.part_column, reading.label_column)
    return RowSample(reading.chosen, rows, columns, seen.recognised.mappings, frozenset(filter(None, kept)))


def find_reading_problems(reading: ReadingPlan, rows: FileRows) -> list[SourceProblem]:
    """Return unusual values, guesses, and what the format leaves out."""
    chosen = reading.chosen
    form = FORMATS[chosen.format]
    deciding = {*form.several, *(form.required[-1:] if form.meanings or form.several else ())}
    spoken = {role: c for role, c in chosen.mapping.items() if role.partition("_")[0] not in deciding}
    problems = find_value_problems(spoken, rows)
    if chosen.guessed:
        title = FORMATS[chosen.format].title.lower()
        used = ", ".join(f"{role} = {column}" for role, column in chosen.mapping.items())
        problems.append(
            SourceProblem(
                None, f"The names of the columns fit no format: {title} ({used}) is guessed from the values."
            )
        )
    if chosen.format == "marked":
        problems += _find_mark_problems(reading, rows)
    return problems


def _find_mark_problems(reading: ReadingPlan, rows: FileRows) -> list[SourceProblem]:
    columns = reading.chosen.mapping
    marking = MarkColumns(columns["prompt"], columns["completion"], columns["label"], reading.chosen.values)
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
SAMPLE_ROWS = 500  # rows, from the start and the end of a large data set


def find_undecided_stored_columns(
    home: Home, fingerprint: str, imported: Mapping[str, object]
) -> list[UndecidedColumn]:
    """Return the ignored columns of stored rows that may be marks, answers or labels.

    imported: `store.jobs.schemas.ImportedAs`. A column that isn't in the stored rows is not returned.
    """
    form, columns = FORMATS.get(str(imported["format"])), imported["columns"]
    if form is None or not isinstance(columns, dict):
        return []
    count = open_rows(home, fingerprint).metadata.num_rows
    row_ids = np.unique(
        np.concatenate([np.arange(SAMPLE_ROWS // 2), count - 1 - np.arange(SAMPLE_ROWS // 2)])
    )
    row_ids = row_ids[(row_ids >= 0) & (row_ids < count)]
    sources = load_rows(home, fingerprint, ["source"], row_ids)["source"].to_pylist()
    rows = [row for source in sources if isinstance(row := json.loads(source or "null"), dict)]
    seen = inspect_head([], list(enumerate(rows)))
    mapping = {role: column for role, column in columns.items() if form.has_role(role)}
    kept = frozenset(column for role, column in columns.items() if role not in mapping)
    answers = imported.get("answers")
    chosen = ChosenFormat(form.name, mapping, answers=next((by for by in ANSWERS if by == answers), None))
    names = [*seen.columns, *seen.paths]
    return find_undecided(RowSample(chosen, seen.rows, names, seen.recognised.mappings, kept), [])
