"""The query `inspect`: detect format, columns and problems of a file from its beginning, before an import."""

from __future__ import annotations

import contextlib
import itertools
import math
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

from engine.data.conversion.reading_plan import (
    ReadingPlan,
    SourceHead,
    find_reading_problems,
    find_undecided_columns,
    inspect_head,
    plan_reading,
)
from engine.data.conversion.row_conversion import CanonicalRow
from engine.data.readers.file_rows import (
    FileRows,
    Reader,
    ReadRow,
    RowSkipped,
    SkippedRow,
    SourceProblem,
    list_values,
    read_first,
    read_path,
    sanitise_json,
)
from engine.data.readers.file_selection import MAX_PART_VALUES, format_part_value, map_parts
from engine.data.readers.named_datasets import LABEL
from engine.data.readers.source_reader import open_source
from engine.worker.job import WorkerJob
from store.core.row_schemas import ConvertedRow, Message
from store.data.config import ImportOptions
from store.data.schemas import FileColumn, FileFacts, FileProblem, Inspection, ReadingSummary

ROWS = 2000  # rows read; the import reports problems of later rows
SHOWN, CANONICAL, PROBLEMS = 20, 5, 100
SECONDS = 2.0  # time to read further rows for the values of the part column
MAX_DEPTH = 20  # nesting depth of a displayed value
MAX_VALUE_CHARACTERS = 2000  # characters of a displayed value


def run(job: WorkerJob) -> Inspection:
    """Return the inspection. Raises DataError, and ConfigError for an invalid mapping."""
    ask = ImportOptions.parse(job.config)
    reader = open_source(
        job.home,
        ask.source,
        has_header=ask.has_header,
        encoding=ask.encoding,
        ignore_files=ask.ignore_files,
    )
    with contextlib.closing(reader):
        rows = reader.rows()
        head = read_first(rows, ROWS)
        seen = inspect_head(reader.columns, [*head, *reader.further], reader.marks)
        reading = None
        if ask.format or ask.columns or seen.recognised.format:
            reading = plan_reading(seen, ask, LABEL if ask.source.builtin else None)
        values = _count_part_values(reading, head, rows) if reading else Counter()
        if reading and reading.part_column:
            values.update(dict.fromkeys(reader.marks.get(reading.part_column, ()), 0))
        return {**_describe_file(reader, seen), **_describe_reading(reader, seen, reading, head, values)}


def _describe_file(reader: Reader, seen: SourceHead) -> FileFacts:
    return {
        "reader": reader.name,
        "compressed": reader.compressed,
        "encoding": reader.encoding,
        "has_header": reader.has_header,
        "delimiter": reader.delimiter,
        "bytes": reader.bytes,
        "columns": [_describe_column(name, seen.rows) for name in [*seen.columns, *seen.paths]],
        "rows": [{name: _shorten(row.get(name), 1) for name in seen.columns} for row in seen.rows[:SHOWN]],
    }


def _describe_reading(
    reader: Reader, seen: SourceHead, reading: ReadingPlan | None, head: list[ReadRow], values: Counter[str]
) -> ReadingSummary:
    mappings = seen.recognised.mappings
    problems = [*reader.problems]
    canonical: list[ConvertedRow] = []
    if reading is None:
        names = ", ".join(seen.columns[:30]) or "none"
        problems.append(SourceProblem(None, f"No column holds text to train on (columns: {names})."))
        problems += [SourceProblem(line, row.reason) for line, row in head if isinstance(row, SkippedRow)]
    else:
        problems += find_reading_problems(reading, seen.rows)
        canonical = _convert(reading, head, problems)
    chosen = reading.chosen if reading else None
    return {
        "format": chosen.format if chosen else None,
        "mapping": chosen.mapping if chosen else {},
        "guessed": chosen.guessed if chosen else False,
        "answers": chosen.answers if chosen else None,
        "values": dict(chosen.values) if chosen else {},
        "ignored": reading.ignored if reading else seen.columns,
        "undecided": find_undecided_columns(reading, seen) if reading else [],
        "part_column": reading.part_column if reading else None,
        "part_values": dict(values),
        "parts": map_parts(values, reading.parts) if reading else {},
        "alternatives": [name for name in mappings if not chosen or name != chosen.format],
        "mappings": dict(mappings.items()),
        "canonical": canonical,
        "problems": _sort_problems(problems),
    }


def _count_part_values(reading: ReadingPlan, head: list[ReadRow], rows: Iterator[ReadRow]) -> Counter[str]:
    """Count the rows of each value of the part column.

    A sorted file has some values late, so rows beyond the head are read for a limited time.
    """
    values: Counter[str] = Counter()
    column = reading.part_column
    if column is None:
        return values
    end = time.monotonic() + SECONDS
    for _, row in itertools.chain(head, rows):
        if isinstance(row, dict) and (value := read_path(row, column)) is not None:
            values[format_part_value(value)] += 1
        if time.monotonic() > end or len(values) > MAX_PART_VALUES:
            break
    return values


def _convert(reading: ReadingPlan, head: list[ReadRow], problems: list[SourceProblem]) -> list[ConvertedRow]:
    """Return the first rows in stored form; rows that can't be converted are added to `problems`."""
    convert = reading.convert()
    converted: list[ConvertedRow] = []
    for line, row in reading.items(iter(head), lambda: iter(head)):
        if isinstance(row, SkippedRow):
            problems.append(SourceProblem(line, row.reason))
            continue
        try:
            canonical = convert(row)
        except RowSkipped as fault:
            problems.append(SourceProblem(line, str(fault)))
            continue
        if len(converted) < CANONICAL:
            converted.append(_build_document(canonical))
    return converted


def _build_document(made: CanonicalRow) -> ConvertedRow:
    if made.roles is None:
        return {"text": _cut(made.text), "label": None}
    turns = zip(made.roles, made.contents, strict=True)
    messages: list[Message] = [{"role": role, "content": _cut(content)} for role, content in turns]
    row: ConvertedRow = {"messages": messages, "label": made.label}
    if made.choices:
        row["choices"] = [_cut(choice) for choice in made.choices]
        row["answer_index"] = made.answer_index
    if made.part:
        row["part"] = made.part
    if made.rejected:
        row["rejected"] = _cut(made.rejected)
    return row


def _describe_column(name: str, rows: FileRows) -> FileColumn:
    values = list_values(rows, name)
    kinds = {_name_kind(value) for value in values}
    example = _cut(str(values[0]))[:200] if values else ""
    return FileColumn(
        name=name,
        type=kinds.pop() if len(kinds) == 1 else "mixed" if kinds else "empty",
        example=example,
    )


def _name_kind(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    names = {"str": "text", "dict": "object"}
    return names.get(type(value).__name__, type(value).__name__)


def _cut(text: str) -> str:
    text = text.encode("utf-8", "replace").decode("utf-8")
    return text if len(text) <= MAX_VALUE_CHARACTERS else text[: MAX_VALUE_CHARACTERS - 1] + "…"


def _shorten(value: object, depth: int = 0) -> object:
    """Return a value as JSON, with long texts and deep nesting cut."""
    if depth > MAX_DEPTH:
        return "…"
    if isinstance(value, str):
        return _cut(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _shorten(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list):
        return [_shorten(item, depth + 1) for item in value]
    return sanitise_json(value)


def _sort_problems(problems: list[SourceProblem]) -> list[FileProblem]:
    """Sort problems of the whole file first, then by line; the last entry counts those left out."""
    ordered = sorted(problems, key=lambda problem: problem.line or 0)
    listed: list[FileProblem] = []
    for line, reason, notice in ordered[:PROBLEMS]:
        listed.append(FileProblem(line=line, reason=reason))
        if notice:
            listed[-1].notice = True
    if len(ordered) > PROBLEMS:
        more = len(ordered) - PROBLEMS
        listed.append(FileProblem(line=None, reason=f"{more} more problems in the first {ROWS:,} rows."))
    return listed
