"""Open the reader of a source.

Several files, or several splits of a hub data set, are read as one data set, one after the other. An
additional column (`file`, `split`) gives the origin of each row, and its part if the name gives one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence, Set
from functools import partial
from pathlib import Path

from engine.data.readers import file_selection
from engine.data.readers.file_rows import (
    Reader,
    ReadRow,
    SkippedRow,
    SourceProblem,
    check_width,
    make_skipped_row,
    read_first,
)
from engine.data.readers.file_selection import ChosenFiles, choose_files, keep_row_files
from engine.data.readers.json_readers import JsonArrayReader, JsonLinesReader
from engine.data.readers.named_datasets import BuiltinReader, HubReader, list_hub_splits
from engine.data.readers.plain_text import (
    ByteSource,
    Lines,
    MarkedTextReader,
    TextReader,
    find_marks,
    is_wide,
)
from engine.data.readers.source_files import (
    ByteStream,
    DecodedStream,
    check_encoding,
    detect_encoding,
    locate_file,
)
from engine.data.readers.table_readers import DelimitedReader, ParquetReader
from store.core.errors import ConfigError, DataError
from store.core.home import Home
from store.data.config import Source

PEEK_ROWS = 20  # rows read of each file to find its columns


class MultiReader(Reader):
    """Reader that opens several readers one after the other; `mark` is the column with their names.

    The line of a row is the one in its own file. Raises DataError if a file lacks columns of the first
    file.
    """

    def __init__(self, names: Sequence[str], openers: Sequence[Callable[[], Reader]], mark: str) -> None:
        super().__init__()
        self._names, self._openers, self._mark = names, openers, mark
        self._reader = first = openers[0]()
        self.name, self.encoding, self.has_header = first.name, first.encoding, first.has_header
        self.compressed, self.delimiter, self.unit = first.compressed, first.delimiter, first.unit
        self.bytes, self.total = first.bytes, 0.0
        self.problems += first.problems
        self.marks = {mark: list(names)}
        self._first_columns = list(first.columns)
        columns = list(self._first_columns)
        if mark == "file":  # splits of the hub would each need a download
            columns += self._look_at_others()
        named = not self._first_columns or mark in self._first_columns
        self.columns = list(dict.fromkeys(columns if named else [*columns, mark]))

    def _look_at_others(self) -> list[str]:
        """Check the columns of the files against those of the first file.

        Returns the additional columns of other files, if columns are known without reading rows.
        """
        more: list[str] = []
        always: set[str] = set()
        for number, opener in enumerate(self._openers):
            with contextlib.closing(opener()) as reader:
                items = read_first(reader.rows(), PEEK_ROWS)
                rows = [row for _, row in items if isinstance(row, dict)]
                if not number:
                    always = set.intersection(*map(set, rows)) if rows else set()
                    continue
                met = {*reader.columns, *(name for row in rows for name in row)}
                self._check_columns(number, always | set(self._first_columns), met)
                more += reader.columns if self._first_columns else []
                mark = {self._mark: self._names[number]}
                self.further += [(line, {**row, **mark}) for line, row in items if isinstance(row, dict)]
        return more

    def rows(self) -> Iterator[ReadRow]:
        for number, name in enumerate(self._names):
            if number:
                self._next(number)
            for line, row in self._reader.rows():
                if isinstance(row, SkippedRow):
                    yield line, make_skipped_row(row.reason, f"{name}: {row.excerpt}")
                else:
                    yield line, {**row, self._mark: name}

    def _next(self, number: int) -> None:
        self._reader.close()
        self._reader = reader = self._openers[number]()
        self.bytes += reader.bytes
        name = self._names[number]
        self.problems += [problem._replace(reason=f"{name}: {problem.reason}") for problem in reader.problems]
        if reader.columns:
            self._check_columns(number, set(self._first_columns), set(reader.columns))

    def _check_columns(self, number: int, wanted: Set[str], met: Set[str]) -> None:
        missing = sorted(wanted - met)
        if missing and met:
            name = self._names[number]
            raise DataError(
                f"{name} has no column {missing[0]!r}, which {self._names[0]} has.",
                fix="Give files with the same columns, import them one by one, or leave one out on purpose:"
                f" --ignore-file {name}",
                field="ignore_files",
            )

    def position(self) -> float:
        return 0

    def close(self) -> None:
        self._reader.close()


def make_unique_names(paths: Sequence[Path]) -> list[str]:
    """Return the names that identify the files, prefixed by their folders if two files share a name."""
    names = [path.name for path in paths]
    if len(set(names)) == len(names):
        return names
    return [f"{path.parent.name}/{path.name}" for path in paths]


def open_source(
    home: Home,
    source: Source,
    *,
    has_header: bool | None = None,
    encoding: str | None = None,
    ignore_files: Sequence[str] = (),
) -> Reader:
    """Open the reader of `source`; what is decided automatically is reported in its `problems`.

    has_header, encoding: detected if None. ignore_files: names of files without rows. Raises DataError
    that names the file and the fix, and ConfigError for an unknown encoding.
    """
    if source.builtin:
        return BuiltinReader()
    if source.hub_id:
        return _open_hub(source.hub_id, source)
    encoding = check_encoding(encoding) if encoding else None
    paths, problems = _list_paths(home, source, ignore_files)
    openers = [partial(open_file, home, path, has_header, encoding) for path in paths]
    reader = openers[0]() if len(paths) == 1 else MultiReader(make_unique_names(paths), openers, "file")
    reader.problems += problems
    return reader


def _open_hub(hub_id: str, source: Source) -> Reader:
    if source.hub_split != "all":
        return HubReader(hub_id, source.hub_config, source.hub_split)
    splits = list_hub_splits(hub_id, source.hub_config)
    openers = [partial(HubReader, hub_id, source.hub_config, split) for split in splits]
    return openers[0]() if len(splits) == 1 else MultiReader(splits, openers, "split")


def _list_paths(home: Home, source: Source, ignore_files: Sequence[str]) -> ChosenFiles:
    """Return the files of the source that have rows; for a folder, its files."""
    if source.path and (folder := Path(source.path).expanduser()).is_absolute() and folder.is_dir():
        chosen = choose_files(folder, ignore_files)
        located = [locate_file(home, Source(path=str(path))) for path in chosen.files]
        return chosen._replace(files=located)
    named = [Source(path=path) for path in source.paths] + [Source(upload=name) for name in source.uploads]
    return keep_row_files([locate_file(home, file) for file in named or [source]], ignore_files)


def open_file(home: Home, path: Path, has_header: bool | None = None, encoding: str | None = None) -> Reader:
    """Open the reader of a file located by `engine.data.readers.source_files.locate_file`."""
    stream = ByteStream(path)
    try:
        return _open(stream, home, has_header, encoding)
    except (DataError, ConfigError):
        stream.close()
        raise


def _open(stream: ByteStream, home: Home, has_header: bool | None, named: str | None) -> Reader:
    if stream.head.startswith(b"PAR1"):
        extension, notice = file_selection.guess_by_extension(stream.path.name), ""
        if extension not in (None, "parquet"):
            notice = f"The file extension suggests {extension}, but its content is parquet: read as parquet."
        return _finish(ParquetReader(stream, home.cache), stream, notice)
    encoding = named or detect_encoding(stream.head, stream.whole)
    if encoding is None:
        raise DataError(
            f"{stream.path.name} is a binary file of an unknown kind.",
            fix="Give CSV, TSV, JSON, JSONL, Parquet or plain text, as it is or packed with gzip.",
            field="source",
        )
    wide = is_wide(encoding)
    head = _decode_head(stream, encoding)
    newline = b"\r" if "\n" not in head and "\r" in head else b"\n"
    head = head.replace("\r\n", "\n").replace("\r", "\n")
    kind = file_selection.recognise_reader(stream.path.name, head, stream.whole)
    pieces: ByteSource = DecodedStream(stream, encoding) if wide else stream
    reader: Reader
    if kind.reader == "json":
        reader = JsonArrayReader(stream, pieces, encoding)
    else:
        lines = Lines(pieces, encoding, wide or named is not None, newline)
        if kind.dialect:
            reader = DelimitedReader(stream, lines, kind.dialect, has_header)
        elif kind.reader == "jsonl":
            reader = JsonLinesReader(stream, lines)
        elif marks := find_marks(head):
            reader = MarkedTextReader(stream, lines, marks)
        else:
            reader = TextReader(stream, lines, head)
    return _finish(reader, stream, kind.notice)


def _decode_head(stream: ByteStream, encoding: str) -> str:
    text = stream.head.decode(encoding, "replace").removeprefix("\ufeff")
    if not text.strip():
        raise DataError(
            f"{stream.path.name} contains only white space.", fix="Give a file with rows.", field="source"
        )
    return text


def _finish(reader: Reader, stream: ByteStream, notice: str) -> Reader:
    check_width(reader.columns)
    reader.compressed = stream.compressed
    reader.bytes = stream.size
    reader.total = stream.size
    if notice:
        reader.problems.insert(0, SourceProblem(None, notice))
    return reader
