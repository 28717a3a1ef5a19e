"""Reader of a GGUF file's header fields, for untrusted files.

Arrays are skipped, and strings stay in the file until requested. The package gguf would create an object
for every element: gigabytes for a file of 100 MB.
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

from store.core.errors import ModelError

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MAX_FIELDS = 100_000
MAX_ELEMENTS = 10_000_000  # elements of a string array, which are skipped one by one
TEXT, ARRAY = 8, 9  # value types
FORMATS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
TOKENS = "tokenizer.ggml.tokens"

TextSpan = tuple[int, int]  # of a string: offset and size in bytes


class GgufHeader:
    """The header's fields.

    Raises ModelError if the file isn't GGUF, or a requested field has another type.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._numbers: dict[str, int | float] = {}
        self._texts: dict[str, TextSpan] = {}
        self._tokens: TextSpan = (0, 0)  # offset of the array, and number of tokens
        try:
            with path.open("rb") as file:
                self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            self._read()
        except (OSError, ValueError, struct.error) as error:
            raise self._build_error(str(error)) from error

    def get_text(self, name: str) -> str:
        """Return a string field; empty if it doesn't exist."""
        if name in self._numbers:
            raise self._build_error(f"{name} is not a string")
        return self._decode_text(self._texts.get(name, (0, 0)))

    def get_number(self, name: str) -> int | None:
        """Return an integer field; None if it doesn't exist."""
        number = self._numbers.get(name)
        if name in self._texts or isinstance(number, float):
            raise self._build_error(f"{name} is not an integer")
        return number

    def get_token_text(self, name: str) -> str:
        """Return the text of the token whose id the field holds; empty if it doesn't exist."""
        number = self.get_number(name)
        if number is None:
            return ""
        offset, count = self._tokens
        if not 0 <= number < count:
            raise self._build_error(f"{name} is {number:,}, and there are {count:,} tokens")
        for _ in range(number):
            offset = self._skip_text(offset)
        return self._decode_text(self._locate_text(offset))

    def _read(self) -> None:
        if self._bytes[:4] != MAGIC:
            raise ValueError("its first bytes are not those of a GGUF file")
        version, _, fields = struct.unpack_from("<IQQ", self._bytes, 4)
        if version not in VERSIONS:
            raise ValueError(f"its version is {version}")
        if fields > MAX_FIELDS:
            raise ValueError(f"it has {fields:,} fields, over {MAX_FIELDS:,}")
        offset = 24
        for _ in range(fields):
            name = self._decode_text(self._locate_text(offset))
            offset = self._skip_text(offset)
            (kind,) = struct.unpack_from("<I", self._bytes, offset)
            offset = self._read_value(name, kind, offset + 4)

    def _read_value(self, name: str, kind: int, offset: int) -> int:
        """Read a value, and return the offset of the next field."""
        if kind == TEXT:
            self._texts[name] = self._locate_text(offset)
            return self._skip_text(offset)
        if kind == ARRAY:
            return self._read_array(name, offset)
        self._numbers[name] = struct.unpack_from("<" + self._get_format(kind), self._bytes, offset)[0]
        return offset + struct.calcsize(self._get_format(kind))

    def _read_array(self, name: str, offset: int) -> int:
        kind, count = struct.unpack_from("<IQ", self._bytes, offset)
        offset += 12
        if kind != TEXT:
            return self._check_range(offset, count * struct.calcsize(self._get_format(kind)))
        if count > MAX_ELEMENTS:
            raise ValueError(f"{name[:100]} has {count:,} texts, over {MAX_ELEMENTS:,}")
        if name == TOKENS:
            self._tokens = (offset, count)
        for _ in range(count):
            offset = self._skip_text(offset)
        return offset

    def _get_format(self, kind: int) -> str:
        if kind not in FORMATS:
            raise ValueError(f"a value is of the kind {kind}")
        return FORMATS[kind]

    def _locate_text(self, offset: int) -> TextSpan:
        (size,) = struct.unpack_from("<Q", self._bytes, offset)
        self._check_range(offset + 8, size)
        return offset + 8, size

    def _skip_text(self, offset: int) -> int:
        return sum(self._locate_text(offset))

    def _check_range(self, offset: int, size: int) -> int:
        """Return the end of the given range, checking that it is within the file."""
        if offset + size > len(self._bytes):
            raise ValueError("it ends in the middle of its fields")
        return offset + size

    def _decode_text(self, span: TextSpan) -> str:
        offset, size = span
        return self._bytes[offset : offset + size].decode("utf-8", "replace")

    def _build_error(self, reason: str) -> ModelError:
        return ModelError(
            f"{self._path} is not a readable GGUF file: {reason}.", fix="Export it again.", field="model"
        )
