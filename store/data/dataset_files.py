"""Reading and writing a data set's Parquet files.

The folder is named by content: the fingerprint covers every column of both files, independent of the batch
sizes in which they were written. A folder is published as a whole, by an atomic rename, or not at all.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from store.core.errors import DataError, NotFoundError
from store.core.home import Home

SCHEMA = pa.schema(
    [
        ("row_id", pa.int64()),
        ("line", pa.int64()),
        ("messages", pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))),
        ("text", pa.string()),
        ("label", pa.string()),
        ("rejected", pa.string()),
        ("digest", pa.uint64()),
        ("source", pa.string()),
        ("choices", pa.list_(pa.string())),
        ("answer_index", pa.int32()),
        ("part", pa.string()),
    ]
)
_Rows = TypeVar("_Rows", pa.RecordBatch, pa.Table)
LATER = frozenset({"choices", "answer_index", "part"})  # columns that older data sets lack; read as null
SKIPPED_SCHEMA = pa.schema([("line", pa.int64()), ("reason", pa.string()), ("excerpt", pa.string())])


class ContentHash:
    """Hash over columns that arrive in pieces.

    Lengths and bytes of each column are hashed separately, so that the hash doesn't depend on the pieces and
    text that moves from one value to the next changes it.
    """

    def __init__(self) -> None:
        self._hashes: dict[str, hashlib.blake2b] = {}

    def add(self, name: str, array: pa.Array) -> None:
        """Add one more piece of the column `name`: numbers, or nullable strings."""
        if pa.types.is_string(array.type):
            offsets = np.frombuffer(array.buffers()[1], np.int32)[
                array.offset : array.offset + len(array) + 1
            ]
            lengths = np.diff(offsets).astype("<i8")
            if array.null_count:
                lengths[array.is_null().to_numpy(zero_copy_only=False)] = -1
            self._update(f"{name}.lengths", lengths)
            values = array.buffers()[2]
            if values is not None:
                self._update(f"{name}.bytes", memoryview(values)[offsets[0] : offsets[-1]])
        else:
            self._update(name, np.ascontiguousarray(array.to_numpy(zero_copy_only=False)))

    def _update(self, name: str, added: Any) -> None:
        self._hashes.setdefault(name, hashlib.blake2b(digest_size=16)).update(added)

    def hex(self) -> str:
        """Return the hash as 32 hexadecimal digits."""
        whole = hashlib.blake2b(digest_size=16)
        for name, part in sorted(self._hashes.items()):
            whole.update(name.encode() + b"=" + part.digest())
        return whole.hexdigest()


def publish(folder: Path, home: Home, fingerprint: str) -> None:
    """Move the finished folder to its final place.

    If the target exists already, it has the same content, and `folder` is deleted.
    """
    target = home.datasets / fingerprint
    for file in folder.iterdir():
        with open(file, "rb") as handle:
            os.fsync(handle.fileno())
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.rename(folder, target)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        shutil.rmtree(folder)


def open_rows(home: Home, fingerprint: str) -> pq.ParquetFile:
    """Open the rows of a data set. Raises NotFoundError if the folder is missing, DataError if it is
    corrupted.
    """
    path = home.rows(fingerprint)
    try:
        return pq.ParquetFile(path)
    except FileNotFoundError as error:
        raise NotFoundError(
            f"The rows of the data set {fingerprint[:12]} are not in the home folder ({path}).",
            fix="Import the file again.",
        ) from error
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(
            f"{path} is corrupted.", fix="Delete the data set and import the file again."
        ) from error


def iterate_batches(
    file: pq.ParquetFile, most: int, columns: Sequence[str] | None = None
) -> Iterator[pa.RecordBatch]:
    """Yield the rows in order, in batches of at most `most` rows.

    No batch spans row groups, whose size in bytes the writer limits: 10,000 rows of a megabyte each would not
    fit into memory.
    """
    for group in range(file.num_row_groups):
        for batch in file.iter_batches(most, row_groups=[group], columns=columns):
            yield _add_missing_columns(batch, columns)


def _add_missing_columns(rows: _Rows, columns: Sequence[str] | None) -> _Rows:
    """Add the requested columns of SCHEMA that an older data set lacks."""
    for name in SCHEMA.names if columns is None else columns:
        if name in LATER and name not in rows.schema.names:
            field = SCHEMA.field(name)
            rows = rows.append_column(field, pa.nulls(rows.num_rows, field.type))
    return rows


def load_rows(
    home: Home,
    fingerprint: str,
    columns: list[str] | None = None,
    row_ids: Sequence[int] | np.ndarray | None = None,
) -> pa.Table:
    """Load rows of a data set, with the columns of docs/rows.md.

    columns: all if None. row_ids: only these rows, in this order (a row's id is its position in the file);
    only the row groups that contain them are read. Raises NotFoundError if the data set or a row doesn't
    exist.
    """
    file = open_rows(home, fingerprint)
    if row_ids is None:
        return _add_missing_columns(file.read(columns=columns), columns)
    wanted = np.asarray(row_ids, dtype=np.int64)
    sizes = [file.metadata.row_group(group).num_rows for group in range(file.metadata.num_row_groups)]
    ends = np.cumsum(sizes)
    outside = wanted[(wanted < 0) | (wanted >= file.metadata.num_rows)]
    if len(outside):
        raise NotFoundError(f"The data set {fingerprint[:12]} has no row {outside[0]}.")
    if not len(wanted):
        return SCHEMA.empty_table().select(columns or SCHEMA.names)
    groups = np.searchsorted(ends, wanted, side="right")
    read = np.unique(groups)
    starts = np.zeros(len(sizes), dtype=np.int64)  # start of each group in the loaded table
    starts[read] = np.concatenate([[0], np.cumsum([sizes[group] for group in read])[:-1]])
    first_ids = ends - sizes
    table = _add_missing_columns(file.read_row_groups(read.tolist(), columns=columns), columns)
    return table.take(pa.array(starts[groups] + wanted - first_ids[groups]))
