"""Logged requests with all that is known of them: what was answered, how sure, what came back, and whether
people were asked about them already."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa

from store.config.judging.chosen_requests import ChosenRequests
from store.db.named_query import named_query
from store.db.records import scalar
from store.queries.monitoring import monitor_alerts, monitors

if TYPE_CHECKING:
    from store.db.database import Queryable

MOST_LOOKED_AT = 10_000  # requests, the newest


class RequestsMeant(NamedTuple):
    """Which requests of an endpoint; places: of an alert's, the first and the last. group: empty for all."""

    endpoint_id: str
    start: datetime | None = None
    end: datetime | None = None
    places: tuple[int, int] | None = None
    group: str = ""


@named_query
def meant_by(db: Queryable, chosen: ChosenRequests) -> RequestsMeant:
    """Which they are, by what somebody wrote. Raises NotFoundError for an endpoint or alert that is none."""
    endpoint_id = monitors.endpoint(db, chosen.endpoint)["endpoint_id"]
    start, places = chosen.start, None
    if chosen.alert:
        alert = monitor_alerts.of_endpoint(db, chosen.alert, endpoint_id)
        if alert["first_place"] is not None and alert["last_place"] is not None:
            places = alert["first_place"], alert["last_place"]
        else:
            start = max(start, alert["since"]) if start else alert["since"]
    return RequestsMeant(endpoint_id, start, chosen.end, places, chosen.group)


@named_query
def count(db: Queryable, meant: RequestsMeant) -> int:
    """How many people, or programs, asked and got an answer."""
    sql = f"SELECT count(*) FROM request r WHERE {_MEANT} AND r.role <> 'shadow'"
    return int(scalar(db.query(sql, _parameters(meant))))


@named_query
def newest(db: Queryable, meant: RequestsMeant, most: int = MOST_LOOKED_AT) -> pa.Table:
    """The newest of those requests, and what a shadow answered to them, in the order of their places.

    A shadow's answer has the id of the request that it copies.

    Of each beside the columns of table `request`: `input_distance` and `input_topic`; `alerted`: behind an
    open alert of drift; `disliked`: a thumb down; `labelled`: somebody said what is right; `in_round`: a
    round asks about it, or has an answer.
    """
    return db.query(_NEWEST, [*_parameters(meant), most])


def _parameters(meant: RequestsMeant) -> list[object]:
    first, last = meant.places or (None, None)
    return [meant.endpoint_id, meant.start, meant.end, first, last, meant.group or None]


_MEANT = """
    r.endpoint_id = $1 AND r.status < 400
    AND ($2::TIMESTAMP IS NULL OR r.asked_at >= $2) AND ($3::TIMESTAMP IS NULL OR r.asked_at < $3)
    AND ($4::BIGINT IS NULL OR r.place >= $4) AND ($5::BIGINT IS NULL OR r.place <= $5)
    AND ($6::VARCHAR IS NULL OR r.grouped_by = $6)
"""
_ASKED_AS = "coalesce(r.copy_of, r.request_id)"  # a shadow's copy has an id of its own
_NEWEST = f"""
    WITH looked AS (
        SELECT r.place, r.request_id, r.asked_at FROM request r
        WHERE {_MEANT} AND r.role <> 'shadow' ORDER BY r.place DESC LIMIT $7
    ),
    told AS (
        SELECT request_id, bool_or(kind = 'thumb' AND value <= 0) AS disliked,
               bool_or(kind IN ('correction', 'label')) AS labelled
        FROM feedback WHERE endpoint_id = $1 AND is_last GROUP BY request_id
    ),
    asked AS (
        SELECT DISTINCT q.request_id FROM round_request q JOIN rating_round o USING (round_id)
        WHERE q.endpoint_id = $1 AND (o.state = 'open' OR EXISTS (
            SELECT 1 FROM rating_task t JOIN rating a USING (task_id)
            WHERE t.round_id = q.round_id AND t.item_id = q.item_id AND a.answer ->> 'skipped' IS NULL))
    ),
    alert AS (
        SELECT first_place, last_place FROM monitor_alert
        WHERE endpoint_id = $1 AND kind = 'drift' AND acknowledged_at IS NULL AND first_place IS NOT NULL
    )
    SELECT r.place, {_ASKED_AS} AS request_id, r.asked_at, r.kind, r.version, r.role, r.messages, r.output,
           r.label, r.confidence, r.abstained, r.mean_logprob, s.input_distance, s.input_topic,
           coalesce(f.disliked, false) AS disliked, coalesce(f.labelled, false) AS labelled,
           q.request_id IS NOT NULL AS in_round,
           EXISTS (SELECT 1 FROM alert a WHERE r.place BETWEEN a.first_place AND a.last_place) AS alerted
    FROM request r
    LEFT JOIN request_signal s ON s.endpoint_id = r.endpoint_id AND s.place = r.place
    LEFT JOIN told f ON f.request_id = {_ASKED_AS}
    LEFT JOIN asked q ON q.request_id = {_ASKED_AS}
    WHERE r.endpoint_id = $1 AND r.status < 400 AND (
        r.place IN (SELECT place FROM looked)
        OR r.role = 'shadow' AND r.copy_of IN (SELECT request_id FROM looked)
            AND r.asked_at >= (SELECT min(asked_at) FROM looked) - INTERVAL 1 HOUR)
    ORDER BY r.place
"""
