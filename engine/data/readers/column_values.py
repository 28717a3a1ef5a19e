"""The values of a column in the first rows of a file, and columns that lie inside objects, by a path.

`input.question` is the field `question` of the objects in the column `input`; `answers.text.0` the first text
of a list. A row of the file stays as it is: `with_paths` adds what a mapping needs.

The column names under which each role is met in the wild, the most telling first.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from engine.data.readers.raw_rows import FileRow
from store.contract.errors import DataError

FileRows = Sequence[FileRow]

MOST_COLUMNS = 4096
DEEPEST = 4  # objects in objects that a path goes through
MOST_PATHS = 200
FEWEST_ROWS, MOST_CELLS = 50, 1_000_000  # of the first rows; fewer of them where they are wide


def column_names(names: list[str], rows: FileRows) -> list[str]:
    """Columns of the file: as known beforehand, else those of the first rows, in the order they appear.
    Raises DataError where there are more than 4,096."""
    return check_width(names or list(dict.fromkeys(name for row in rows for name in row)))


def check_width(columns: list[str]) -> list[str]:
    """The columns. Raises DataError where there are more than 4,096."""
    if len(columns) > MOST_COLUMNS:
        raise DataError(
            f"The file has {len(columns):,} columns; at most {MOST_COLUMNS:,} are read.",
            fix="Keep the columns that hold text, answers and labels, or give one object a line.",
            field="source",
        )
    return columns


def looked_at(columns: Sequence[str], rows: FileRows) -> FileRows:
    """So many of the first rows that a wide file costs as much to look at as a narrow one."""
    return rows[: max(FEWEST_ROWS, MOST_CELLS // max(1, len(columns)))]


def values_of(rows: FileRows, column: str) -> list[Any]:
    """The values of a column that are there."""
    return list(_values(rows, column))


def first_values(rows: FileRows, column: str, most: int) -> list[Any]:
    """The first of them."""
    return list(itertools.islice(_values(rows, column), most))


def _values(rows: FileRows, column: str) -> Iterator[Any]:
    values = (row.get(column) for row in rows)
    return (value for value in values if value is not None and value == value and value != "")


def paths_of(columns: Sequence[str], rows: FileRows) -> list[str]:
    """Paths to what lies in the objects and lists of texts of the first rows, at most 200."""
    paths: dict[str, None] = {}
    for column in columns:
        for value in first_values(rows, column, 20):
            for path in _inside(value, column, 0):
                if path not in columns:
                    paths.setdefault(path)
            if len(paths) >= MOST_PATHS:
                return list(paths)[:MOST_PATHS]
    return list(paths)


def _inside(value: Any, path: str, depth: int) -> Iterator[str]:
    if isinstance(value, list):
        if value and all(isinstance(item, str) for item in value):
            yield f"{path}.0"
        elif value and isinstance(value[0], dict) and "text" in value[0]:
            yield f"{path}.0.text"
    elif isinstance(value, dict) and depth < DEEPEST:
        for key, item in value.items():
            inner = f"{path}.{key}"
            if isinstance(item, list):
                yield inner
            if isinstance(item, dict | list):
                yield from _inside(item, inner, depth + 1)
            else:
                yield inner


def value_at(row: FileRow, path: str) -> Any:
    """What lies at the path; None where nothing does."""
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


def with_paths(row: FileRow, paths: Iterable[str]) -> FileRow:
    """The row, with what lies at the paths under their names."""
    return {**row, **{path: value_at(row, path) for path in paths}}


def ignored(columns: Sequence[str], mapping: dict[str, str]) -> list[str]:
    """The columns of the file of which nothing is used."""
    used = set(mapping.values())
    roots = {path.split(".", 1)[0] for path in used}
    return [column for column in columns if column not in used and column not in roots]


SYSTEM = ("system", "system_prompt", "system_message")
TOOLS = ("tools", "functions", "available_tools")

# In the order in which formats are tried: the more particular before the more general.
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

# Columns that hold one choice each: one of these and a number or a letter, or a letter alone.
CHOICE_STEMS = ("ans", "answer", "option", "opt", "op", "choice", "sol", "ending", "candidate", "alternative")

TURN_NAMES = ("messages", "conversations", "conversation", "chat", "dialogue", "turns", "message")

FLAG_PREFIXES = ("is_", "has_")
NUMBERING = frozenset({"row_id", "rowid", "row", "id", "idx", "index", "line", "number", "no", "unnamed:_0"})
GENERIC = ("text", "value", "content", "0")  # of a path, these say less than what they lie in

KNOWN_NAMES = frozenset(
    name for roles in ALIASES.values() for names in roles.values() for name in names if len(name) > 1
) | frozenset(TURN_NAMES)


def normalise(name: str) -> str:
    """`Label Text`, `label-text` and `LABEL_TEXT` are one name."""
    return re.sub(r"[\s\-.]+", "_", name.strip().lower())


def names_of(columns: Sequence[str]) -> dict[str, str]:
    """Normalised name -> column, the first of those that share one."""
    return {normalise(column): column for column in reversed(columns)}


def names_within(columns: Sequence[str]) -> dict[str, list[str]]:
    """Normalised name -> paths, by the last part of a path, or by what that lies in where the part says
    nothing (`answer` for `answer.text`)."""
    names: dict[str, list[str]] = {}
    for column in columns:
        parts = column.split(".")
        while len(parts) > 1 and parts[-1] in GENERIC:
            parts.pop()
        if "." in column:
            names.setdefault(normalise(parts[-1]), []).append(column)
    return names
