"""How much an endpoint was asked, what failed, how long it took: from figures by minute and hour alone, so
that ten million requests answer as fast as ten thousand."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple, TypedDict

from store.db.named_query import named_query
from store.db.records import records
from store.queries.monitoring.buckets import quantile

if TYPE_CHECKING:
    from store.db.database import Queryable

POINTS = 120  # of a chart at most
HOUR = timedelta(hours=1)
STEPS = (60, 300, 900, 3_600, 3 * 3_600, 12 * 3_600, 86_400, 7 * 86_400)  # seconds


class Window(NamedTuple):
    """From `start` up to `end`, both naive UTC."""

    start: datetime
    end: datetime

    @property
    def step(self) -> timedelta:
        """Between two points of a chart."""
        seconds = (self.end - self.start).total_seconds()
        return timedelta(seconds=next((step for step in STEPS if seconds / step <= POINTS), STEPS[-1]))

    @property
    def table(self) -> str:
        """Where its figures are: of long windows by the hour, which are a sixtieth."""
        return "request_hour" if self.step >= HOUR else "request_minute"

    @property
    def bounds(self) -> list[datetime]:
        """From the beginning of its first hour, or minute, up to its end."""
        start = self.start.replace(second=0, microsecond=0)
        return [start.replace(minute=0) if self.step >= HOUR else start, self.end]


class TrafficSums(TypedDict):
    """What the minutes of a window add up to."""

    requests: int
    errors: int  # status 500 and above
    refused: int  # 400 to 499
    abstained: int
    prompt_tokens: int
    completion_tokens: int
    calls: int  # of functions
    invalid_calls: int  # meant for one and none, or with arguments that don't fit their schema
    seconds: float  # of those that were answered


class VersionTraffic(TrafficSums):
    """Of a version in a role. Times in seconds, null where nothing was answered."""

    version: str
    role: str
    first_at: datetime
    last_at: datetime
    p50: float | None
    p95: float | None
    first_token_p50: float | None
    first_token_p95: float | None


class TrafficPoint(TypedDict):
    """Of one step of a chart, over all that people saw."""

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
    """Each version in each of its roles, the live one first."""
    params = [endpoint_id, *window.bounds]
    sums = f"""
        SELECT version, role, {_SUMS}, min(starts_at) AS first_at, max(starts_at) AS last_at
        FROM {window.table}
        WHERE {_IN_WINDOW} GROUP BY version, role
        ORDER BY role <> 'live', role, max(starts_at) DESC, version"""
    rows = records(db.query(sums, params), VersionTraffic)
    latency = _counts(db, window, "latency", params)
    first_token = _counts(db, window, "first_token", params)
    for row in rows:
        key = row["version"], row["role"]
        row["p50"], row["p95"] = quantile(latency[key], 0.5), quantile(latency[key], 0.95)
        row["first_token_p50"] = quantile(first_token[key], 0.5)
        row["first_token_p95"] = quantile(first_token[key], 0.95)
    return rows


def _counts(
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
    """The window in steps; one without a request is there with 0, so that a gap is seen."""
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
    return [_point(at, counted.get(at), latency[at]) for at in _slots(window, list(counted))]


def _slots(window: Window, present: list[datetime]) -> list[datetime]:
    if not present:
        return []
    slots = [min(present)]
    while slots[-1] + window.step < window.end:
        slots.append(slots[-1] + window.step)
    while slots[0] - window.step >= window.start:
        slots.insert(0, slots[0] - window.step)
    return slots


def _point(at: datetime, sums: dict[str, int] | None, latency: dict[int, int]) -> TrafficPoint:
    return {
        "at": at,
        "requests": sums["requests"] if sums else 0,
        "errors": sums["errors"] if sums else 0,
        "refused": sums["refused"] if sums else 0,
        "p50": quantile(latency, 0.5),
        "p95": quantile(latency, 0.95),
    }


class RecentTraffic(NamedTuple):
    """What limits are held to: of what people saw, without what was refused, which asked no model."""

    requests: int
    errors: int
    latency: dict[int, int]


def recent(db: Queryable, endpoint_id: str, window: Window) -> RecentTraffic:
    """Of a short window."""
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
    """From its first minute to its last; None where nobody has asked it."""
    sql = "SELECT min(starts_at) AS first, max(starts_at) AS last FROM request_minute WHERE endpoint_id = ?"
    row = db.query(sql, [endpoint_id]).to_pylist()[0]
    return Window(row["first"], row["last"]) if row["first"] is not None else None
