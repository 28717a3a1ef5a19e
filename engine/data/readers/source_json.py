"""A row as it stood in the file, as the bytes of one JSON object that every JSON parser takes."""

from __future__ import annotations

import json
import math
from typing import Any

from engine.data.readers.raw_rows import FileRow


def plain_json(value: Any) -> Any:
    """`value` with what JSON has no word for put into words: NaN and infinities null, bytes counted."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(key): plain_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_json(item) for item in value]
    if value is None or isinstance(value, str | int | float):
        return value
    return _in_words(value)


def _in_words(value: Any) -> str:
    return f"<{len(value)} bytes>" if isinstance(value, bytes) else str(value)


_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, default=_in_words).encode


def encode(row: FileRow) -> bytes:
    """The row as JSON in UTF-8. Raises RecursionError where it nests too deeply."""
    try:
        return _encode(row).encode("utf-8")
    except ValueError:  # NaN, or half a surrogate pair, which only an escape can hold
        return json.dumps(plain_json(row), default=_in_words).encode("ascii")
