"""The ask `inspect`: what a file is, from its beginning alone, before anything is imported."""

from __future__ import annotations

import math
from typing import Any

from pydantic import Field

from engine.data.builtin import LABEL
from engine.data.convert import Canonical, converter
from engine.data.first_rows import read_first, remarks
from engine.data.formats import Chosen, Recognised, Rows, choose, column_names, recognise, values_of
from engine.data.readers import open_source
from engine.data.rows import Problem, Reader, Row, Skipped
from engine.data.source_json import plain_json
from engine.data.turns import RowSkipped
from engine.job import Job
from store.document import Config
from store.formats import FORMATS, AnswerBy, FormatName
from store.import_config import Source

ROWS = 2000  # read; what is wrong further on shows in the import
SHOWN, CANONICAL, PROBLEMS = 20, 5, 100
LONGEST = 2000  # characters of a value that is shown


class InspectAsk(Config):
    """A source, and what the user says of it; what is left out is recognised."""

    source: Source
    has_header: bool | None = None
    encoding: str | None = None
    format: FormatName | None = None
    columns: dict[str, str] = Field(default_factory=dict)
    instruction: str = ""
    answers: AnswerBy | None = None


def run(job: Job) -> dict[str, Any]:
    """The document of docs/architecture.md. Raises DataError, or ConfigError for a mapping that can't be."""
    ask = InspectAsk.parse(job.config)
    reader = open_source(job.home, ask.source, has_header=ask.has_header, encoding=ask.encoding)
    try:
        head = read_first(reader.rows(), ROWS)
        return _describe(ask, reader, head)
    finally:
        reader.close()


def _describe(ask: InspectAsk, reader: Reader, head: list[Row]) -> dict[str, Any]:
    rows = [row for _, row in head if isinstance(row, dict)]
    names = column_names(reader.columns, rows)
    found = recognise(names, rows)
    problems = [*reader.problems]
    if not (ask.format or ask.columns) and (found.guessed or not found.format):
        problems.append(_unsure(found, names))
    chosen: Chosen | None = None
    canonical: list[dict[str, Any]] = []
    if ask.format or ask.columns or found.format:
        chosen = choose(names, rows, ask.format, ask.columns, ask.answers)
        problems += remarks(chosen.mapping, rows)
        canonical = _convert(ask, chosen, head, problems)
    problems += [Problem(line, row.reason) for line, row in head if isinstance(row, Skipped)]
    return {
        "reader": reader.name,
        "compressed": reader.compressed,
        "encoding": reader.encoding,
        "has_header": reader.has_header,
        "delimiter": reader.delimiter,
        "bytes": reader.bytes,
        "columns": [_column(name, rows) for name in names],
        "format": chosen.format if chosen else None,
        "mapping": chosen.mapping if chosen else {},
        "answers": chosen.answers if chosen else None,
        "alternatives": [name for name in found.mappings if not chosen or name != chosen.format],
        "mappings": found.mappings,
        "rows": [_short(row) for row in rows[:SHOWN]],
        "canonical": canonical,
        "problems": _listed(problems),
    }


def _unsure(found: Recognised, names: list[str]) -> Problem:
    if found.format is None:
        return Problem(None, f"No column holds text to train on (columns: {', '.join(names) or 'none'}).")
    title = FORMATS[found.format].title.lower()
    return Problem(None, f"The names of the columns fit no format: {title} is a guess from the values.")


def _convert(
    ask: InspectAsk, chosen: Chosen, head: list[Row], problems: list[Problem]
) -> list[dict[str, Any]]:
    """The first rows as they would be stored; what can't be converted goes into `problems`."""
    convert = converter(
        chosen.format,
        chosen.mapping,
        instruction=ask.instruction if chosen.format == "text_label" else "",
        label_column=LABEL if ask.source.builtin else None,
        answers=chosen.answers,
    )
    shown: list[dict[str, Any]] = []
    for line, row in head:
        if isinstance(row, dict):
            try:
                made = convert(row)
            except RowSkipped as fault:
                problems.append(Problem(line, str(fault)))
                continue
            if len(shown) < CANONICAL:
                shown.append(_shown(made))
    return shown


def _shown(made: Canonical) -> dict[str, Any]:
    if made.roles is None:
        return {"text": _cut(made.text), "label": None}
    turns = zip(made.roles, made.contents, strict=True)
    messages = [{"role": role, "content": _cut(content)} for role, content in turns]
    shown: dict[str, Any] = {"messages": messages, "label": made.label}
    if made.choices:
        shown |= {"choices": [_cut(choice) for choice in made.choices], "answer_index": made.answer_index}
    return {**shown, "rejected": _cut(made.rejected)} if made.rejected else shown


def _column(name: str, rows: Rows) -> dict[str, str]:
    values = values_of(rows, name)
    kinds = {_kind(value) for value in values}
    example = _cut(str(values[0]))[:200] if values else ""
    return {
        "name": name,
        "type": kinds.pop() if len(kinds) == 1 else "mixed" if kinds else "empty",
        "example": example,
    }


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    names = {"str": "text", "dict": "object"}
    return names.get(type(value).__name__, type(value).__name__)


def _cut(text: str) -> str:
    text = text.encode("utf-8", "replace").decode("utf-8")
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def _short(value: Any) -> Any:
    """A value as JSON, long texts cut."""
    if isinstance(value, str):
        return _cut(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _short(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_short(item) for item in value]
    return plain_json(value)


def _listed(problems: list[Problem]) -> list[dict[str, Any]]:
    """Those of the whole file first, then by line; the number of those that are left out is said."""
    ordered = sorted(problems, key=lambda problem: problem.line or 0)
    listed = [{"line": line, "reason": reason} for line, reason in ordered[:PROBLEMS]]
    if len(ordered) > PROBLEMS:
        more = len(ordered) - PROBLEMS
        listed.append({"line": None, "reason": f"{more} more problems in the first {ROWS:,} rows."})
    return listed
