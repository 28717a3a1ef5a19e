"""Requests, errors and latency of an endpoint by minute and hour; signals of a window, and requests behind an
alert."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple, TypedDict

from store.core.languages import get_language_name
from store.core.monitoring_schemas import OTHER, WatchedName
from store.db.named_query import named_query
from store.db.records import read_records

if TYPE_CHECKING:
    from store.db.database import Queryable

RELATIVE_ERROR = 0.03
GROWTH = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)  # ratio of a bucket's end to its start
MIN_SECONDS = 1e-4


def build_bucket_sql(seconds: str) -> str:
    """The bucket of a column, in SQL."""
    return f"ceil(ln(greatest({seconds}, {MIN_SECONDS})) / {math.log(GROWTH)!r})::SMALLINT"


def compute_bucket(seconds: float) -> int:
    """The bucket of one duration."""
    return math.ceil(math.log(max(seconds, MIN_SECONDS)) / math.log(GROWTH))


def quantile(counts: Mapping[int, int], share: float) -> float | None:
    """The quantile of counted durations, within RELATIVE_ERROR; None without counts."""
    total = sum(counts.values())
    if not total:
        return None
    rank, below = max(1, math.ceil(share * total)), 0
    for bucket in sorted(counts):
        below += counts[bucket]
        if below >= rank:
            break
    return 2 * GROWTH**bucket / (GROWTH + 1)


def count_above(counts: Mapping[int, int], seconds: float) -> int:
    """How many took longer than that, excluding the bucket of the limit."""
    limit = compute_bucket(seconds)
    return sum(n for bucket, n in counts.items() if bucket > limit)


POINTS = 120  # maximum per chart
HOUR = timedelta(hours=1)
STEPS = (60, 300, 900, 3_600, 3 * 3_600, 12 * 3_600, 86_400, 7 * 86_400)  # seconds


class Window(NamedTuple):
    """From `start` up to `end`, both naive UTC."""

    start: datetime
    end: datetime

    @property
    def step(self) -> timedelta:
        """The time between two points of a chart."""
        seconds = (self.end - self.start).total_seconds()
        return timedelta(seconds=next((step for step in STEPS if seconds / step <= POINTS), STEPS[-1]))

    @property
    def table(self) -> str:
        """The table of figures: by hour for long windows, which is a sixtieth of the rows."""
        return "request_hour" if self.step >= HOUR else "request_minute"

    @property
    def bounds(self) -> list[datetime]:
        """From the start of the first hour or minute to the end."""
        start = self.start.replace(second=0, microsecond=0)
        return [start.replace(minute=0) if self.step >= HOUR else start, self.end]


@dataclass(kw_only=True)
class TrafficSums:
    """Sums over the minutes of a window."""

    requests: int
    errors: int  # status 500 and above
    refused: int  # 400 to 499
    abstained: int
    prompt_tokens: int
    completion_tokens: int
    calls: int  # of functions
    invalid_calls: int  # malformed, or with arguments that don't match the schema
    seconds: float  # of successful requests


@dataclass(kw_only=True)
class VersionTraffic(TrafficSums):
    """Traffic of a version in a role. Times in seconds, null without successful requests."""

    version: str
    role: str
    first_at: datetime
    last_at: datetime
    p50: float | None = None
    p95: float | None = None
    first_token_p50: float | None = None
    first_token_p95: float | None = None


class TrafficPoint(TypedDict):
    """One time step of a chart, without shadow traffic."""

    at: datetime
    requests: int
    errors: int
    refused: int
    p50: float | None
    p95: float | None


_SUMS = """
    sum(requests)::BIGINT AS requests, sum(errors)::BIGINT AS errors, sum(refused)::BIGINT AS refused,
    sum(abstained)::BIGINT AS abstained, sum(prompt_tokens)::BIGINT AS prompt_tokens,
    sum(completion_tokens)::BIGINT AS completion_tokens, sum(calls)::BIGINT AS calls,
    sum(invalid_calls)::BIGINT AS invalid_calls, sum(seconds) AS seconds
"""
_IN_WINDOW = "endpoint_id = ? AND starts_at >= ? AND starts_at < ?"


@named_query
def by_version(db: Queryable, endpoint_id: str, window: Window) -> list[VersionTraffic]:
    """Traffic by version and role, live first."""
    params = [endpoint_id, *window.bounds]
    sums = f"""
        SELECT version, role, {_SUMS}, min(starts_at) AS first_at, max(starts_at) AS last_at
        FROM {window.table}
        WHERE {_IN_WINDOW} GROUP BY version, role
        ORDER BY role <> 'live', role, max(starts_at) DESC, version"""
    rows = read_records(db.query(sums, params), VersionTraffic)
    latency = _build_counts_sql(db, window, "latency", params)
    first_token = _build_counts_sql(db, window, "first_token", params)
    for row in rows:
        key = row.version, row.role
        row.p50, row.p95 = quantile(latency[key], 0.5), quantile(latency[key], 0.95)
        row.first_token_p50 = quantile(first_token[key], 0.5)
        row.first_token_p95 = quantile(first_token[key], 0.95)
    return rows


def _build_counts_sql(
    db: Queryable, window: Window, column: str, params: list[object]
) -> dict[tuple[str, str], dict[int, int]]:
    sql = f"""
        SELECT version, role, bucket, sum(n)::BIGINT AS n FROM (
            SELECT version, role, unnest({column}, recursive := true) FROM {window.table} WHERE {_IN_WINDOW}
        ) GROUP BY ALL"""
    counts: defaultdict[tuple[str, str], dict[int, int]] = defaultdict(dict)
    for row in db.query(sql, params).to_pylist():
        counts[row["version"], row["role"]][row["bucket"]] = row["n"]
    return counts


@named_query
def points(db: Queryable, endpoint_id: str, window: Window) -> list[TrafficPoint]:
    """The window in time steps; steps without requests are included with 0, so that gaps are visible."""
    seconds = int(window.step.total_seconds())
    slot = f"time_bucket(to_seconds({seconds}), starts_at)"
    where = f"{_IN_WINDOW} AND role <> 'shadow'"
    params = [endpoint_id, *window.bounds]
    sums = (
        f"SELECT {slot} AS slot, sum(requests)::BIGINT AS requests, sum(errors)::BIGINT AS errors,"
        f" sum(refused)::BIGINT AS refused FROM {window.table} WHERE {where} GROUP BY ALL"
    )
    timed = f"""
        SELECT slot, bucket, sum(n)::BIGINT AS n FROM (
            SELECT {slot} AS slot, unnest(latency, recursive := true) FROM {window.table} WHERE {where}
        ) GROUP BY ALL"""
    counted = {row["slot"]: row for row in db.query(sums, params).to_pylist()}
    latency: defaultdict[datetime, dict[int, int]] = defaultdict(dict)
    for row in db.query(timed, params).to_pylist():
        latency[row["slot"]][row["bucket"]] = row["n"]
    return [_make_point(at, counted.get(at), latency[at]) for at in _list_slots(window, list(counted))]


def _list_slots(window: Window, present: list[datetime]) -> list[datetime]:
    if not present:
        return []
    slots = [min(present)]
    while slots[-1] + window.step < window.end:
        slots.append(slots[-1] + window.step)
    while slots[0] - window.step >= window.start:
        slots.insert(0, slots[0] - window.step)
    return slots


def _make_point(at: datetime, sums: dict[str, int] | None, latency: dict[int, int]) -> TrafficPoint:
    return {
        "at": at,
        "requests": sums["requests"] if sums else 0,
        "errors": sums["errors"] if sums else 0,
        "refused": sums["refused"] if sums else 0,
        "p50": quantile(latency, 0.5),
        "p95": quantile(latency, 0.95),
    }


class RecentTraffic(NamedTuple):
    """Traffic that limits apply to, without shadow copies and rejected requests."""

    requests: int
    errors: int
    latency: dict[int, int]


def read_recent_traffic(db: Queryable, endpoint_id: str, window: Window) -> RecentTraffic:
    """Traffic of a short window."""
    where = f"{_IN_WINDOW} AND role <> 'shadow'"
    params = [endpoint_id, *window.bounds]
    sql = (
        "SELECT sum(requests - refused)::BIGINT AS requests, sum(errors)::BIGINT AS errors"
        f" FROM {window.table} WHERE {where}"
    )
    sums = db.query(sql, params).to_pylist()[0]
    timed = f"""
        SELECT bucket, sum(n)::BIGINT AS n FROM (
            SELECT unnest(latency, recursive := true) FROM {window.table} WHERE {where}
        ) GROUP BY ALL"""
    latency = {row["bucket"]: row["n"] for row in db.query(timed, params).to_pylist()}
    return RecentTraffic(sums["requests"] or 0, sums["errors"] or 0, latency)


@named_query
def span(db: Queryable, endpoint_id: str) -> Window | None:
    """From the first minute with requests to the last; None without requests."""
    sql = "SELECT min(starts_at) AS first, max(starts_at) AS last FROM request_minute WHERE endpoint_id = ?"
    row = db.query(sql, [endpoint_id]).to_pylist()[0]
    return Window(row["first"], row["last"]) if row["first"] is not None else None


class SignalCounts(TypedDict):
    """Counts of a monitored value by bin or by name."""

    bins: dict[int, int]
    names: dict[str, int]


@dataclass(kw_only=True)
class AlertRequest:
    """A request behind an alert."""

    place: int
    request_id: str
    asked_at: datetime
    version: str
    messages: str | None  # JSON
    output: str | None
    label: str | None
    value: float | None  # of a numeric monitored value
    category: str | None


@named_query
def signal_counts(db: Queryable, endpoint_id: str, window: Window) -> dict[WatchedName, SignalCounts]:
    """Counts of each monitored value, over the hours that start in the window."""
    sql = """
        SELECT name, bin, category, sum(n)::BIGINT AS n FROM (
            SELECT name, unnest(counts, recursive := true) FROM signal_hour
            WHERE endpoint_id = ? AND hour >= date_trunc('hour', ?::TIMESTAMP) AND hour < ?
        ) GROUP BY ALL"""
    counted: defaultdict[WatchedName, SignalCounts] = defaultdict(lambda: {"bins": {}, "names": {}})
    for row in db.query(sql, [endpoint_id, *window]).to_pylist():
        if row["category"] is None:
            counted[row["name"]]["bins"][row["bin"]] = row["n"]
        else:
            counted[row["name"]]["names"][row["category"]] = row["n"]
    return dict(counted)


def read_values_between(
    db: Queryable, endpoint_id: str, name: WatchedName, places: tuple[int, int]
) -> list[float | str]:
    """A monitored value of stored requests between two places, inclusive."""
    sql = (
        f"SELECT {name} AS value FROM request_signal WHERE endpoint_id = ? AND place BETWEEN ? AND ?"
        f" AND {name} IS NOT NULL ORDER BY place"
    )
    return [row["value"] for row in db.query(sql, [endpoint_id, *places]).to_pylist()]


@named_query
def most_unlike(
    db: Queryable, endpoint_id: str, name: WatchedName, places: tuple[int, int], *, order: str, limit: int
) -> list[AlertRequest]:
    """Stored requests between two places, inclusive, by the largest (`order` DESC) or smallest value
    first."""
    sql = f"""
        SELECT s.place, r.request_id, r.asked_at, r.version, r.messages, r.output, r.label,
               s.{name} AS value, NULL::VARCHAR AS category
        FROM (
            SELECT place, {name} FROM request_signal
            WHERE endpoint_id = $1 AND place BETWEEN $2 AND $3 AND {name} IS NOT NULL
            ORDER BY {name} {order}, place LIMIT $4
        ) s JOIN request r ON r.endpoint_id = $1 AND r.place = s.place AND r.place BETWEEN $2 AND $3
        ORDER BY s.{name} {order}, s.place"""
    return read_records(db.query(sql, [endpoint_id, *places, limit]), AlertRequest)


@named_query
def with_names(
    db: Queryable, endpoint_id: str, name: WatchedName, places: tuple[int, int], names: list[str], limit: int
) -> list[AlertRequest]:
    """The newest requests with one of these names."""
    sql = f"""
        SELECT s.place, r.request_id, r.asked_at, r.version, r.messages, r.output, r.label,
               NULL::DOUBLE AS value, s.{name} AS category
        FROM (
            SELECT place, {name} FROM request_signal
            WHERE endpoint_id = $1 AND place BETWEEN $2 AND $3 AND list_contains($4::VARCHAR[], {name})
            ORDER BY place DESC LIMIT $5
        ) s JOIN request r ON r.endpoint_id = $1 AND r.place = s.place AND r.place BETWEEN $2 AND $3
        ORDER BY s.place DESC"""
    return read_records(db.query(sql, [endpoint_id, *places, names, limit]), AlertRequest)


@named_query
def troubled(
    db: Queryable, endpoint_id: str, since: datetime, *, kind: str, limit: int
) -> list[AlertRequest]:
    """Failed requests, the newest first, for an error alert; the slowest for a latency alert."""
    where, order = (
        ("status >= 500", "asked_at DESC") if kind == "errors" else ("status < 400", "seconds DESC")
    )
    sql = f"""
        SELECT place, request_id, asked_at, version, messages, output, label, seconds AS value,
            error AS category
        FROM request WHERE endpoint_id = ? AND asked_at >= ? AND role <> 'shadow' AND {where}
        ORDER BY {order} LIMIT ?"""
    return read_records(db.query(sql, [endpoint_id, since, limit]), AlertRequest)


@named_query
def bad_of_candidate(db: Queryable, endpoint_id: str, since: datetime, *, limit: int) -> list[AlertRequest]:
    """Incorrect, disliked or failed responses of a candidate, the newest first. category: the feedback or the
    error."""
    sql = """
        SELECT r.place, r.request_id, r.asked_at, r.version, r.messages, r.output, r.label,
               f.value, coalesce('expected: ' || f.text, nullif(f.comment, ''), r.error) AS category
        FROM request r LEFT JOIN (
            SELECT * FROM feedback WHERE endpoint_id = $1 AND given_at >= $2 AND is_last
                AND role = 'candidate' AND (kind = 'thumb' AND value = 0 OR NOT correct)
        ) f ON r.request_id = f.request_id AND r.role = f.role
        WHERE r.endpoint_id = $1 AND r.asked_at >= $2 AND r.role = 'candidate'
            AND (f.request_id IS NOT NULL OR r.status >= 500)
        ORDER BY r.place DESC LIMIT $3"""
    return read_records(db.query(sql, [endpoint_id, since, limit]), AlertRequest)


@named_query
def thumbs_down(db: Queryable, endpoint_id: str, since: datetime, *, limit: int) -> list[AlertRequest]:
    """Stored responses with thumbs down, the newest first."""
    sql = """
        SELECT r.place, r.request_id, r.asked_at, r.version, r.messages, r.output, r.label,
               f.value, f.comment AS category
        FROM (
            SELECT * FROM feedback WHERE endpoint_id = $1 AND given_at >= $2 AND kind = 'thumb'
                AND value = 0 AND is_last
                AND version IS NOT NULL ORDER BY given_at DESC LIMIT $3
        ) f JOIN request r ON r.endpoint_id = $1 AND r.request_id = f.request_id AND r.role = f.role
        ORDER BY f.given_at DESC"""
    return read_records(db.query(sql, [endpoint_id, since, limit]), AlertRequest)


_OTHERS = {
    "input_language": "other languages",
    "input_topic": "other topics",
    "output_label": "other labels",
}


def format_category_name(watched: WatchedName, name: str) -> str:
    """ "German" for "de"; topics and labels in quotes; other names as "other languages"."""
    if name == OTHER:
        return _OTHERS[watched]
    if watched == "input_language":
        return get_language_name(name)
    return f"topic “{name}”" if watched == "input_topic" else f"“{name}”"
