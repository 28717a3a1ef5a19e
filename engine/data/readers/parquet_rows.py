"""Parquet, a batch of a row group at a time. The line of a row is its number in the file, from 1."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from engine.data.readers.raw_rows import FileRow, Reader, ReadRow, Skipped, skipped, unique_names
from engine.data.readers.streams import ByteStream
from store.contract.calendar import spelled_out
from store.contract.errors import DataError

BATCH = 1000


class ParquetReader(Reader):
    """Rows of a Parquet file. Raises DataError where it is cut off or broken."""

    name = "parquet"

    def __init__(self, stream: ByteStream, scratch: Path) -> None:
        super().__init__()
        self._name = stream.path.name
        self._unpacked: IO[bytes] | None = None
        self._done = 0
        source: Any = stream.path
        if stream.compressed:  # Parquet is read from its end: it must lie unpacked
            self._unpacked = source = _unpack(stream, scratch)
        stream.close()
        try:
            self._file = pq.ParquetFile(source)
            names = self._file.schema_arrow.names
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            self.close()
            raise self._broken(error) from error
        self.total = self.bytes = stream.size
        self.columns, self.problems = unique_names(names)

    def rows(self) -> Iterator[ReadRow]:
        try:
            for batch in self._file.iter_batches(batch_size=BATCH):
                for row in _rows_in(spelled_out(batch.rename_columns(self.columns))):
                    self._done += 1
                    yield self._done, row
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise self._broken(error) from error

    def _broken(self, error: Exception) -> DataError:
        after = f" after row {self._done}" if self._done else ""
        reason = " ".join(str(error).split())[:150]
        return DataError(
            f"{self._name} is a Parquet file that is cut off or broken{after} ({reason}).",
            fix="Copy or download it again.",
            field="source",
        )

    def position(self) -> float:
        return self.total * self._done / max(1, self._file.metadata.num_rows)

    def close(self) -> None:
        if self._unpacked:
            self._unpacked.close()


def _rows_in(batch: pa.RecordBatch) -> Iterator[FileRow | Skipped]:
    """The rows; one whose text is no Unicode costs that row alone."""
    try:
        yield from batch.to_pylist()
    except UnicodeDecodeError:
        for place in range(batch.num_rows):
            try:
                yield batch.slice(place, 1).to_pylist()[0]
            except UnicodeDecodeError:
                yield skipped("holds a text that is not valid UTF-8", "")


def _unpack(stream: ByteStream, scratch: Path) -> IO[bytes]:
    folder = scratch if scratch.is_dir() else None
    file: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (open as long as the reader)
    while piece := stream.read():
        file.write(piece)
    file.seek(0)
    return file
