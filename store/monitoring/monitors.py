"""Monitors: reference, test states, and unprocessed requests of each endpoint; scheduled evaluations and bias
checks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa

from store.core.errors import NotFoundError
from store.core.figure_schemas import Figure
from store.core.monitoring_schemas import BaseMeasurement, Monitor, PaceWatch, ReferenceFacts, TestState
from store.db.named_query import named_query
from store.db.records import read_records, read_scalar, to_json
from store.monitoring.config import LIMITS, MonitorSettings, find_check_config

if TYPE_CHECKING:
    from store.db.database import Queryable, Transaction

KIND = "watch"  # of check jobs
JSON_COLUMNS = ["config", "reference", "states", "base_look", "pace"]
OF_ENDPOINT = (
    *("request", "request_signal", "request_minute", "request_hour", "feedback", "signal_hour"),
    *(
        "monitor_alert",
        "golden_run",
        "bias_run",
        "side_by_side",
        "request_judgement",
        "log_offset",
        "monitor",
    ),
)


@dataclass(kw_only=True)
class EndpointName:
    """Id and name of an endpoint."""

    endpoint_id: str
    name: str


@dataclass(kw_only=True)
class MalformedLineCounts:
    """Ingested log lines, and those that were malformed."""

    lines: int
    torn: int


class ReferenceRows(NamedTuple):
    """Requests that form a reference. start, end: of a window, null for the first requests."""

    most: int
    start: datetime | None
    end: datetime | None


@named_query
def endpoints(db: Queryable) -> list[EndpointName]:
    """All endpoints, by name."""
    return read_records(db.query("SELECT endpoint_id, name FROM endpoint ORDER BY name"), EndpointName)


@named_query
def endpoint(db: Queryable, name: str) -> EndpointName:
    """By id or name. Raises NotFoundError that lists available endpoints."""
    sql = (
        "SELECT endpoint_id, name FROM endpoint WHERE endpoint_id = $1 OR name = $1"
        " ORDER BY endpoint_id <> $1"
    )
    rows = read_records(db.query(sql, [name]), EndpointName)
    if not rows:
        there = ", ".join(row.name for row in endpoints(db)) or "none"
        raise NotFoundError(
            f"Endpoint {name!r} does not exist.", fix=f"Available endpoints: {there}.", field="endpoint"
        )
    return rows[0]


@named_query
def find(db: Queryable, endpoint_id: str) -> Monitor | None:
    """The monitor; None for an endpoint without requests."""
    rows = read_records(
        db.query("SELECT * FROM monitor WHERE endpoint_id = ?", [endpoint_id]), Monitor, JSON_COLUMNS
    )
    return rows[0] if rows else None


def list_monitors(db: Queryable) -> list[Monitor]:
    """Monitors of all endpoints with requests, by id, even without a log."""
    return read_records(db.query("SELECT * FROM monitor ORDER BY endpoint_id"), Monitor, JSON_COLUMNS)


def get_settings(monitor: Monitor | None) -> MonitorSettings:
    """Stored settings or defaults, without checks of features that are not installed."""
    stored = monitor.config if monitor else {}
    return MonitorSettings.parse(
        {name: value for name, value in stored.items() if name != "bias" or find_check_config(name)}
    )


def configure(tx: Transaction, endpoint_id: str, config: MonitorSettings, by: str, at: datetime) -> None:
    """Replace the settings. Tests restart if a setting that they depend on has changed."""
    past = find(tx, endpoint_id)
    tx.execute(
        "INSERT INTO monitor VALUES (?, ?, 0, 0, 0, NULL, '[]', ?, ?, NULL, NULL) ON CONFLICT DO UPDATE SET"
        " config = excluded.config, changed_by_name = excluded.changed_by_name, changed_at ="
        " excluded.changed_at",
        [endpoint_id, to_json(config.document()), by, at],
    )
    if past and _select_test_settings(get_settings(past)) != _select_test_settings(config):
        tx.execute(
            "UPDATE monitor SET revision = revision + 1, reference = NULL, states = '[]',"
            " measured_place = CASE WHEN ? THEN 0 ELSE next_place END WHERE endpoint_id = ?",
            [config.reference == "first", endpoint_id],
        )
        if _select_pace_settings(get_settings(past)) != _select_pace_settings(config):
            first = 0 if config.reference in ("first", "window") else past.next_place
            save_pace(tx, endpoint_id, PaceWatch(place=first, tests=[]))
        tx.execute("DELETE FROM signal_hour WHERE endpoint_id = ?", [endpoint_id])
        tx.execute("DELETE FROM request_signal WHERE endpoint_id = ?", [endpoint_id])


def _select_test_settings(config: MonitorSettings) -> MonitorSettings:
    """Settings that the tests depend on: all but limits, schedules, retention and prices."""
    return config.model_copy(
        update={
            **dict.fromkeys((*LIMITS, "golden", "bias")),
            **{"keep_days": 30, "price_of_prompt": None, "price_of_completion": None, "currency": "EUR"},
        }
    )


def _select_pace_settings(config: MonitorSettings) -> tuple[object, ...]:
    """Settings that latency and error tests depend on. A resolved slowdown is not reported again after a
    change of alpha."""
    return config.reference, config.reference_rows, config.window_start, config.window_end


# -- requests that are measured -----------------------------------------------------------------------

COUNTS = "role = 'live' AND status < 400"  # requests that count for drift
_COLUMNS = (
    "place, kind, version, asked_at, epoch(asked_at) AS asked_seconds, messages, input_characters, output,"
    " output_characters,"
    " label, confidence, mean_logprob"
)


@named_query
def reference_count(db: Queryable, endpoint_id: str, which: ReferenceRows) -> int:
    """Requests available for a reference, up to the maximum."""
    sql = f"SELECT count(*) FROM ({_build_reference_query('place')})"
    return int(read_scalar(db.query(sql, [endpoint_id, which.start, which.end, which.most])))


def get_reference_end(db: Queryable, endpoint_id: str, which: ReferenceRows) -> int:
    """The place after the last request of the reference."""
    sql = f"SELECT max(place) + 1 FROM ({_build_reference_query('place')})"
    return int(read_scalar(db.query(sql, [endpoint_id, which.start, which.end, which.most])) or 0)


def read_reference_requests(db: Queryable, endpoint_id: str, which: ReferenceRows) -> pa.Table:
    """The requests of the reference, in order."""
    return db.query(_build_reference_query(_COLUMNS), [endpoint_id, which.start, which.end, which.most])


def _build_reference_query(columns: str) -> str:
    return f"""
        SELECT {columns} FROM request
        WHERE endpoint_id = $1 AND {COUNTS}
            AND ($2::TIMESTAMP IS NULL OR asked_at >= $2) AND ($3::TIMESTAMP IS NULL OR asked_at < $3)
        ORDER BY place LIMIT $4"""


def read_requests_between(
    db: Queryable, endpoint_id: str, first: int, end: int, *, thinned: bool
) -> pa.Table:
    """Live requests from place `first` up to `end`, in order. counts: if thinned, true only for the first
    request of each caller and hour."""
    sql = f"""
        WITH chosen AS (SELECT * FROM request WHERE endpoint_id = $1 AND place >= $2 AND place < $3
            AND {COUNTS}),
        before AS (
            SELECT DISTINCT r.caller, date_trunc('hour', r.asked_at) AS hour FROM request r
            WHERE $4 AND r.endpoint_id = $1 AND r.place < $2 AND {COUNTS}
                AND r.asked_at >= (SELECT date_trunc('hour', min(asked_at)) FROM chosen)
        )
        SELECT {_COLUMNS}, NOT $4 OR c.caller IS NULL OR (
            row_number() OVER (PARTITION BY c.caller, date_trunc('hour', asked_at) ORDER BY place) = 1
            AND b.caller IS NULL) AS counts
        FROM chosen c LEFT JOIN before b ON b.caller = c.caller AND b.hour = date_trunc('hour', c.asked_at)
        ORDER BY place"""
    return db.query(sql, [endpoint_id, first, end, thinned])


def find_batch_end(db: Queryable, endpoint_id: str, first: int, most: int) -> int:
    """The place after the next `count` stored requests."""
    sql = (
        "SELECT max(place) + 1 FROM (SELECT place FROM request WHERE endpoint_id = ?"
        " AND place >= ? ORDER BY place LIMIT ?)"
    )
    return int(read_scalar(db.query(sql, [endpoint_id, first, most])) or first)


# -- times and failures -------------------------------------------------------------------------------


def find_window_start(db: Queryable, endpoint_id: str, which: ReferenceRows) -> int | None:
    """The place of the first request in a window; None if it has none."""
    sql = (
        "SELECT min(place) FROM request WHERE endpoint_id = ? AND role <> 'shadow' AND asked_at >= ?"
        " AND asked_at < ?"
    )
    place = read_scalar(db.query(sql, [endpoint_id, which.start, which.end]))
    return None if place is None else int(place)


def read_timed_requests(db: Queryable, endpoint_id: str, place: int, most: int) -> pa.Table:
    """Successful and failed requests from that place on, without shadow copies and rejected requests."""
    sql = """
        SELECT place, epoch(asked_at) AS at, seconds, coalesce(prompt_tokens, 0) AS prompt_tokens,
            coalesce(completion_tokens, 0) AS completion_tokens, status >= 500 AS failed,
            role = 'live' AS is_live
        FROM request WHERE endpoint_id = ? AND place >= ? AND role <> 'shadow'
            AND (status < 400 OR status >= 500)
        ORDER BY place LIMIT ?"""
    return db.query(sql, [endpoint_id, place, most])


def save_pace(tx: Transaction, endpoint_id: str, pace: PaceWatch) -> None:
    """Store the states of the latency and error tests."""
    tx.execute("UPDATE monitor SET pace = ? WHERE endpoint_id = ?", [to_json(pace), endpoint_id])


# -- what was measured --------------------------------------------------------------------------------


def save_reference(
    tx: Transaction,
    endpoint_id: str,
    facts: ReferenceFacts,
    states: Sequence[TestState],
    measured_place: int | None,
) -> None:
    """Store the reference, with tests before their first value. measured_place: where they start."""
    tx.execute(
        "UPDATE monitor SET reference = ?, states = ?, measured_place = coalesce(?, measured_place)"
        " WHERE endpoint_id = ?",
        [to_json(facts), to_json(states), measured_place, endpoint_id],
    )


def save_measured(
    tx: Transaction, endpoint_id: str, signals: pa.Table, states: Sequence[TestState], end: int
) -> None:
    """Store signals of requests, and the states of the tests after them."""
    owner = pa.array([endpoint_id] * len(signals), pa.string())
    with tx.table("measured", signals.append_column("endpoint_id", owner)):
        tx.execute("INSERT INTO request_signal BY NAME SELECT * FROM measured")
    set_states(tx, endpoint_id, states)
    tx.execute("UPDATE monitor SET measured_place = ? WHERE endpoint_id = ?", [end, endpoint_id])


def save_base_measurement(tx: Transaction, endpoint_id: str, look: BaseMeasurement) -> None:
    """Store the last scoring of responses under base models."""
    tx.execute("UPDATE monitor SET base_look = ? WHERE endpoint_id = ?", [to_json(look), endpoint_id])


def skip_to(tx: Transaction, endpoint_id: str, place: int) -> None:
    """Skip requests before that place; they were deleted unprocessed."""
    tx.execute("UPDATE monitor SET measured_place = ? WHERE endpoint_id = ?", [place, endpoint_id])


def set_states(tx: Transaction, endpoint_id: str, states: Sequence[TestState]) -> None:
    """Store the states of the tests."""
    tx.execute("UPDATE monitor SET states = ? WHERE endpoint_id = ?", [to_json(states), endpoint_id])


def restart_tests(tx: Transaction, endpoint_id: str, states: Sequence[TestState]) -> None:
    """Store states after a restart: a check that is running started from another state."""
    set_states(tx, endpoint_id, states)
    tx.execute("UPDATE monitor SET revision = revision + 1 WHERE endpoint_id = ?", [endpoint_id])


def add_hours(tx: Transaction, endpoint_id: str, hours: pa.Table) -> None:
    """Add counts by name, hour, bin and category to the hourly figures."""
    with tx.table("fresh", hours):
        merged = tx.query(_HOURS, [endpoint_id])
    with tx.table("merged", merged):
        tx.execute(
            "DELETE FROM signal_hour USING merged WHERE signal_hour.endpoint_id = merged.endpoint_id"
            " AND signal_hour.name = merged.name AND signal_hour.hour = merged.hour"
        )
        tx.execute("INSERT INTO signal_hour BY NAME SELECT * FROM merged")


_HOURS = """
    WITH past AS (
        SELECT name, hour, unnest(counts, recursive := true) FROM signal_hour
        SEMI JOIN (SELECT DISTINCT name, hour FROM fresh) USING (name, hour) WHERE endpoint_id = $1
    ),
    counted AS (
        SELECT name, hour, bin, category, sum(n)::BIGINT AS n
        FROM (SELECT name, hour, bin, category, n FROM fresh UNION ALL SELECT name, hour, bin, category,
            n FROM past)
        GROUP BY ALL
    )
    SELECT $1 AS endpoint_id, name, hour,
           list(struct_pack(bin := bin, category := category, n := n) ORDER BY bin, category) AS counts
    FROM counted GROUP BY ALL
"""


@named_query
def torn(db: Queryable, endpoint_id: str) -> MalformedLineCounts:
    """Ingested log lines, and those that were malformed."""
    sql = (
        "SELECT coalesce(sum(lines), 0)::BIGINT AS lines, coalesce(sum(torn), 0)::BIGINT AS torn"
        " FROM log_offset WHERE endpoint_id = ?"
    )
    return read_records(db.query(sql, [endpoint_id]), MalformedLineCounts)[0]


def forget_before(tx: Transaction, endpoint_id: str, moment: datetime) -> int:
    """Delete requests, signals and feedback from before that time; returns the number of requests. Figures by
    minute and by hour are kept."""
    count = tx.execute("DELETE FROM request WHERE endpoint_id = ? AND asked_at < ?", [endpoint_id, moment])
    tx.execute("DELETE FROM request_signal WHERE endpoint_id = ? AND asked_at < ?", [endpoint_id, moment])
    tx.execute(
        "UPDATE feedback SET text = NULL, comment = '' WHERE endpoint_id = ? AND given_at < ?"
        " AND (text IS NOT NULL OR comment <> '')",
        [endpoint_id, moment],
    )
    return count


def forget(tx: Transaction, endpoint_id: str) -> None:
    """Delete all data of an endpoint's requests, with its monitor, alerts and messages."""
    tx.execute(
        "DELETE FROM webhook_delivery WHERE alert_id IN"
        " (SELECT alert_id FROM monitor_alert WHERE endpoint_id = ?)",
        [endpoint_id],
    )
    for table in OF_ENDPOINT:
        tx.execute(f"DELETE FROM {table} WHERE endpoint_id = ?", [endpoint_id])


@dataclass(kw_only=True)
class GoldenRun:
    """One scheduled evaluation. figures: null until it has finished."""

    job_id: str
    queued_at: datetime
    status: str | None  # null: the job was deleted
    figures: list[Figure] | None = None


def add_golden_run(tx: Transaction, endpoint_id: str, job_id: str, at: datetime) -> None:
    """Record a scheduled evaluation."""
    tx.execute("INSERT INTO golden_run VALUES (?, ?, ?)", [endpoint_id, job_id, at])


@named_query
def golden_runs(db: Queryable, endpoint_id: str, limit: int = 60) -> list[GoldenRun]:
    """The latest evaluations, the oldest first."""
    sql = """
        SELECT g.job_id, g.queued_at, j.status, e.figures FROM golden_run g
        LEFT JOIN job j ON j.job_id = g.job_id LEFT JOIN evaluation e ON e.evaluation_id = g.job_id
        WHERE g.endpoint_id = ? ORDER BY g.queued_at DESC LIMIT ?"""
    return read_records(db.query(sql, [endpoint_id, limit]), GoldenRun, ["figures"])[::-1]


@dataclass(kw_only=True)
class ScheduledCheck:
    """One scheduled bias check. sentence, worse, cant_tell: null until it has finished."""

    job_id: str
    queued_at: datetime
    status: str | None  # null: the job was deleted
    model: str | None
    against: str | None
    sentence: str | None
    worse: int | None  # figures significantly worse than the baseline
    cant_tell: int | None
    finished_at: datetime | None


def add_scheduled_check(tx: Transaction, endpoint_id: str, job_id: str, at: datetime) -> None:
    """Record a scheduled bias check."""
    tx.execute("INSERT INTO bias_run VALUES (?, ?, ?)", [endpoint_id, job_id, at])


@named_query
def scheduled_checks(db: Queryable, endpoint_id: str, limit: int = 12) -> list[ScheduledCheck]:
    """The latest checks, the newest first."""
    sql = """
        SELECT b.job_id, b.queued_at, j.status, c.model, c.against, c.report ->> 'sentence' AS sentence,
            (c.report ->> 'worse')::INTEGER AS worse, (c.report ->> 'cant_tell')::INTEGER AS cant_tell,
            c.created_at AS finished_at
        FROM bias_run b LEFT JOIN job j ON j.job_id = b.job_id LEFT JOIN bias_check c ON c.job_id = b.job_id
        WHERE b.endpoint_id = ? ORDER BY b.queued_at DESC LIMIT ?"""
    return read_records(db.query(sql, [endpoint_id, limit]), ScheduledCheck)
