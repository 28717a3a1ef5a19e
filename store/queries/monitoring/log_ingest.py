"""From the logs of endpoints to the store: each line lands exactly once.

Invariant: the lines of a batch, what they add up to, and the byte offset after them are committed in one
transaction, and a batch is taken only where it begins at the offset that the store has. Whatever is killed
when, a file read again from its stored offset goes on where it stopped. Feedback finds its request in the
log, whichever of the two comes first; where the request was not logged it is kept and counted without.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

import pyarrow as pa

from store.contract.request_log import Series
from store.db.database import Database, Queryable, Transaction
from store.db.records import scalar
from store.queries.monitoring import log_lines
from store.queries.monitoring.buckets import bucket_sql

SOON_DAYS = 2  # before the feedback, in which its request is looked for first
NOBODY = ""  # who changed a monitor that is as it comes


class LogBatch(NamedTuple):
    """Lines of one file, from `old_offset` to `new_offset`, as `store.contract.events.read_events` gave
    them."""

    endpoint_id: str
    series: Series
    file: str
    lines: Sequence[Mapping[str, object]]
    old_offset: int
    new_offset: int


def offsets(db: Queryable, endpoint_id: str) -> dict[str, int]:
    """How many bytes of each file are in the store."""
    rows = db.query("SELECT file, bytes FROM log_offset WHERE endpoint_id = ?", [endpoint_id])
    return {row["file"]: row["bytes"] for row in rows.to_pylist()}


def is_there(db: Queryable, endpoint_id: str) -> bool:
    """Whether the endpoint was not deleted: its log may outlive it by a moment."""
    return bool(scalar(db.query("SELECT count(*) FROM endpoint WHERE endpoint_id = ?", [endpoint_id])))


def take(database: Database, batch: LogBatch, at: datetime) -> int:
    """Take a batch in; how many of its lines are in the store for it, 0 where it was taken before, or where
    the endpoint was deleted meanwhile."""
    with database.transaction() as tx:
        if not is_there(tx, batch.endpoint_id):
            return 0
        if offsets(tx, batch.endpoint_id).get(batch.file, 0) != batch.old_offset:
            return 0
        read = log_lines.requests if batch.series == "requests" else log_lines.feedback
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
    next_place = int(scalar(tx.query("SELECT next_place FROM monitor WHERE endpoint_id = ?", [endpoint_id])))
    places = pa.array(range(next_place, next_place + len(rows)), pa.int64())
    with tx.table("fresh", rows.append_column("place", places)):
        tx.execute("INSERT INTO request BY NAME SELECT * FROM fresh")
        add_figures(tx, "fresh")
        if scalar(tx.query(_WAITING, [endpoint_id])):
            tx.execute(_MATCH_LATER)
    tx.execute(
        "UPDATE monitor SET next_place = ? WHERE endpoint_id = ?", [next_place + len(rows), endpoint_id]
    )


def _add_feedback(tx: Transaction, rows: pa.Table) -> None:
    with tx.table("fresh", rows):
        tx.execute(_ADD_FEEDBACK)
        tx.execute(_MARK_LAST)
        if scalar(tx.query(_LEFT)):  # labels that come late: all requests are looked through
            tx.execute(_MATCH_EARLIER)


def add_figures(tx: Transaction, source: str) -> None:
    """Add the requests of a table to the figures of their minutes and of their hours."""
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
# A shadow's answer has an id of its own and was seen by nobody: no feedback is of it.
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
        SELECT {_KEY}, 'latency', {bucket_sql("seconds")}, 1 FROM batch WHERE status < 400 UNION ALL
        SELECT {_KEY}, 'first_token', {bucket_sql("first_token_seconds")}, 1 FROM batch
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
