"""From endpoint logs to the store: file locations, lines as Arrow tables, and exactly-once ingestion.

Malformed lines are counted and skipped.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pyarrow as pa

from store.core.home import Home
from store.db.database import Database, Queryable, Transaction
from store.db.records import read_scalar
from store.monitoring.traffic import build_bucket_sql

# Files of an endpoint.
#
# endpoints/ID/log/requests-NNNNNN.jsonl    one line per request (`store.serving.schemas`)
# endpoints/ID/log/feedback-NNNNNN.jsonl    one line per feedback item (`…serving.feedback_line`)
# endpoints/ID/monitor/                     fitted references
#
# Files are append-only, and a new file gets the next number. Readers continue from a byte offset and take
# complete lines (`store.core.job_folder.read_events`).

Series = Literal["requests", "feedback"]
_NAME = re.compile(r"(requests|feedback)-(\d+)\.jsonl")


def get_log_folder(home: Home, endpoint_id: str) -> Path:
    """The folder that the gateway writes to."""
    return home.path / "endpoints" / endpoint_id / "log"


def get_monitor_folder(home: Home, endpoint_id: str) -> Path:
    """The folder for files of the monitor."""
    return home.path / "endpoints" / endpoint_id / "monitor"


def get_next_file(path: Path) -> Path:
    """The next file in a series."""
    series, _, number = path.stem.rpartition("-")
    return path.with_name(f"{series}-{int(number) + 1:06}{path.suffix}")


def list_log_files(home: Home, endpoint_id: str, series: Series) -> list[Path]:
    """The files of one series, by number."""
    numbered = []
    try:
        for path in get_log_folder(home, endpoint_id).iterdir():
            name = _NAME.fullmatch(path.name)
            if name and name[1] == series:
                numbered.append((int(name[2]), path))
    except FileNotFoundError:
        return []
    return [path for _, path in sorted(numbered)]


MAX_NUMBER = 2**40  # limit of any number, so that sums stay within 64 bits


class _Column(NamedTuple):
    """A column, the log field it comes from, and its parser. needed: a line without it is malformed."""

    name: str
    field: str
    type: pa.DataType
    read: Callable[[Any], Any]
    needed: bool = False


class _MalformedField(ValueError):
    """A field with an invalid value."""


def _parse_text(value: Any) -> str:
    if not isinstance(value, str):
        raise _MalformedField
    return value.encode("utf-8", "replace").decode("utf-8")  # drops unpaired surrogates


def _parse_number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _MalformedField
    if not abs(value) <= MAX_NUMBER:  # also rejects NaN
        raise _MalformedField
    return float(value)


def _parse_amount(value: Any) -> float:
    if (number := _parse_number(value)) < 0:
        raise _MalformedField
    return number


def _parse_count(value: Any) -> int:
    number = _parse_amount(value)
    if number != int(number):
        raise _MalformedField
    return int(number)


def _parse_status(value: Any) -> int:
    if not 100 <= (status := _parse_count(value)) <= 999:
        raise _MalformedField
    return status


def _parse_flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _MalformedField
    return value


def _parse_time(value: Any) -> datetime:
    try:
        return datetime.fromtimestamp(_parse_number(value), UTC).replace(tzinfo=None)
    except (OverflowError, OSError, ValueError) as error:
        raise _MalformedField from error


def _parse_messages(value: Any) -> str:
    if not isinstance(value, list):
        raise _MalformedField
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (
        ValueError,
        RecursionError,
    ) as error:  # NaN, or nested too deeply
        raise _MalformedField from error
    return text.encode("utf-8", "replace").decode("utf-8")


_MOMENT = pa.timestamp("us")
_REQUEST = (
    _Column("request_id", "request_id", pa.string(), _parse_text, True),
    _Column("asked_at", "at", _MOMENT, _parse_time, True),
    _Column("kind", "kind", pa.string(), _parse_text, True),
    _Column("model", "model", pa.string(), _parse_text, True),
    _Column("version", "version", pa.string(), _parse_text, True),
    _Column("role", "role", pa.string(), _parse_text, True),
    _Column("person_id", "person_id", pa.string(), _parse_text),
    _Column("caller", "user", pa.string(), _parse_text),
    _Column("status", "status", pa.int16(), _parse_status, True),
    _Column("error", "error", pa.string(), _parse_text),
    _Column("prompt_tokens", "prompt_tokens", pa.int64(), _parse_count),
    _Column("completion_tokens", "completion_tokens", pa.int64(), _parse_count),
    _Column("first_token_seconds", "first_token_seconds", pa.float64(), _parse_amount),
    _Column("seconds", "seconds", pa.float64(), _parse_amount, True),
    _Column("finish_reason", "finish_reason", pa.string(), _parse_text),
    _Column("mean_logprob", "mean_logprob", pa.float64(), _parse_number),
    _Column("label", "label", pa.string(), _parse_text),
    _Column("confidence", "confidence", pa.float64(), _parse_number),
    _Column("abstained", "abstained", pa.bool_(), _parse_flag, True),
    _Column("input_characters", "input_characters", pa.int64(), _parse_count, True),
    _Column("output_characters", "output_characters", pa.int64(), _parse_count),
    _Column("messages", "messages", pa.string(), _parse_messages),
    _Column("output", "output", pa.string(), _parse_text),
    _Column("redacted", "redacted", pa.int64(), _parse_count, True),
    _Column("grouped_by", "group", pa.string(), _parse_text),
    _Column("dealt", "dealt", pa.string(), _parse_text),
    _Column("dealt_to", "dealt_to", pa.string(), _parse_text),
    _Column("copy_of", "copy_of", pa.string(), _parse_text),
    _Column("calls", "calls", pa.int64(), _parse_count),
    _Column("invalid_calls", "invalid_calls", pa.int64(), _parse_count),
)
_FEEDBACK = (
    _Column("feedback_id", "feedback_id", pa.string(), _parse_text, True),
    _Column("request_id", "request_id", pa.string(), _parse_text, True),
    _Column("given_at", "at", _MOMENT, _parse_time, True),
    _Column("person_id", "person_id", pa.string(), _parse_text),
    _Column("kind", "kind", pa.string(), _parse_text, True),
    _Column("value", "value", pa.float64(), _parse_number),
    _Column("text", "text", pa.string(), _parse_text),
    _Column("comment", "comment", pa.string(), _parse_text, True),
)


class LogRows(NamedTuple):
    """rows: of valid lines; malformed: number of invalid lines."""

    rows: pa.Table
    malformed: int


def parse_requests(lines: Sequence[Mapping[str, object]], endpoint_id: str) -> LogRows:
    """Parse a requests file. The endpoint comes from the folder, not from the line."""
    return _parse_rows(_REQUEST, lines, endpoint_id)


def parse_feedback(lines: Sequence[Mapping[str, object]], endpoint_id: str) -> LogRows:
    """Parse a feedback file."""
    return _parse_rows(_FEEDBACK, lines, endpoint_id)


def _parse_rows(
    columns: tuple[_Column, ...], lines: Sequence[Mapping[str, object]], endpoint_id: str
) -> LogRows:
    rows = []
    for line in lines:
        try:
            rows.append([_parse_value(column, line) for column in columns])
        except _MalformedField:
            continue
    arrays = [pa.array([row[place] for row in rows], column.type) for place, column in enumerate(columns)]
    table = pa.table(arrays, names=[column.name for column in columns])
    owner = pa.array([endpoint_id] * len(rows), pa.string())
    return LogRows(table.append_column("endpoint_id", owner), len(lines) - len(rows))


def _parse_value(column: _Column, line: Mapping[str, object]) -> Any:
    value = line.get(column.field)
    if value is None:
        if column.needed:
            raise _MalformedField
        return None
    return column.read(value)


# Exactly-once ingestion of endpoint logs.
#
# Invariant: the lines of a batch, their figures, and the byte offset after them are committed in one
# transaction, and a batch is accepted only if it starts at the stored offset. After a crash, reading
# continues from there. Feedback is matched to its request, whichever comes first; feedback without a logged
# request is stored and counted separately.

SOON_DAYS = 2  # requests this recent are searched first
NOBODY = ""  # who changed a monitor with default settings


class LogBatch(NamedTuple):
    """Lines of one file from `old_offset` to `new_offset`, as returned by
    `store.core.job_folder.read_events`."""

    endpoint_id: str
    series: Series
    file: str
    lines: Sequence[Mapping[str, object]]
    old_offset: int
    new_offset: int


def read_offsets(db: Queryable, endpoint_id: str) -> dict[str, int]:
    """Ingested bytes of each file."""
    rows = db.query("SELECT file, bytes FROM log_offset WHERE endpoint_id = ?", [endpoint_id])
    return {row["file"]: row["bytes"] for row in rows.to_pylist()}


def has_endpoint(db: Queryable, endpoint_id: str) -> bool:
    """Whether the endpoint exists; its log may briefly outlive it."""
    return bool(read_scalar(db.query("SELECT count(*) FROM endpoint WHERE endpoint_id = ?", [endpoint_id])))


def ingest_batch(database: Database, batch: LogBatch, at: datetime) -> int:
    """Ingest a batch. Returns the number of rows stored, 0 if it was ingested before or the endpoint was
    deleted."""
    with database.transaction() as tx:
        if not has_endpoint(tx, batch.endpoint_id):
            return 0
        if read_offsets(tx, batch.endpoint_id).get(batch.file, 0) != batch.old_offset:
            return 0
        read = parse_requests if batch.series == "requests" else parse_feedback
        rows, malformed = read(batch.lines, batch.endpoint_id)
        if len(rows) and batch.series == "requests":
            _add_requests(tx, rows, batch.endpoint_id, at)
        elif len(rows):
            _add_feedback(tx, rows)
        tx.execute(
            "INSERT INTO log_offset VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
            " bytes = excluded.bytes, lines = lines + excluded.lines, torn = torn + excluded.torn",
            [batch.endpoint_id, batch.file, batch.new_offset, len(batch.lines), malformed],
        )
        return len(rows)


def _add_requests(tx: Transaction, rows: pa.Table, endpoint_id: str, at: datetime) -> None:
    tx.execute(
        "INSERT INTO monitor VALUES (?, '{}', 0, 0, 0, NULL, '[]', ?, ?, NULL, NULL) ON CONFLICT DO NOTHING",
        [endpoint_id, NOBODY, at],
    )
    next_place = int(
        read_scalar(tx.query("SELECT next_place FROM monitor WHERE endpoint_id = ?", [endpoint_id]))
    )
    places = pa.array(range(next_place, next_place + len(rows)), pa.int64())
    with tx.table("fresh", rows.append_column("place", places)):
        tx.execute("INSERT INTO request BY NAME SELECT * FROM fresh")
        add_figures(tx, "fresh")
        if read_scalar(tx.query(_WAITING, [endpoint_id])):
            tx.execute(_MATCH_LATER)
    tx.execute(
        "UPDATE monitor SET next_place = ? WHERE endpoint_id = ?", [next_place + len(rows), endpoint_id]
    )


def _add_feedback(tx: Transaction, rows: pa.Table) -> None:
    with tx.table("fresh", rows):
        tx.execute(_ADD_FEEDBACK)
        tx.execute(_MARK_LAST)
        if read_scalar(tx.query(_LEFT)):  # late labels: search all requests
            tx.execute(_MATCH_EARLIER)


def add_figures(tx: Transaction, source: str) -> None:
    """Add the requests of a table to the figures by minute and by hour."""
    for unit in ("minute", "hour"):
        merged = tx.query(_MERGED.format(source=source, unit=unit))
        with tx.table("merged", merged):
            tx.execute(
                f"DELETE FROM request_{unit} AS r USING merged m WHERE r.endpoint_id = m.endpoint_id"
                " AND r.version = m.version AND r.role = m.role AND r.starts_at = m.starts_at"
            )
            tx.execute(f"INSERT INTO request_{unit} BY NAME SELECT * FROM merged")


_CORRECT = """
    CASE WHEN f.kind <> 'label' OR f.text IS NULL THEN NULL
         WHEN r.abstained THEN false
         WHEN r.label IS NOT NULL THEN trim(r.label) = trim(f.text)
         ELSE trim(r.output) = trim(f.text) END
"""
_COPIED = ("version", "role", "caller", "grouped_by", "asked_at", "model", "dealt", "dealt_to")
_OF_REQUEST = ", ".join(f"{name} = r.{name}" for name in _COPIED)
_WAITING = "SELECT count(*) FROM feedback WHERE endpoint_id = ? AND version IS NULL"
_MATCH_LATER = f"""
    UPDATE feedback AS f SET {_OF_REQUEST}, correct = {_CORRECT}
    FROM fresh r WHERE f.version IS NULL AND f.endpoint_id = r.endpoint_id AND f.request_id = r.request_id
        AND r.role <> 'shadow'
"""
# A shadow response has its own id and is not returned to anyone, so no feedback refers to it.
_ADD_FEEDBACK = f"""
    INSERT INTO feedback BY NAME
    SELECT f.*, {", ".join(f"r.{name}" for name in _COPIED)}, {_CORRECT} AS correct, true AS is_last
    FROM fresh f LEFT JOIN (
        SELECT * FROM request SEMI JOIN fresh USING (endpoint_id, request_id)
        WHERE role <> 'shadow' AND asked_at >= (SELECT min(given_at) FROM fresh) - INTERVAL {SOON_DAYS} DAY
        QUALIFY row_number() OVER (PARTITION BY endpoint_id, request_id ORDER BY place DESC) = 1
    ) r USING (endpoint_id, request_id)
"""
_MARK_LAST = """
    UPDATE feedback AS f SET is_last = false
    FROM (
        SELECT feedback_id FROM feedback SEMI JOIN fresh USING (endpoint_id, request_id)
        QUALIFY row_number()
            OVER (PARTITION BY endpoint_id, request_id, person_id, kind ORDER BY given_at DESC, feedback_id)
            > 1
    ) earlier
    WHERE f.is_last AND f.feedback_id = earlier.feedback_id
"""
_LEFT = """
    SELECT count(*) FROM feedback SEMI JOIN fresh USING (endpoint_id, feedback_id) WHERE version IS NULL
"""
_MATCH_EARLIER = f"""
    UPDATE feedback AS f SET {_OF_REQUEST}, correct = {_CORRECT}
    FROM (SELECT * FROM request SEMI JOIN fresh USING (endpoint_id, request_id) WHERE role <> 'shadow') r
    WHERE f.version IS NULL AND f.endpoint_id = r.endpoint_id AND f.request_id = r.request_id
"""
_KEY = "endpoint_id, version, role, starts_at"
_SUMS = (
    "requests, errors, refused, abstained, prompt_tokens, completion_tokens, calls, invalid_calls, seconds"
)
_MERGED = f"""
    WITH batch AS (SELECT *, date_trunc('{{unit}}', asked_at) AS starts_at FROM {{source}}),
    touched AS (SELECT DISTINCT {_KEY} FROM batch),
    past AS (SELECT m.* FROM request_{{unit}} m SEMI JOIN touched USING ({_KEY})),
    single AS (
        SELECT {_KEY}, {_SUMS} FROM past UNION ALL
        SELECT {_KEY}, 1, (status >= 500)::BIGINT, (status BETWEEN 400 AND 499)::BIGINT, abstained::BIGINT,
               coalesce(prompt_tokens, 0), coalesce(completion_tokens, 0), coalesce(calls, 0),
               coalesce(invalid_calls, 0), if(status < 400, seconds, 0)
        FROM batch
    ),
    sums AS (
        SELECT {_KEY}, {", ".join(f"sum({name})::BIGINT AS {name}" for name in _SUMS.split(", ")[:-1])},
               sum(seconds) AS seconds
        FROM single GROUP BY ALL
    ),
    timed AS (
        SELECT {_KEY}, 'latency' AS what, unnest(latency, recursive := true) FROM past UNION ALL
        SELECT {_KEY}, 'first_token', unnest(first_token, recursive := true) FROM past UNION ALL
        SELECT {_KEY}, 'latency', {build_bucket_sql("seconds")}, 1 FROM batch WHERE status < 400 UNION ALL
        SELECT {_KEY}, 'first_token', {build_bucket_sql("first_token_seconds")}, 1 FROM batch
        WHERE status < 400 AND first_token_seconds IS NOT NULL
    ),
    counted AS (SELECT {_KEY}, what, bucket, sum(n)::BIGINT AS n FROM timed GROUP BY ALL),
    lists AS (
        SELECT {_KEY},
            list(struct_pack(bucket := bucket, n := n) ORDER BY bucket) FILTER (what = 'latency') AS latency,
            list(struct_pack(bucket := bucket, n := n)
                ORDER BY bucket) FILTER (what = 'first_token') AS first_token
        FROM counted GROUP BY ALL
    )
    SELECT sums.*, coalesce(latency, []) AS latency, coalesce(first_token, []) AS first_token
    FROM sums LEFT JOIN lists USING ({_KEY})
"""
