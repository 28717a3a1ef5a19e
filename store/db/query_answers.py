"""Serialization of query results as JSON and Arrow tables, and back to their types.

A result is a line with the offsets of its parts, a JSON document, and the tables of the document as Arrow IPC
streams. Values that JSON lacks (times, decimals, bytes, tables) are objects with a single key, which is
random for each result, so that no user text can be mistaken for one. The rest is restored from the return
type of the function (`store.core.documents`).
"""

from __future__ import annotations

import base64
import dataclasses
import datetime
import json
import secrets
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import (
    Any,
)

import pyarrow as pa

from store.core.documents import as_json, get_reviver

MEDIA_TYPE = "application/vnd.tunebench.answer"


def encode(value: Any) -> bytes:
    """Serialize a result to bytes. Raises TypeError if it can't be serialized."""
    try:
        return _encode(value)
    except TypeError:  # a key that JSON lacks: rare, and ten times slower
        return _encode(_encode_as_pairs(value))


def _encode(value: Any) -> bytes:
    tag, tables, tagged = f"${secrets.token_hex(8)}", [], False

    def spell(part: Any) -> Any:
        nonlocal tagged
        if isinstance(part, pa.Table):
            tables.append(_encode_table(part))
            tagged = True
            return {tag: ["table", len(tables) - 1]}
        if (spelled := _encode_special_value(part)) is not None:
            tagged = True
            return {tag: spelled}
        return as_json(part)

    document = json.dumps(value, default=spell, ensure_ascii=False, separators=(",", ":")).encode()
    head = {"tag": tag if tagged else None, "sizes": [len(document), *map(len, tables)]}
    return b"".join((json.dumps(head).encode(), b"\n", document, *tables))


def decode(content: bytes, returns: Any) -> Any:
    """Restore a result of type `returns`. Raises ValueError if bytes are missing."""
    head_line, separator, rest = content.partition(b"\n")
    head = json.loads(head_line)
    if not separator or len(rest) != sum(head["sizes"]):
        raise ValueError("the answer broke off")
    parts, begin = [], 0
    for size in head["sizes"]:
        parts.append(rest[begin : begin + size])
        begin += size
    tag = head["tag"]

    def read(part: dict[str, Any]) -> Any:
        if len(part) == 1 and tag in part:
            kind, text = part[tag]
            return pa.ipc.open_stream(parts[text + 1]).read_all() if kind == "table" else _READ[kind](text)
        return part

    value = json.loads(parts[0], object_hook=read if tag else None)
    convert = get_reviver(returns)
    return convert(value) if convert else value


def _encode_as_pairs(value: Any) -> Any:
    """Return the value with dicts whose keys are tuples or sets replaced by lists of pairs."""
    if isinstance(value, dict):
        pairs = [(key, _encode_as_pairs(part)) for key, part in value.items()]
        odd = any(isinstance(key, tuple | frozenset) for key in value)
        return pairs if odd else dict(pairs)
    if isinstance(value, list | tuple):
        return [_encode_as_pairs(part) for part in value]
    return _encode_as_pairs(as_json(value)) if dataclasses.is_dataclass(value) else value


def _encode_special_value(value: Any) -> list[Any] | None:
    """Return kind and text for a value that JSON lacks; None for any other."""
    if isinstance(value, datetime.datetime):
        return ["datetime", value.isoformat()]
    if isinstance(value, datetime.date):
        return ["date", value.isoformat()]
    if isinstance(value, datetime.time):
        return ["time", value.isoformat()]
    if isinstance(value, datetime.timedelta):
        return ["timedelta", value.total_seconds()]
    if isinstance(value, Decimal):
        return ["decimal", str(value)]
    if isinstance(value, bytes):
        return ["bytes", base64.b64encode(value).decode()]
    return None


_READ: Mapping[str, Callable[[Any], Any]] = {
    "datetime": datetime.datetime.fromisoformat,
    "date": datetime.date.fromisoformat,
    "time": datetime.time.fromisoformat,
    "timedelta": lambda seconds: datetime.timedelta(seconds=seconds),
    "decimal": Decimal,
    "bytes": base64.b64decode,
}


def _encode_table(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())
