"""Which reader a file wants, from its content and its extension; where they disagree, content wins."""

from __future__ import annotations

import json
import re
from typing import Literal, NamedTuple

from engine.data.readers.delimited import Dialect, sniff

ReaderName = Literal["csv", "tsv", "json", "jsonl", "parquet", "text"]

EXTENSIONS: dict[str, ReaderName] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".txt": "text",
    ".text": "text",
    ".md": "text",
}
ENOUGH = 0.98  # agreement of fields by which a file that isn't called CSV is one all the same


class RecognisedFile(NamedTuple):
    reader: ReaderName
    dialect: Dialect | None
    notice: str  # empty where extension and content agree


def by_extension(name: str) -> ReaderName | None:
    """What the name says, `.gz` set aside."""
    stem = re.sub(r"\.gz$", "", name.lower())
    return next((kind for ending, kind in EXTENSIONS.items() if stem.endswith(ending)), None)


def recognise(name: str, head: str, whole: bool) -> RecognisedFile:
    """The reader for a text file called `name` that begins with `head` (all of it where `whole`)."""
    named = by_extension(name)
    reader = _json(head, named)
    dialect = None
    if reader is None:
        lines = head if whole else head[: head.rfind("\n") + 1] or head
        dialect = sniff(lines, "\t" if named == "tsv" else "," if named == "csv" else None)
        reader = _delimited(dialect, named)
    if reader not in ("csv", "tsv"):
        dialect = None
    notice = ""
    if named and named != reader:
        notice = f"The name of the file says {named}, its content is {reader}: it is read as {reader}."
    return RecognisedFile(reader, dialect, notice)


def _delimited(dialect: Dialect, named: ReaderName | None) -> ReaderName:
    tab = dialect.delimiter == "\t"
    if named in ("csv", "tsv"):
        return "tsv" if tab and dialect.agreement else named
    # Prose has commas too: without the name it takes several rows that all agree.
    rows, many = len(dialect.records), 2 if tab else 5
    if dialect.agreement >= ENOUGH and rows >= many and (tab or _has_names(dialect)):
        return "tsv" if tab else "csv"
    return "text"


def _has_names(dialect: Dialect) -> bool:
    return all(len(cell) <= 40 and len(cell.split()) <= 4 for cell in dialect.records[0])


def _json(head: str, named: ReaderName | None) -> ReaderName | None:
    start = head.lstrip()
    if re.match(r"\[\s*[\[{\]\"]", start):
        return "json" if named != "text" or re.match(r"\[\s*(\{\s*\"|\])", start) else None
    if not re.match(r"\{\s*[\"}]", start):
        # A JSONL file whose first line is broken is still JSONL.
        return "jsonl" if named == "jsonl" else None
    lines = [line for line in start.split("\n", 6)[:6] if line.strip()]
    first = lines[0].rstrip()
    if _is_object(first):
        alone = len(lines) == 1
        return "json" if alone and named == "json" and _holds_rows(first) else "jsonl"
    if len(lines) == 1 or first[-1] in "[{,:":  # cut by the end of the head, or spread over lines
        return "jsonl" if named == "jsonl" else "json"
    return "jsonl" if named == "jsonl" or any(_is_object(line) for line in lines[1:]) else "json"


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _holds_rows(line: str) -> bool:
    waiting = [json.loads(line)]
    while waiting:
        for value in waiting.pop().values():
            if isinstance(value, list) and value and isinstance(value[0], dict):
                return True
            if isinstance(value, dict):
                waiting.append(value)
    return False
