"""Select the files with rows, the reader of each, and the part (train, validation, test) of files and rows.

A file's content takes precedence over its extension. Metadata files (README.md, LICENSE,
dataset_info.json) have no rows and are reported as not read. Lists of labels, texts next to tables, and
files of other kinds may be rows or may explain them; the import then stops until the user says which files
to read.

Common names of parts ("dev", "val", "oos_test", `train.csv`) are detected; any other value needs a part
from the user. Rows whose value has no part or is to be left out are skipped and counted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from engine.data.readers.file_rows import (
    FileRow,
    FileRows,
    RowSkipped,
    SourceProblem,
    list_values,
    normalise_name,
)
from engine.data.readers.source_files import make_read_error
from engine.data.readers.table_readers import Dialect, sniff
from store.core.errors import DataError
from store.data.formats import LEAVE_OUT, LEFT_OUT

PART_WORDS = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev", "development", "eval"), "validation"),
    **dict.fromkeys(("test", "testing", "tst", "holdout", "heldout"), "test"),
}
PART_COLUMNS = (
    "file",
    "split",
    "part",
    "set",
    "subset",
    "partition",
    "fold",
    "data_split",
    "dataset_split",
    "usage",
    "phase",
)
MAX_PART_VALUES = 30  # distinct values of a part column


def parse_part(value: str) -> str | None:
    """Return the part that a value names, by the last matching word."""
    words = re.split(r"[^a-z]+", value.lower())
    return next((PART_WORDS[word] for word in reversed(words) if word in PART_WORDS), None)


def map_parts(values: Iterable[str], given: Mapping[str, str]) -> dict[str, str]:
    """Return value -> part, from `given` or from the value's name; values without a part are omitted."""
    named = {value: given.get(value) or parse_part(value) for value in values}
    return {value: part for value, part in named.items() if part}


def find_part_column(
    columns: Sequence[str], rows: FileRows, marks: Mapping[str, Sequence[str]]
) -> str | None:
    """Return the column that gives the part of every row, by its name and values.

    `marks`: all values of columns for which they are known in advance.
    """
    for column in columns:
        if normalise_name(column) in PART_COLUMNS:
            values = {format_part_value(value) for value in (marks.get(column) or list_values(rows, column))}
            if values and len(values) <= MAX_PART_VALUES and all(parse_part(value) for value in values):
                return column
    return None


def format_part_value(value: Any) -> str:
    """Return a value of the part column as a key of the parts."""
    return str(value).strip()[:80]


def read_part(row: FileRow, column: str, given: Mapping[str, str]) -> str:
    """Return train, validation or test. Raises RowSkipped for a row that is left out or has no part."""
    value = row.get(column)
    if value is None or value != value or value == "":
        raise RowSkipped(f"{column} is empty: the row is in no part")
    name = format_part_value(value)
    part = given.get(name) or parse_part(name)
    if part is None:
        raise RowSkipped(f"{column} is {name[:40]!r}, to which no part was given")
    if part == LEAVE_OUT:
        raise RowSkipped(f"{LEFT_OUT}{column} is {name[:40]!r}")
    return part


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
MIN_FIELD_AGREEMENT = 0.98  # agreement of field counts at which a file without the extension is CSV


class RecognisedFile(NamedTuple):
    reader: ReaderName
    dialect: Dialect | None
    notice: str  # empty where extension and content agree


def guess_by_extension(name: str) -> ReaderName | None:
    """Return the reader for the file's extension, ignoring `.gz`."""
    stem = re.sub(r"\.gz$", "", name.lower())
    return next((kind for ending, kind in EXTENSIONS.items() if stem.endswith(ending)), None)


def recognise_reader(name: str, head: str, whole: bool) -> RecognisedFile:
    """Detect the reader of a text file from its name and its `head` (the whole file if `whole`)."""
    named = guess_by_extension(name)
    reader = _recognise_json(head, named)
    dialect = None
    if reader is None:
        lines = head if whole else head[: head.rfind("\n") + 1] or head
        dialect = sniff(lines, "\t" if named == "tsv" else "," if named == "csv" else None)
        reader = _recognise_delimited(dialect, named)
    if reader not in ("csv", "tsv"):
        dialect = None
    notice = ""
    if named and named != reader:
        notice = f"The file extension suggests {named}, but its content is {reader}: read as {reader}."
    return RecognisedFile(reader, dialect, notice)


def _recognise_delimited(dialect: Dialect, named: ReaderName | None) -> ReaderName:
    tab = dialect.delimiter == "\t"
    if named in ("csv", "tsv"):
        return "tsv" if tab and dialect.agreement else named
    # Prose has commas too: without the extension, several rows must agree.
    rows, many = len(dialect.records), 2 if tab else 5
    if dialect.agreement < MIN_FIELD_AGREEMENT or rows < many:
        return "text"
    if tab:
        return "tsv"
    names = all(len(cell) <= 40 and len(cell.split()) <= 4 for cell in dialect.records[0])
    return "csv" if names else "text"


def _recognise_json(head: str, named: ReaderName | None) -> ReaderName | None:
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
    if len(lines) == 1 or first[-1] in "[{,:":  # cut off by the head, or an object over several lines
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


MAX_FILES = 200
MAX_NAMED = 8
METADATA_NAMES = frozenset(
    (
        "authors", "changelog", "changes", "citation", "code_of_conduct", "contributing", "copying",
        "copyright", "croissant", "datacard", "datasheet", "dataset_card", "dataset_dict", "dataset_info",
        "dataset_infos", "licence", "license", "manifest", "metadata", "notice", "package", "readme",
        "requirements", "schema", "sha256sums", "checksums", "state",
    )
)  # fmt: skip
LABEL_NAMES = re.compile(
    r"(.*_)?(label|labels|classes|class_names|class_labels|label_names|label_list|label_map|labels_map|label2id"
    r"|id2label|categories|intents|tags|tagset)"
)
AMBIGUOUS_KINDS = ("text", "json")  # kinds of files that are often lists of names instead of rows


class ChosenFiles(NamedTuple):
    """files: files with rows. problems: remarks on the other files."""

    files: list[Path]
    problems: list[SourceProblem]


def choose_files(folder: Path, ignore: Sequence[str]) -> ChosenFiles:
    """Return the files of a folder that have rows. ignore: names of files that the user excluded.

    Raises DataError if it is unclear which files have rows, for no file, and for more than 200 files.
    """
    try:
        entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise make_read_error(folder, error) from error
    files = [path for path in entries if path.is_file()]
    _check_names(files, ignore)
    chosen = _select_files([path for path in files if guess_by_extension(path.name)], ignore)
    if not chosen.files:
        raise DataError(
            f"{folder} has no file of data in it.",
            fix="Name a file, or a folder with CSV, TSV, JSON, JSONL, Parquet or text files.",
            field="source",
        )
    if len(chosen.files) > MAX_FILES:
        raise DataError(
            f"{folder} has {len(chosen.files):,} files of data; at most {MAX_FILES} are read together.",
            fix="Join them first.",
            field="source",
        )
    _check_kinds(folder, chosen.files)
    other = [path.name + ("/" if path.is_dir() else "") for path in entries if not path.is_file()]
    other += [path.name for path in files if not guess_by_extension(path.name)]
    if other:
        reason = f"Not read, as no kind of file with rows: {_format_names(other)}."
        chosen.problems.append(SourceProblem(None, reason, True))
    return chosen


def keep_row_files(paths: Sequence[Path], ignore: Sequence[str]) -> ChosenFiles:
    """Return those of several files that have rows.

    Raises DataError if a file may be something else, and for an unknown name in `ignore`.
    """
    _check_names(paths, ignore)
    return _select_files(paths, ignore)


def _select_files(paths: Sequence[Path], ignore: Sequence[str]) -> ChosenFiles:
    rest = [path for path in paths if path.name not in ignore]
    tables = [path for path in rest if not _is_metadata(path) and guess_by_extension(path.name) != "text"]
    about = [path for path in rest if len(rest) > 1 and _is_metadata(path, beside=bool(tables))]
    rows = [path for path in rest if path not in about]
    if not rows:
        about, rows = [], rest
    unclear = [path for path in rows if len(rows) > 1 and _may_name_labels(path, bool(tables))]
    if unclear:
        names = [path.name for path in unclear]
        others = _format_names([path.name for path in rows if path not in unclear]) or "each other"
        raise DataError(
            f"{_format_names(names)} next to {others} may describe labels or contain other texts: not read"
            " as rows.",
            fix="Import the files with rows by name, or leave these out on purpose: "
            + " ".join(f"--ignore-file {name}" for name in names),
            field="ignore_files",
        )
    notices: list[SourceProblem] = []
    if about:
        named = _format_names([path.name for path in about])
        notices.append(SourceProblem(None, f"Not read, as about the data and no rows: {named}.", True))
    if ignore:
        notices.append(
            SourceProblem(None, f"Files left out on purpose: {_format_names(list(ignore))}.", True)
        )
    return ChosenFiles(rows, notices)


def _is_metadata(path: Path, *, beside: bool = True) -> bool:
    """Return whether a file is metadata by its name: a text or JSON file with such a name, or Markdown.

    Markdown only counts as metadata next to tables (`beside`).
    """
    kind, stem = guess_by_extension(path.name), _normalise_stem(path)
    if path.suffix.lower() == ".md" and beside:
        return True
    return kind in (None, *AMBIGUOUS_KINDS) and stem in METADATA_NAMES


def _may_name_labels(path: Path, beside: bool) -> bool:
    if guess_by_extension(path.name) == "text" and beside:
        return True
    return bool(LABEL_NAMES.fullmatch(_normalise_stem(path)))


def _check_kinds(folder: Path, files: Sequence[Path]) -> None:
    kinds: dict[str, list[str]] = {}
    for path in files:
        kinds.setdefault(str(guess_by_extension(path.name)), []).append(path.name)
    if len(kinds) > 1:
        named = "; ".join(f"{kind}: {_format_names(names)}" for kind, names in kinds.items())
        fewest = min(kinds.values(), key=len)
        raise DataError(
            f"{folder} has files of several kinds ({named}), and it is unclear which contain the rows.",
            fix="Import files by name, or leave some out on purpose: "
            + " ".join(f"--ignore-file {name}" for name in fewest[:MAX_NAMED]),
            field="ignore_files",
        )


def _check_names(paths: Sequence[Path], ignore: Sequence[str]) -> None:
    names = {path.name for path in paths}
    if missing := [name for name in ignore if name not in names]:
        raise DataError(
            f"There is no file {missing[0]!r} to exclude.",
            fix=f"There is {_format_names(sorted(names))}.",
            field="ignore_files",
        )
    if ignore and names <= set(ignore):
        raise DataError("Every file is to be left out.", fix="Keep one that has rows.", field="ignore_files")


def _normalise_stem(path: Path) -> str:
    name = path.name.lower().removesuffix(".gz")
    return re.sub(r"[\s\-.]+", "_", Path(name).stem)


def _format_names(names: Sequence[str]) -> str:
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return ", ".join(names[:MAX_NAMED]) + more
