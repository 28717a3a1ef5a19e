"""Rows of Arrow tables as plain dicts, and as an Arrow IPC stream that can end with an error."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Callable, Iterable
from dataclasses import MISSING, dataclass, fields, is_dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

import pyarrow as pa

from store.core.documents import as_json, get_reviver
from store.core.errors import TunebenchError, from_dict
from store.core.schemas import JsonObject
from store.core.table_values import convert_times_to_text

if TYPE_CHECKING:
    from store.db.connection import StatementReader

Row = TypeVar("Row")


def read_records(table: pa.Table, row_type: type[Row], json_columns: Iterable[str] = ()) -> list[Row]:
    """Return the rows of `table` as `row_type`, whose fields are columns of the statement; JSON columns are
    parsed.

    Raises KeyError for a JSON column that the table lacks, and TypeError for a field without a column.
    """
    rows: list[JsonObject] = convert_times_to_text(table).to_pylist()
    for column in json_columns:
        if column not in table.column_names:
            raise KeyError(column)
        for row in rows:
            if row[column] is not None:
                row[column] = json.loads(row[column])
    kind: Any = row_type  # mypy doubts that a TypeVar's type is hashable
    _check_columns(row_type, table.column_names)
    revive = get_reviver(kind)
    return [revive(row) for row in rows] if revive else cast(list[Row], rows)


def _check_columns(row_type: type, columns: Iterable[str]) -> None:
    if not is_dataclass(row_type):
        return
    required = {f.name for f in fields(row_type) if f.default is MISSING and f.default_factory is MISSING}
    if absent := sorted(required.difference(columns)):
        raise TypeError(f"{row_type.__name__} has no column for {', '.join(absent)}.")


def read_scalar(table: pa.Table) -> Any:
    """Return the single value of a table with one row and one column."""
    return convert_times_to_text(table).column(0)[0].as_py()


def to_json(document: Any) -> str:
    """Return JSON that DuckDB accepts: NaN and infinities, which JSON lacks, become strings."""
    try:
        return json.dumps(document, ensure_ascii=False, allow_nan=False, default=as_json)
    except ValueError:
        return json.dumps(_replace_nonfinite(document), ensure_ascii=False, allow_nan=False, default=as_json)


def _replace_nonfinite(value: Any) -> Any:
    if is_dataclass(value):
        value = as_json(value)
    if isinstance(value, dict):
        return {str(key): _replace_nonfinite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_replace_nonfinite(part) for part in value]
    if isinstance(value, float) and value - value != 0:  # NaN or infinity
        return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
    return value


# Transfer of rows from engine to client: an Arrow IPC stream that can end with an error.
#
# An error after the first rows is sent as an empty batch with the error document as metadata. Encoder and
# decoder are both here, so that they agree, as are the frames in which such a stream reaches the engine from
# the process of a statement written by a person.

MEDIA_TYPE = "application/vnd.apache.arrow.stream"
ERROR_KEY = b"tunebench.error"
CHUNK_BYTES = 256 * 1024  # smaller results are sent in one chunk


class Chunks(Protocol):
    """Result of a statement as chunks of bytes; `failed`: the last chunk says why rows are missing."""

    done: bool
    failed: bool

    def first(self) -> bytes: ...
    def next(self) -> bytes: ...
    def close(self) -> None: ...
    @property
    def closed(self) -> bool: ...


class Encoder:
    """Encodes the rows of a reader as chunks of bytes."""

    def __init__(self, reading: StatementReader) -> None:
        self._reading = reading
        self._sink = io.BytesIO()
        self.done = self.failed = False

    def first(self) -> bytes:
        """Return schema and first rows. Raises QueryError if the statement fails within the first
        CHUNK_BYTES.
        """
        self._reading.start()
        self._writer = pa.ipc.new_stream(self._sink, self._reading.schema)
        return self._fill()

    def next(self) -> bytes:
        """Return more rows, the end of the stream, or the error."""
        try:
            return self._fill()
        except TunebenchError as error:
            self.done = self.failed = True
            return encode_error_batch(self._reading.schema, error)

    @property
    def closed(self) -> bool:
        return self._reading.closed

    def close(self) -> None:
        """Stop the statement if it is running."""
        self._reading.close()

    def _fill(self) -> bytes:
        while self._sink.tell() < CHUNK_BYTES:
            batch = self._reading.next_batch()
            if batch is None:
                self._writer.close()
                self._reading.close()
                self.done = True
                break
            self._writer.write_batch(batch)
        chunk = self._sink.getvalue()
        self._sink.seek(0)
        self._sink.truncate()
        return chunk


def encode_error_batch(schema: pa.Schema, error: TunebenchError) -> bytes:
    """Return the end of a stream with that schema that carries an error."""
    sink = io.BytesIO()
    writer = pa.ipc.new_stream(sink, schema)
    empty = pa.RecordBatch.from_pylist([], schema=schema)
    writer.write_batch(empty)
    begun = sink.tell()  # the schema, written with the first batch, was sent before
    writer.write_batch(empty, custom_metadata={ERROR_KEY: to_json(error.to_dict())})
    return sink.getvalue()[begun:]


class WireMessage(Enum):
    """Type of a frame between the engine and the process of a statement."""

    ORDER = b"O"  # to the process: the statement as JSON
    TAKEN = b"T"  # from it: the order was received
    STORE = b"S"  # from it: block commits until COPIED
    HELD = b"H"  # to it: commits are blocked; number of commits so far
    COPIED = b"C"
    ROWS = b"R"  # from it: a chunk of the stream
    END = b"E"  # from it: the last chunk
    BROKEN = b"B"  # from it: the last chunk, with an error
    REFUSED = b"F"  # from it, before any chunk: an error document


@dataclass(frozen=True)
class ProcessSetup:
    """Parameters of a statement's process: paths, and DuckDB's memory limit in bytes."""

    database: str
    readable: list[str]
    folder: str
    memory: int


@dataclass(frozen=True)
class StatementRequest:
    """A statement and its time limit in seconds; `limit`: that of the whole operation it is part of, for
    error messages.
    """

    sql: str
    params: list[Any] | JsonObject
    seconds: float
    limit: float


HEAD = struct.Struct(">cQ")


def encode_frame(kind: WireMessage, content: bytes = b"") -> bytes:
    """Encode a message of that type."""
    return HEAD.pack(kind.value, len(content)) + content


def read_frame(read: Callable[[int], bytes]) -> tuple[WireMessage, bytes]:
    """Read the next message. `read(n)` returns n bytes; raises EOFError if it returns fewer."""
    head = read(HEAD.size)
    if len(head) < HEAD.size:
        raise EOFError
    kind, size = HEAD.unpack(head)
    content = read(size)
    if len(content) < size:
        raise EOFError
    return WireMessage(kind), content


def read_all(chunks: Chunks) -> pa.Table:
    """Return the table of a statement from all of its chunks. Raises the error that it ends with."""
    try:
        body = [chunks.first()]
        while not chunks.done:
            body.append(chunks.next())
    finally:
        if not chunks.closed:
            chunks.close()
    return decode(b"".join(body), whole=not chunks.failed)


def decode(body: bytes, *, whole: bool) -> pa.Table:
    """Return the table of a stream. Raises the error that the stream ends with, and pyarrow.ArrowInvalid if
    it is not `whole` and carries none.
    """
    reader = pa.ipc.open_stream(pa.py_buffer(body))
    batches = []
    while True:
        try:
            batch, metadata = reader.read_next_batch_with_custom_metadata()
        except StopIteration:
            break
        if metadata is not None and ERROR_KEY in metadata:
            raise from_dict(json.loads(metadata[ERROR_KEY]))
        batches.append(batch)
    if not whole:
        raise pa.ArrowInvalid("the stream broke off")
    return pa.Table.from_batches(batches, schema=reader.schema)
