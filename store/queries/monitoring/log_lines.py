"""Lines of an endpoint's log as Arrow tables; what is no such line is counted and left out."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import pyarrow as pa

MOST = 2**40  # of any number: sums of millions of them stay in 64 bits


class _Column(NamedTuple):
    """A column, the field of the line that fills it, and what turns one into the other; `needed`: a line
    without it is none."""

    name: str
    field: str
    type: pa.DataType
    read: Callable[[Any], Any]
    needed: bool = False


class _Malformed(ValueError):
    """A field that holds what it can't."""


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise _Malformed
    return value.encode("utf-8", "replace").decode("utf-8")  # half of a surrogate pair is no text


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _Malformed
    if not abs(value) <= MOST:  # NaN is not either
        raise _Malformed
    return float(value)


def _amount(value: Any) -> float:
    if (number := _number(value)) < 0:
        raise _Malformed
    return number


def _count(value: Any) -> int:
    number = _amount(value)
    if number != int(number):
        raise _Malformed
    return int(number)


def _status(value: Any) -> int:
    if not 100 <= (status := _count(value)) <= 999:
        raise _Malformed
    return status


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _Malformed
    return value


def _moment(value: Any) -> datetime:
    try:
        return datetime.fromtimestamp(_number(value), UTC).replace(tzinfo=None)
    except (OverflowError, OSError, ValueError) as error:
        raise _Malformed from error


def _messages(value: Any) -> str:
    if not isinstance(value, list):
        raise _Malformed
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (
        ValueError,
        RecursionError,
    ) as error:  # NaN, which is no JSON, or nested deeper than anybody talks
        raise _Malformed from error
    return text.encode("utf-8", "replace").decode("utf-8")


_MOMENT = pa.timestamp("us")
_REQUEST = (
    _Column("request_id", "request_id", pa.string(), _text, True),
    _Column("asked_at", "at", _MOMENT, _moment, True),
    _Column("kind", "kind", pa.string(), _text, True),
    _Column("model", "model", pa.string(), _text, True),
    _Column("version", "version", pa.string(), _text, True),
    _Column("role", "role", pa.string(), _text, True),
    _Column("person_id", "person_id", pa.string(), _text),
    _Column("caller", "user", pa.string(), _text),
    _Column("status", "status", pa.int16(), _status, True),
    _Column("error", "error", pa.string(), _text),
    _Column("prompt_tokens", "prompt_tokens", pa.int64(), _count),
    _Column("completion_tokens", "completion_tokens", pa.int64(), _count),
    _Column("first_token_seconds", "first_token_seconds", pa.float64(), _amount),
    _Column("seconds", "seconds", pa.float64(), _amount, True),
    _Column("finish_reason", "finish_reason", pa.string(), _text),
    _Column("mean_logprob", "mean_logprob", pa.float64(), _number),
    _Column("label", "label", pa.string(), _text),
    _Column("confidence", "confidence", pa.float64(), _number),
    _Column("abstained", "abstained", pa.bool_(), _flag, True),
    _Column("input_characters", "input_characters", pa.int64(), _count, True),
    _Column("output_characters", "output_characters", pa.int64(), _count),
    _Column("messages", "messages", pa.string(), _messages),
    _Column("output", "output", pa.string(), _text),
    _Column("redacted", "redacted", pa.int64(), _count, True),
    _Column("grouped_by", "group", pa.string(), _text),
    _Column("dealt", "dealt", pa.string(), _text),
    _Column("dealt_to", "dealt_to", pa.string(), _text),
    _Column("copy_of", "copy_of", pa.string(), _text),
    _Column("calls", "calls", pa.int64(), _count),
    _Column("invalid_calls", "invalid_calls", pa.int64(), _count),
)
_FEEDBACK = (
    _Column("feedback_id", "feedback_id", pa.string(), _text, True),
    _Column("request_id", "request_id", pa.string(), _text, True),
    _Column("given_at", "at", _MOMENT, _moment, True),
    _Column("person_id", "person_id", pa.string(), _text),
    _Column("kind", "kind", pa.string(), _text, True),
    _Column("value", "value", pa.float64(), _number),
    _Column("text", "text", pa.string(), _text),
    _Column("comment", "comment", pa.string(), _text, True),
)


class LogRows(NamedTuple):
    """rows: of the lines that could be read; malformed: how many could not."""

    rows: pa.Table
    malformed: int


def requests(lines: Sequence[Mapping[str, object]], endpoint_id: str) -> LogRows:
    """Of a file of requests; whose they are says the folder, not the line."""
    return _rows(_REQUEST, lines, endpoint_id)


def feedback(lines: Sequence[Mapping[str, object]], endpoint_id: str) -> LogRows:
    """Of a file of feedback."""
    return _rows(_FEEDBACK, lines, endpoint_id)


def _rows(columns: tuple[_Column, ...], lines: Sequence[Mapping[str, object]], endpoint_id: str) -> LogRows:
    rows = []
    for line in lines:
        try:
            rows.append([_value(column, line) for column in columns])
        except _Malformed:
            continue
    arrays = [pa.array([row[place] for row in rows], column.type) for place, column in enumerate(columns)]
    table = pa.table(arrays, names=[column.name for column in columns])
    owner = pa.array([endpoint_id] * len(rows), pa.string())
    return LogRows(table.append_column("endpoint_id", owner), len(lines) - len(rows))


def _value(column: _Column, line: Mapping[str, object]) -> Any:
    value = line.get(column.field)
    if value is None:
        if column.needed:
            raise _Malformed
        return None
    return column.read(value)
