"""A GGUF file from anybody: its header is walked through before any reader sees it.

Its lengths must lie within the file: readers believe its counts, and one that names 2**60 entries would keep
them busy for ever.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from store.contract.errors import ModelError
from store.contract.model_folders import MAX_HEADER

if TYPE_CHECKING:
    from gguf import GGUFReader

MAGIC = b"GGUF"
VERSIONS = (2, 3)
STRING, ARRAY = 8, 9
SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}  # bytes of the plain types
MAX_DIMENSIONS = 4


def check_header(file: Path) -> None:
    """Raise ModelError for a file that is cut short or no GGUF file."""
    try:
        with open(file, "rb") as source:
            _Header(source, file.stat().st_size).walk()
    except (OSError, ValueError, struct.error) as error:
        raise _broken(file, error) from error


@contextmanager
def opened(file: Path) -> Iterator[GGUFReader]:
    """The library's reader. Raises ModelError where it, or what is read of it within, breaks off: a whole
    header may name tensors that lie beyond the end."""
    check_header(file)
    from gguf import GGUFReader

    try:
        yield GGUFReader(file)
    except (ValueError, TypeError, KeyError, IndexError, OverflowError) as error:
        raise _broken(file, error) from error


def _broken(file: Path, error: Exception) -> ModelError:
    return ModelError(
        f"{file.name} is cut short, or is no GGUF file: {error}.", fix="Copy or export it again."
    )


class _Header:
    """Raises ValueError for what can't be."""

    def __init__(self, source: BinaryIO, size: int) -> None:
        self.source, self.size = source, min(size, MAX_HEADER)

    def walk(self) -> None:
        """Fields, then the list of tensors."""
        if self.source.read(4) != MAGIC or self._number("<I") not in VERSIONS:
            raise ValueError("it does not begin as one")
        tensors, fields = self._number("<Q"), self._number("<Q")
        for _ in range(fields):
            self._skip(self._number("<Q"))
            self._value(self._number("<I"))
        for _ in range(tensors):
            self._skip(self._number("<Q"))
            dimensions = self._number("<I")
            if dimensions > MAX_DIMENSIONS:
                raise ValueError(f"a tensor has {dimensions} dimensions")
            self._skip(8 * dimensions + 12)

    def _value(self, kind: int) -> None:
        if kind == STRING:
            self._skip(self._number("<Q"))
        elif kind == ARRAY:
            entry, count = self._number("<I"), self._number("<Q")
            if entry == STRING:
                for _ in range(count):
                    self._skip(self._number("<Q"))
            else:
                self._skip(self._size(entry) * count)
        else:
            self._skip(self._size(kind))

    def _size(self, kind: int) -> int:
        if kind not in SIZES:
            raise ValueError(f"a field is of type {kind}")
        return SIZES[kind]

    def _number(self, form: str) -> int:
        (value,) = struct.unpack(form, self.source.read(struct.calcsize(form)))
        return int(value)

    def _skip(self, count: int) -> None:
        if self.source.tell() + count > self.size:
            raise ValueError("a length in its header is beyond its end")
        self.source.seek(count, 1)
