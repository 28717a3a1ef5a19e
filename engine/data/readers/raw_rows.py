"""What every reader gives: one item for every row of the file, read or skipped, never neither.

The invariant that the import rests on: rows read + rows skipped = rows of the file. Lines that are
blank are not rows. What a reader decides on its own (an encoding, a delimiter, a renamed column) goes
into `problems`, so that nothing is chosen in silence.

The one way in which reading says that a row can't be taken.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

MAX_ROW = 16 * 1024 * 1024  # bytes of one row; a longer one is skipped, so that memory stays bounded
MAX_ROW_TEXT = "16 MiB"
EXCERPT = 200  # characters of a skipped row that are kept


FileRow = dict[str, object]  # a row of a file: column -> whatever JSON or Parquet holds


class Skipped(NamedTuple):
    """A row that was not taken. `reason` is the same for all rows with the same fault, to be counted."""

    reason: str
    excerpt: str


class SourceProblem(NamedTuple):
    """Something to know about a file; `line` is None where it concerns the whole file. A `notice` only says
    how the file is read: nothing is wrong."""

    line: int | None
    reason: str
    notice: bool = False


ReadRow = tuple[int, FileRow | Skipped]


def skipped(reason: str, text: str) -> Skipped:
    """A skipped row with the beginning of its text as the excerpt."""
    return Skipped(reason, text if len(text) <= EXCERPT else text[: EXCERPT - 1] + "…")


class Reader:
    """Rows of one source. Subclasses fill the fields before `rows()` is called.

    total, unit: what `position()` counts up to (0 where it is not known beforehand).
    columns: in the order of the file; empty where only the rows tell. marks: of a column that says where a
    row is from (a file, a split) all of its values. further: of several files the first rows of all but the
    first, to see their columns.
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
        """(line where the row begins, the row or why it was skipped), once. Raises DataError where the
        file can't be read on."""
        raise NotImplementedError

    def position(self) -> float:
        """How much of `total` has been read."""
        return 0

    def close(self) -> None:
        """Let go of the file."""


def unique_names(names: list[str]) -> tuple[list[str], list[SourceProblem]]:
    """Column names without blanks and repeats: `column_3` for a blank, `text_2` for the second `text`."""
    taken: set[str] = set()
    given = set(names)
    last: dict[str, int] = {}  # of each repeated name the number that was given to it last
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
    """This row can't be taken. The reason is the same for every row with the same fault."""
