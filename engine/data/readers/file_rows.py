"""Common parts of all readers: every row of a file becomes one item, either read or skipped.

The import relies on the invariant: rows read + rows skipped = rows of the file. Blank lines are not rows.
What a reader decides itself (an encoding, a delimiter, a renamed column) is reported in `problems`. This
module also has the first rows, bounded in number and size, the values of their columns and of paths inside
objects, and the JSON encoding of a stored row.
"""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from store.core.errors import DataError

MAX_ROW = 16 * 1024 * 1024  # bytes of one row; a longer one is skipped, so that memory stays bounded
MAX_ROW_TEXT = "16 MiB"
EXCERPT = 200  # stored characters of a skipped row


FileRow = dict[str, object]  # a row of a file: column -> any value of JSON or Parquet


class SkippedRow(NamedTuple):
    """A skipped row. `reason` is equal for all rows with the same fault, so that they can be counted."""

    reason: str
    excerpt: str


class SourceProblem(NamedTuple):
    """A remark on a file; `line` is None if it concerns the whole file.

    A `notice` only describes how the file is read; nothing is wrong.
    """

    line: int | None
    reason: str
    notice: bool = False


ReadRow = tuple[int, FileRow | SkippedRow]


def make_skipped_row(reason: str, text: str) -> SkippedRow:
    """Return a skipped row with the start of its text as excerpt."""
    return SkippedRow(reason, text if len(text) <= EXCERPT else text[: EXCERPT - 1] + "…")


class Reader:
    """Base class of the readers of one source. Subclasses set the fields before `rows()` is called.

    total, unit: maximum of `position()` (0 if not known in advance) and its unit. columns: in the order of
    the file; empty if only the rows tell. marks: all values of a column that gives the origin of a row (a
    file, a split). further: with several files, the first rows of all but the first, to inspect their
    columns.
    """

    name = ""  # csv | tsv | json | jsonl | parquet | text
    compressed = False
    encoding: str = "utf-8"
    has_header: bool | None = None
    delimiter: str | None = None
    bytes = 0
    total: float = 0
    unit = "bytes"

    def __init__(self) -> None:
        self.columns: list[str] = []
        self.marks: dict[str, list[str]] = {}
        self.further: list[ReadRow] = []
        self.problems: list[SourceProblem] = []

    def rows(self) -> Iterator[ReadRow]:
        """Yield (first line of the row, the row or why it was skipped); can be iterated once.

        Raises DataError if the rest of the file can't be read.
        """
        raise NotImplementedError

    def position(self) -> float:
        """Return how much of `total` has been read."""
        return 0

    def close(self) -> None:
        """Close the file."""


def unique_names(names: list[str]) -> tuple[list[str], list[SourceProblem]]:
    """Make column names non-blank and unique: `column_3` for a blank, `text_2` for the second `text`."""
    taken: set[str] = set()
    given = set(names)
    last: dict[str, int] = {}  # repeated name -> the last number given to it
    unique: list[str] = []
    problems: list[SourceProblem] = []
    for position, raw in enumerate(names, 1):
        base = raw.strip() or f"column_{position}"
        name, number = base, last.get(base, 1)
        while name in taken or (number > 1 and name in given):
            number += 1
            name = f"{base}_{number}"
        last[base] = number
        if number > 1:
            reason = f"Two columns are named {base!r}; number {position} is called {name!r} here."
            problems.append(SourceProblem(1, reason + f" Map {name!r}, or rename the column in the file."))
        taken.add(name)
        unique.append(name)
    return unique, problems


class RowSkipped(Exception):
    """Raised for a row that can't be used. The reason is equal for all rows with the same fault."""


def sanitise_json(value: Any) -> Any:
    """Replace what JSON can't represent: NaN and infinities become null, bytes a text with their number."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(key): sanitise_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [sanitise_json(item) for item in value]
    if value is None or isinstance(value, str | int | float):
        return value
    return _format_unsupported(value)


def _format_unsupported(value: Any) -> str:
    return f"<{len(value)} bytes>" if isinstance(value, bytes) else str(value)


_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, default=_format_unsupported).encode


def encode_row(row: FileRow) -> bytes:
    """Encode the row as JSON in UTF-8. Raises RecursionError if it is nested too deeply."""
    try:
        return _encode(row).encode("utf-8")
    except ValueError:  # NaN, or a lone surrogate, which must be escaped
        return json.dumps(sanitise_json(row), default=_format_unsupported).encode("ascii")


# Paths name values inside objects: `input.question` is the field `question` of the objects in the column
# `input`, and `answers.text.0` the first text of a list. Source rows are not changed: `add_paths` returns
# rows with the values that a mapping needs.

FileRows = Sequence[FileRow]

MAX_COLUMNS = 4096
MAX_PATH_DEPTH = 4  # nesting depth of a path
MAX_PATHS = 200
MIN_ROWS, MAX_CELLS = 50, 1_000_000  # limits of the first rows: fewer rows if they are wide


def list_column_names(names: list[str], rows: FileRows) -> list[str]:
    """Return the columns of the file: `names` if known, else those of the first rows in order of appearance.

    Raises DataError for more than 4,096 columns.
    """
    return check_width(names or list(dict.fromkeys(name for row in rows for name in row)))


def check_width(columns: list[str]) -> list[str]:
    """Return the columns. Raises DataError for more than 4,096."""
    if len(columns) > MAX_COLUMNS:
        raise DataError(
            f"The file has {len(columns):,} columns; at most {MAX_COLUMNS:,} are read.",
            fix="Keep the columns with text, answers and labels, or use one object per line.",
            field="source",
        )
    return columns


def limit_head(columns: Sequence[str], rows: FileRows) -> FileRows:
    """Limit the first rows so that a wide file costs as much to inspect as a narrow one."""
    return rows[: max(MIN_ROWS, MAX_CELLS // max(1, len(columns)))]


def list_values(rows: FileRows, column: str) -> list[Any]:
    """Return the non-missing values of a column."""
    return list(_iterate_values(rows, column))


def list_first_values(rows: FileRows, column: str, most: int) -> list[Any]:
    """Return the first non-missing values of a column, at most `most`."""
    return list(itertools.islice(_iterate_values(rows, column), most))


def _iterate_values(rows: FileRows, column: str) -> Iterator[Any]:
    values = (row.get(column) for row in rows)
    return (value for value in values if value is not None and value == value and value != "")


def list_paths(columns: Sequence[str], rows: FileRows) -> list[str]:
    """Return the paths to values in objects and lists of texts of the first rows, at most 200."""
    paths: dict[str, None] = {}
    for column in columns:
        for value in list_first_values(rows, column, 20):
            for path in _iterate_paths(value, column, 0):
                if path not in columns:
                    paths.setdefault(path)
            if len(paths) >= MAX_PATHS:
                return list(paths)[:MAX_PATHS]
    return list(paths)


def _iterate_paths(value: Any, path: str, depth: int) -> Iterator[str]:
    if isinstance(value, list):
        if value and all(isinstance(item, str) for item in value):
            yield f"{path}.0"
        elif value and isinstance(value[0], dict) and "text" in value[0]:
            yield f"{path}.0.text"
    elif isinstance(value, dict) and depth < MAX_PATH_DEPTH:
        for key, item in value.items():
            inner = f"{path}.{key}"
            if isinstance(item, list):
                yield inner
            if isinstance(item, dict | list):
                yield from _iterate_paths(item, inner, depth + 1)
            else:
                yield inner


def read_path(row: FileRow, path: str) -> Any:
    """Return the value at the path, or None if there is none."""
    if path in row:
        return row[path]
    value: Any = row
    for part in path.split("."):
        if isinstance(value, dict):
            value = value.get(part)
        elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            return None
    return value


def add_paths(row: FileRow, paths: Iterable[str]) -> FileRow:
    """Return the row with the values at the paths added under the paths as names."""
    return {**row, **{path: read_path(row, path) for path in paths}}


def list_ignored_columns(columns: Sequence[str], mapping: dict[str, str]) -> list[str]:
    """Return the unused columns of the file."""
    used = set(mapping.values())
    roots = {path.split(".", 1)[0] for path in used}
    return [column for column in columns if column not in used and column not in roots]


SYSTEM = ("system", "system_prompt", "system_message")
TOOLS = ("tools", "functions", "available_tools")

# Usual column names of each role, the most telling first. Formats are tried in this order, specific ones
# before general ones.
ALIASES: dict[str, dict[str, tuple[str, ...]]] = {
    "preference": {
        "chosen": ("chosen", "preferred", "accepted", "chosen_response", "response_chosen"),
        "rejected": (
            "rejected", "dispreferred", "rejected_response", "response_rejected", "non_preferred",
        ),
        "prompt": ("prompt", "question", "instruction", "query", "input"),
        "system": SYSTEM,
        "tools": TOOLS,
    },
    "comparison": {
        "prompt": ("prompt", "instruction", "question", "query", "input", "text", "article", "context"),
        "input": ("input",),
        "system": SYSTEM,
    },
    "marked_pairs": {},
    "marked": {
        "prompt": ("prompt", "question", "instruction", "query", "input"),
        "completion": ("completion", "response", "output", "answer", "reply", "generation"),
        "system": SYSTEM,
    },
    "multiple_choice": {
        "question": (
            "question", "query", "q", "stem", "problem", "ctx", "goal", "prompt", "sentence", "premise",
            "input", "instruction", "text",
        ),
        "choices": ("choices", "options", "endings", "candidates", "alternatives", "mc1_targets"),
        "answer": (
            "answer", "answerkey", "answer_key", "answer_index", "answer_idx", "answer_id", "label", "target",
            "correct", "correct_answer", "correct_option", "correct_choice", "correct_index",
            "correct_answer_index", "right_answer", "gold", "gold_index", "cop", "solution", "key",
        ),
        "context": ("context", "passage", "article", "paragraph", "background", "story", "support"),
        "system": SYSTEM,
    },
    "instruction": {
        "instruction": ("instruction", "instructions"),
        "output": ("output", "response", "answer", "completion", "target", "result"),
        "input": ("input", "context"),
        "system": SYSTEM,
    },
    "question_answer": {
        "question": ("question", "query", "q", "problem"),
        "answer": ("answer", "response", "a", "solution", "reply", "output", "answers"),
        "context": ("context", "passage", "background", "paragraph"),
        "system": SYSTEM,
    },
    "text_label": {
        "text": (
            "text", "sentence", "utterance", "review", "tweet", "message", "comment", "content", "headline",
            "title", "question", "document",
        ),
        "label": (
            "label", "label_text", "labels", "category", "class", "intent", "sentiment", "emotion", "topic",
            "target", "tag", "class_name", "label_name", "coarse_label", "coarse",
        ),
        "instruction": ("instruction",),
    },
    "prompt_completion": {
        "prompt": (
            "prompt", "input", "query", "source", "src", "article", "document", "dialogue", "mr",
            "meaning_representation", "question", "instruction", "human", "user", "text", "sentence",
            "word", "term",
        ),
        "completion": (
            "completion", "response", "output", "answer", "target", "tgt", "reference", "ref", "summary",
            "highlights", "reply", "definition", "gloss", "translation", "gpt", "assistant",
        ),
        "system": SYSTEM,
    },
    "text": {"text": ("text", "content", "document", "body", "article", "full_text", "passage", "story")},
}  # fmt: skip

# Columns with one choice each are named by one of these and a number or a letter, or by a letter alone.
CHOICE_STEMS = ("ans", "answer", "option", "opt", "op", "choice", "sol", "ending", "candidate", "alternative")

TURN_NAMES = ("messages", "conversations", "conversation", "chat", "dialogue", "turns", "message")

FLAG_PREFIXES = ("is_", "has_")
ROW_NUMBER_NAMES = frozenset(
    {"row_id", "rowid", "row", "id", "idx", "index", "line", "number", "no", "unnamed:_0"}
)
GENERIC = ("text", "value", "content", "0")  # last parts of a path that say less than their parent

KNOWN_NAMES = frozenset(
    name for roles in ALIASES.values() for names in roles.values() for name in names if len(name) > 1
) | frozenset(TURN_NAMES)


def normalise_name(name: str) -> str:
    """Normalize a column name: `Label Text`, `label-text` and `LABEL_TEXT` are equal."""
    return re.sub(r"[\s\-.]+", "_", name.strip().lower())


def map_names(columns: Sequence[str]) -> dict[str, str]:
    """Return normalized name -> column; the first one among columns with the same name."""
    return {normalise_name(column): column for column in reversed(columns)}


def map_path_names(columns: Sequence[str]) -> dict[str, list[str]]:
    """Return normalized name -> paths, by the last part of a path.

    A generic last part is replaced by its parent (`answer` for `answer.text`).
    """
    names: dict[str, list[str]] = {}
    for column in columns:
        parts = column.split(".")
        while len(parts) > 1 and parts[-1] in GENERIC:
            parts.pop()
        if "." in column:
            names.setdefault(normalise_name(parts[-1]), []).append(column)
    return names


MAX_BYTES = 32 * 1024 * 1024
MAX_ITEMS = 20_000  # read and skipped rows together

_NUMBER = re.compile(r"\s*[-+]?\d[\d.,]*(e[-+]?\d+)?\s*", re.IGNORECASE)
# Prompt roles; an answer or a label may well be a number.
PROMPT_ROLES = ("text", "prompt", "question", "instruction")


def read_first(rows: Iterator[ReadRow], most: int) -> list[ReadRow]:
    """Return the first items until `most` rows were read, including the skipped rows among them, in order."""
    items: list[ReadRow] = []
    count = size = 0
    for item in rows:
        items.append(item)
        if isinstance(item[1], dict):
            count += 1
            size += _measure_size(item[1])
        if count >= most or size >= MAX_BYTES or len(items) >= MAX_ITEMS:
            break
    return items


def _measure_size(row: FileRow) -> int:
    try:
        return len(encode_row(row))
    except RecursionError:
        return 0


def find_value_problems(mapping: dict[str, str], rows: FileRows) -> list[SourceProblem]:
    """Return remarks on unusual but readable values of the mapped columns."""
    problems: list[SourceProblem] = []
    for role, column in mapping.items():
        values = list_values(rows, column)
        numbers = [value for value in values if isinstance(value, int | float)]
        if role in PROMPT_ROLES and values:
            as_text = [value for value in values if isinstance(value, str) and _NUMBER.fullmatch(value)]
            if len(numbers) + len(as_text) == len(values):
                reason = f"Every value of the column {column!r} is a number, yet it is read as the {role}."
                problems.append(SourceProblem(None, reason + " Map another column if it is not meant."))
                continue
        if numbers and role != "label":
            problems.append(SourceProblem(None, f"Numbers in the column {column!r} are read as text.", True))
    return problems
