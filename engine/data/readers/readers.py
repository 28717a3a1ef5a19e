"""One way in: from what the user named to a reader of its rows."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from engine.data.readers import recognise
from engine.data.readers.builtin import BuiltinReader
from engine.data.readers.column_values import check_width
from engine.data.readers.delimited import DelimitedReader
from engine.data.readers.hub import HubReader, hub_splits
from engine.data.readers.json_rows import JsonArrayReader, JsonLinesReader
from engine.data.readers.lines import Lines, Pieces, is_wide
from engine.data.readers.marked_text import MarkedTextReader, marks_in
from engine.data.readers.parquet_rows import ParquetReader
from engine.data.readers.raw_rows import Problem, Reader
from engine.data.readers.several_files import SeveralReader, files_in, names_of
from engine.data.readers.source import locate
from engine.data.readers.streams import ByteStream, DecodedStream, check_encoding, detect_encoding
from engine.data.readers.text_rows import TextReader
from store.config.import_config import Source
from store.contract.errors import ConfigError, DataError
from store.contract.home import Home


def open_source(
    home: Home, source: Source, *, has_header: bool | None = None, encoding: str | None = None
) -> Reader:
    """A reader of `source`; what was decided on the way is in its `problems`.

    has_header, encoding: recognised where None.
    Raises DataError that names the file and what to do, ConfigError for an unknown encoding.
    """
    if source.builtin:
        return BuiltinReader()
    if source.hub_id:
        return _open_hub(source.hub_id, source)
    encoding = check_encoding(encoding) if encoding else None
    paths = _paths(home, source)
    openers = [partial(_open_file, path, home, has_header, encoding) for path in paths]
    return openers[0]() if len(paths) == 1 else SeveralReader(names_of(paths), openers, "file")


def _open_hub(hub_id: str, source: Source) -> Reader:
    if source.hub_split != "all":
        return HubReader(hub_id, source.hub_config, source.hub_split)
    splits = hub_splits(hub_id, source.hub_config)
    openers = [partial(HubReader, hub_id, source.hub_config, split) for split in splits]
    return openers[0]() if len(splits) == 1 else SeveralReader(splits, openers, "split")


def _paths(home: Home, source: Source) -> list[Path]:
    """The files that the source names; of a folder those in it."""
    if source.path and (folder := Path(source.path).expanduser()).is_absolute() and folder.is_dir():
        named = [Source(path=str(path)) for path in files_in(folder)]
    elif source.paths:
        named = [Source(path=path) for path in source.paths]
    elif source.uploads:
        named = [Source(upload=upload) for upload in source.uploads]
    else:
        named = [source]
    return [locate(home, one) for one in named]


def _open_file(path: Path, home: Home, has_header: bool | None, encoding: str | None) -> Reader:
    stream = ByteStream(path)
    try:
        return _open(stream, home, has_header, encoding)
    except (DataError, ConfigError):
        stream.close()
        raise


def _open(stream: ByteStream, home: Home, has_header: bool | None, named: str | None) -> Reader:
    if stream.head.startswith(b"PAR1"):
        return _finish(ParquetReader(stream, home.cache), stream, _disagreement(stream, "parquet"))
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
    found = recognise.recognise(stream.path.name, head, stream.whole)
    pieces: Pieces = DecodedStream(stream, encoding) if wide else stream
    reader: Reader
    if found.reader == "json":
        reader = JsonArrayReader(stream, pieces, encoding)
    else:
        lines = Lines(pieces, encoding, wide or named is not None, newline)
        if found.dialect:
            reader = DelimitedReader(stream, lines, found.dialect, has_header)
        elif found.reader == "jsonl":
            reader = JsonLinesReader(stream, lines)
        elif marks := marks_in(head):
            reader = MarkedTextReader(stream, lines, marks)
        else:
            reader = TextReader(stream, lines, head)
    return _finish(reader, stream, found.notice)


def _decode_head(stream: ByteStream, encoding: str) -> str:
    text = stream.head.decode(encoding, "replace").removeprefix("\ufeff")
    if not text.strip():
        raise DataError(
            f"{stream.path.name} holds white space alone.", fix="Give a file with rows.", field="source"
        )
    return text


def _disagreement(stream: ByteStream, found: str) -> str:
    named = recognise.by_extension(stream.path.name)
    if not named or named == found:
        return ""
    return f"The name of the file says {named}, its content is {found}: it is read as {found}."


def _finish(reader: Reader, stream: ByteStream, notice: str) -> Reader:
    check_width(reader.columns)
    reader.compressed = stream.compressed
    reader.bytes = stream.size
    reader.total = stream.size
    if notice:
        reader.problems.insert(0, Problem(None, notice))
    return reader
