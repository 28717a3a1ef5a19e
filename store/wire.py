"""How rows travel from engine to client: an Arrow IPC stream that can end with an error.

A failure after the first rows is an empty batch whose metadata holds the error document. Both ends are
here, so that they agree.
"""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

import pyarrow as pa

from store.errors import QueryError, from_dict
from store.records import to_json

if TYPE_CHECKING:
    from store.reading import Reading

MEDIA_TYPE = "application/vnd.apache.arrow.stream"
ERROR_KEY = b"tunebench.error"
CHUNK_BYTES = 256 * 1024  # a result smaller than this travels in one piece


class Encoder:
    """Turns a reading into chunks of bytes."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._sink = io.BytesIO()
        self.done = self.failed = False

    def first(self) -> bytes:
        """Schema and first rows. Raises QueryError where the statement fails before CHUNK_BYTES of them."""
        self._reading.start()
        self._writer = pa.ipc.new_stream(self._sink, self._reading.schema)
        return self._fill()

    def next(self) -> bytes:
        """More rows, the end of the stream, or what went wrong."""
        try:
            return self._fill()
        except QueryError as error:
            self.done = self.failed = True
            empty = pa.RecordBatch.from_pylist([], schema=self._reading.schema)
            self._writer.write_batch(empty, custom_metadata={ERROR_KEY: to_json(error.to_dict())})
            return self._sink.getvalue()

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


def decode(body: bytes, *, whole: bool) -> pa.Table:
    """The table of a stream. Raises the error that the stream ends with, and pyarrow.ArrowInvalid where
    it is not `whole` and names none.
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
