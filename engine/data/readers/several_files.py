"""Several files, or several splits of a hub's set, as one data set: the rows of one after the other, each
with where it is from in a column of its own (`file`, `split`), which says its part where the name does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from engine.data.readers.raw_rows import Reader, Row, Skipped, skipped
from engine.data.readers.recognise import by_extension
from engine.data.readers.source import unreadable
from store.contract.errors import DataError

MOST_FILES = 200


class SeveralReader(Reader):
    """Opens the readers one after the other; `mark` is the column that names them. The line of a row is that
    in its own file. Raises DataError where a file lacks columns that the first has."""

    def __init__(self, names: Sequence[str], openers: Sequence[Callable[[], Reader]], mark: str) -> None:
        super().__init__()
        self._names, self._openers, self._mark = names, openers, mark
        self._reader = first = openers[0]()
        self.name, self.encoding, self.has_header = first.name, first.encoding, first.has_header
        self.compressed, self.delimiter, self.unit = first.compressed, first.delimiter, first.unit
        self.bytes, self.total = first.bytes, 0.0
        self.problems += first.problems
        self.marks = {mark: list(names)}
        self._known = list(first.columns)
        self.columns = [*self._known, mark] if self._known and mark not in self._known else self._known

    def rows(self) -> Iterator[Row]:
        for number, name in enumerate(self._names):
            if number:
                self._next(number)
            for line, row in self._reader.rows():
                if isinstance(row, Skipped):
                    yield line, skipped(row.reason, f"{name}: {row.excerpt}")
                else:
                    yield line, {**row, self._mark: name}

    def _next(self, number: int) -> None:
        self._reader.close()
        self._reader = reader = self._openers[number]()
        self.bytes += reader.bytes
        name = self._names[number]
        self.problems += [problem._replace(reason=f"{name}: {problem.reason}") for problem in reader.problems]
        missing = [column for column in self._known if reader.columns and column not in reader.columns]
        if missing:
            raise DataError(
                f"{name} has no column {missing[0]!r}, which {self._names[0]} has.",
                fix="Give files with the same columns, or import them one by one.",
                field="source",
            )

    def position(self) -> float:
        return 0

    def close(self) -> None:
        self._reader.close()


def names_of(paths: Sequence[Path]) -> list[str]:
    """The names by which files are told apart: their own, with folders before them where two share one."""
    names = [path.name for path in paths]
    if len(set(names)) == len(names):
        return names
    return [f"{path.parent.name}/{path.name}" for path in paths]


def files_in(folder: Path) -> list[Path]:
    """The files of data in a folder, by name: those of the kind that most of its files are of. Raises
    DataError for none, and for more than 200."""
    try:
        files = sorted(path for path in folder.iterdir() if not path.name.startswith(".") and path.is_file())
    except OSError as error:
        raise unreadable(folder, error) from error
    kinds = [kind for path in files if (kind := by_extension(path.name))]
    if not kinds:
        raise DataError(
            f"{folder} has no file of data in it.",
            fix="Name a file, or a folder with CSV, TSV, JSON, JSONL, Parquet or text files.",
            field="source",
        )
    rows = [kind for kind in kinds if kind != "text"] or kinds
    usual = Counter(rows).most_common(1)[0][0]
    chosen = [path for path in files if by_extension(path.name) == usual]
    if len(chosen) > MOST_FILES:
        raise DataError(
            f"{folder} has {len(chosen):,} files of data; at most {MOST_FILES} are read together.",
            fix="Join them first.",
            field="source",
        )
    return chosen
