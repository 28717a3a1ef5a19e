"""What requests were like within a window, as counts, and the single requests behind an alert."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime
from typing import TYPE_CHECKING, TypedDict

from store.db.named_query import named_query
from store.db.records import records
from store.documents.serving.drift import WatchedName
from store.queries.monitoring.traffic import Window

if TYPE_CHECKING:
    from store.db.database import Queryable


class SignalCounts(TypedDict):
    """Of a watched value: how often each bin came, or each name."""

    bins: dict[int, int]
    names: dict[str, int]


class BehindAlert(TypedDict):
    """A request that an alert rests on."""

    place: int
    request_id: str
    asked_at: datetime
    version: str
    messages: str | None  # JSON
    output: str | None
    label: str | None
    value: float | None  # of the watched value, where that is a number
    category: str | None


@named_query
def counts(db: Queryable, endpoint_id: str, window: Window) -> dict[WatchedName, SignalCounts]:
    """Of each watched value, over the hours that begin in the window."""
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


def values_between(
    db: Queryable, endpoint_id: str, name: WatchedName, places: tuple[int, int]
) -> list[float | str]:
    """A watched value of the requests from one place up to and with another, as far as they are there."""
    sql = (
        f"SELECT {name} AS value FROM request_signal WHERE endpoint_id = ? AND place BETWEEN ? AND ?"
        f" AND {name} IS NOT NULL ORDER BY place"
    )
    return [row["value"] for row in db.query(sql, [endpoint_id, *places]).to_pylist()]


@named_query
def most_unlike(
    db: Queryable, endpoint_id: str, name: WatchedName, places: tuple[int, int], *, order: str, limit: int
) -> list[BehindAlert]:
    """Requests from one place up to and with another by a number, the largest (`order` DESC) or the smallest
    first; as many as there still are."""
    sql = f"""
        SELECT s.place, r.request_id, r.asked_at, r.version, r.messages, r.output, r.label,
               s.{name} AS value, NULL::VARCHAR AS category
        FROM (
            SELECT place, {name} FROM request_signal
            WHERE endpoint_id = $1 AND place BETWEEN $2 AND $3 AND {name} IS NOT NULL
            ORDER BY {name} {order}, place LIMIT $4
        ) s JOIN request r ON r.endpoint_id = $1 AND r.place = s.place AND r.place BETWEEN $2 AND $3
        ORDER BY s.{name} {order}, s.place"""
    return records(db.query(sql, [endpoint_id, *places, limit]), BehindAlert)


@named_query
def with_names(
    db: Queryable, endpoint_id: str, name: WatchedName, places: tuple[int, int], names: list[str], limit: int
) -> list[BehindAlert]:
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
    return records(db.query(sql, [endpoint_id, *places, names, limit]), BehindAlert)


@named_query
def troubled(db: Queryable, endpoint_id: str, since: datetime, *, kind: str, limit: int) -> list[BehindAlert]:
    """Behind an alert of errors those that failed, of latency the slowest, newest or slowest first."""
    where, order = (
        ("status >= 500", "asked_at DESC") if kind == "errors" else ("status < 400", "seconds DESC")
    )
    sql = f"""
        SELECT place, request_id, asked_at, version, messages, output, label, seconds AS value,
            error AS category
        FROM request WHERE endpoint_id = ? AND asked_at >= ? AND role <> 'shadow' AND {where}
        ORDER BY {order} LIMIT ?"""
    return records(db.query(sql, [endpoint_id, since, limit]), BehindAlert)


@named_query
def bad_of_candidate(db: Queryable, endpoint_id: str, since: datetime, *, limit: int) -> list[BehindAlert]:
    """Answers of a candidate that were wrong, not liked, or not given, the newest first; `category`: what
    people said of it, or the error."""
    sql = """
        SELECT r.place, r.request_id, r.asked_at, r.version, r.messages, r.output, r.label,
               f.value, coalesce('should be: ' || f.text, nullif(f.comment, ''), r.error) AS category
        FROM request r LEFT JOIN (
            SELECT * FROM feedback WHERE endpoint_id = $1 AND given_at >= $2 AND is_last
                AND role = 'candidate' AND (kind = 'thumb' AND value = 0 OR NOT correct)
        ) f ON r.request_id = f.request_id AND r.role = f.role
        WHERE r.endpoint_id = $1 AND r.asked_at >= $2 AND r.role = 'candidate'
            AND (f.request_id IS NOT NULL OR r.status >= 500)
        ORDER BY r.place DESC LIMIT $3"""
    return records(db.query(sql, [endpoint_id, since, limit]), BehindAlert)


@named_query
def thumbs_down(db: Queryable, endpoint_id: str, since: datetime, *, limit: int) -> list[BehindAlert]:
    """Answers that people didn't like, the newest first, as far as they are in the log."""
    sql = """
        SELECT r.place, r.request_id, r.asked_at, r.version, r.messages, r.output, r.label,
               f.value, f.comment AS category
        FROM (
            SELECT * FROM feedback WHERE endpoint_id = $1 AND given_at >= $2 AND kind = 'thumb'
                AND value = 0 AND is_last
                AND version IS NOT NULL ORDER BY given_at DESC LIMIT $3
        ) f JOIN request r ON r.endpoint_id = $1 AND r.request_id = f.request_id AND r.role = f.role
        ORDER BY f.given_at DESC"""
    return records(db.query(sql, [endpoint_id, since, limit]), BehindAlert)
