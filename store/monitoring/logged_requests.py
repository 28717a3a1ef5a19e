"""Logged requests with their signals and feedback, and responses that a judge and raters grade."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa

from store.core.monitoring_schemas import CorrectionRound, JudgedAnswer, RequestRoundSummary, RequestWindow
from store.core.schemas import Job
from store.db.named_query import named_query
from store.db.records import read_records, read_scalar
from store.jobs import job_queue
from store.monitoring import monitor_alerts, monitors
from store.monitoring.config import KIND
from store.rating.config import RequestSample

if TYPE_CHECKING:
    from store.db.database import Queryable, Transaction

MAX_LOOKED_AT = 10_000  # requests, the newest


class RequestSelection(NamedTuple):
    """Requests of an endpoint. places: first and last of an alert; group: empty for all."""

    endpoint_id: str
    start: datetime | None = None
    end: datetime | None = None
    places: tuple[int, int] | None = None
    group: str = ""


@named_query
def meant_by(db: Queryable, chosen: RequestSample) -> RequestSelection:
    """Resolve a sample specification. Raises NotFoundError for an unknown endpoint or alert."""
    endpoint_id = monitors.endpoint(db, chosen.endpoint).endpoint_id
    start, places = chosen.start, None
    if chosen.alert:
        alert = monitor_alerts.of_endpoint(db, chosen.alert, endpoint_id)
        if alert.first_place is not None and alert.last_place is not None:
            places = alert.first_place, alert.last_place
        else:
            start = max(start, alert.since) if start else alert.since
    return RequestSelection(endpoint_id, start, chosen.end, places, chosen.group)


@named_query
def count(db: Queryable, meant: RequestSelection) -> int:
    """Number of successful requests, without shadow copies."""
    sql = f"SELECT count(*) FROM request r WHERE {_MEANT} AND r.role <> 'shadow'"
    return int(read_scalar(db.query(sql, _build_parameters(meant))))


@named_query
def newest(db: Queryable, meant: RequestSelection, most: int = MAX_LOOKED_AT) -> pa.Table:
    """The newest of these requests, with shadow responses to them, in order of their places.

    A shadow response has the id of the request that it copies.

    Columns in addition to those of table `request`: `input_distance` and `input_topic`; `alerted`: behind an
    open drift alert; `disliked`: thumbs down; `labelled`: labeled or corrected; `in_round`: in an open rating
    round, or rated in one.
    """
    return db.query(_NEWEST, [*_build_parameters(meant), most])


def _build_parameters(meant: RequestSelection) -> list[object]:
    first, last = meant.places or (None, None)
    return [meant.endpoint_id, meant.start, meant.end, first, last, meant.group or None]


_MEANT = """
    r.endpoint_id = $1 AND r.status < 400
    AND ($2::TIMESTAMP IS NULL OR r.asked_at >= $2) AND ($3::TIMESTAMP IS NULL OR r.asked_at < $3)
    AND ($4::BIGINT IS NULL OR r.place >= $4) AND ($5::BIGINT IS NULL OR r.place <= $5)
    AND ($6::VARCHAR IS NULL OR r.grouped_by = $6)
"""
_ASKED_AS = "coalesce(r.copy_of, r.request_id)"  # a shadow copy has its own id
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


# Logged responses that a judge grades, with ratings of them.
#
# Each unique response (of a version, to the same messages) counts once, as in rating rounds. Human ratings
# come from the random items of one pass/fail round, which represent only the requests that it drew from. So a
# round of an alert or group corrects nothing, and the judge is corrected only for requests in both the window
# and the round.

NEWEST = 100_000  # requests of a window that are searched


class JudgingWindow(NamedTuple):
    """An endpoint and a time window."""

    endpoint_id: str
    start: datetime
    end: datetime

    @classmethod
    def of(cls, job: Job) -> JudgingWindow:
        """The window of a queued judge run."""
        config = job.config
        ends = [datetime.fromisoformat(config[name]).replace(tzinfo=None) for name in ("start", "end")]
        return cls(config["endpoint"], ends[0], ends[1])


_WHERE = (
    "endpoint_id = $1 AND asked_at >= $2 AND asked_at < $3 AND role IN ('live', 'candidate') AND status < 400"
)
_KEPT = f"""
    SELECT request_id, asked_at, version, grouped_by, messages, coalesce(label, output) AS output, place
    FROM request WHERE {_WHERE} AND messages IS NOT NULL AND coalesce(label, output) IS NOT NULL"""
_ROUNDS = """
    SELECT r.round_id, r.name, r.config, r.details, coalesce(j.created_at, r.created_at) AS drawn_at
    FROM rating_round r LEFT JOIN job j ON j.job_id = r.round_id
    WHERE r.protocol = 'pass_fail' AND r.config -> 'requests' ->> 'endpoint' = $1
    ORDER BY drawn_at DESC, r.round_id"""
# The oldest request that a round considered: it draws only from the newest requests.
_FIRST_LOOKED_AT = f"""
    SELECT asked_at FROM request
    WHERE endpoint_id = $1 AND status < 400 AND role <> 'shadow' AND ($2::TIMESTAMP IS NULL OR asked_at >= $2)
        AND asked_at < $3
    ORDER BY place DESC LIMIT 1 OFFSET {MAX_LOOKED_AT - 1}"""
# The first request of each item and version of rounds ($4).
_RATED = """
    SELECT round_id, item_id, version, arg_min(request_id, asked_at) AS request_id
    FROM round_request
    WHERE endpoint_id = $1 AND asked_at >= $2 AND asked_at < $3 AND random
        AND list_contains($4::VARCHAR[], round_id)
    GROUP BY ALL"""
_PEOPLE = f"""
    SELECT i.request_id, i.version, avg((s.answer ->> 'passed')::BOOLEAN::INTEGER) AS people
    FROM ({_RATED}) i JOIN rating_task t ON t.round_id = i.round_id AND t.item_id = i.item_id
        AND t.purpose = 'first'
    JOIN (SELECT * FROM rating QUALIFY row_number() OVER (PARTITION BY task_id ORDER BY revision DESC) = 1) s
        ON s.task_id = t.task_id
    ANTI JOIN rating_left_out o ON o.round_id = t.round_id AND o.person_id = t.person_id
    WHERE (s.answer ->> 'passed') IS NOT NULL GROUP BY ALL"""


def select_for_judging(db: Queryable, window: JudgingWindow, rows: int, seed: int) -> pa.Table:
    """Rated responses, followed by the random sample (`at_random`): if the judge's budget runs out, the
    sample is smaller."""
    sql = f"""
        WITH kept AS (SELECT * FROM ({_KEPT}) ORDER BY place DESC LIMIT {NEWEST}),
        different AS (
            SELECT * FROM kept
            QUALIFY row_number() OVER (PARTITION BY version, messages, output ORDER BY place) = 1
        )
        SELECT * EXCLUDE (place), true AS at_random
        FROM (SELECT * FROM different ORDER BY md5(request_id || '/' || $6::VARCHAR) LIMIT $5)
        UNION ALL
        SELECT k.* EXCLUDE (place), false AS at_random
        FROM ({_KEPT}) k JOIN ({_PEOPLE}) p USING (request_id, version)
        ORDER BY at_random, md5(request_id || '/' || $6::VARCHAR)"""
    return db.query(sql, [*window, _list_round_ids(db, window), rows, seed])


def count_window(db: Queryable, window: JudgingWindow) -> RequestWindow:
    """Requests of the whole window."""
    sql = f"""
        SELECT count(*) AS requests,
            count(*) FILTER (messages IS NULL OR coalesce(label, output) IS NULL) AS left_out
        FROM request WHERE {_WHERE}"""
    return read_records(db.query(sql, [*window]), RequestWindow)[0]


def save_judging(tx: Transaction, job_id: str, endpoint_id: str, judgements: pa.Table) -> None:
    """Store the verdicts of a judge run, replacing previous ones of the same run."""
    tx.execute("DELETE FROM request_judgement WHERE job_id = ?", [job_id])
    with tx.table("judged", judgements):
        tx.execute(
            "INSERT INTO request_judgement SELECT ?, ?, request_id, asked_at, version, grouped_by, at_random,"
            " passed FROM judged",
            [job_id, endpoint_id],
        )


@named_query
def judgings(db: Queryable, endpoint_id: str) -> list[Job]:
    """Judge runs of an endpoint, the newest first."""
    return [job for job in job_queue.list_of_kind(db, KIND) if job.config["endpoint"] == endpoint_id]


@named_query
def answers(db: Queryable, job_id: str, window: JudgingWindow) -> list[JudgedAnswer]:
    """Verdicts of one judge run and of raters, for each unique response."""
    frame = correcting(db, job_id, window)
    if frame is None:
        sql = """
            SELECT version, grouped_by, at_random, passed, false AS in_frame, NULL::DOUBLE AS people
            FROM request_judgement WHERE job_id = ?"""
        return read_records(db.query(sql, [job_id]), JudgedAnswer)
    sql = f"""
        SELECT j.version, j.grouped_by, j.at_random, j.passed, p.people,
            j.asked_at >= $2 AND j.asked_at < $3 AND ($6 = '' OR j.version = $6) AS in_frame
        FROM request_judgement j LEFT JOIN ({_PEOPLE}) p
            ON p.request_id = j.request_id AND p.version = j.version AND NOT j.at_random
        WHERE j.job_id = $5"""
    return read_records(
        db.query(sql, [*_build_frame_condition(window, frame), job_id, frame.version]), JudgedAnswer
    )


@named_query
def correcting(db: Queryable, job_id: str, window: JudgingWindow) -> CorrectionRound | None:
    """The round that corrects a judge run: among those that overlap its window, the one with the most rated
    responses that were judged, the newest in a tie; None if there is none."""
    best, most = None, 0
    for frame in _list_frames(db, window):
        sql = f"""
            SELECT count(*) FROM request_judgement j JOIN ({_PEOPLE}) p
                ON p.request_id = j.request_id AND p.version = j.version
            WHERE j.job_id = $5 AND NOT j.at_random"""
        count = int(read_scalar(db.query(sql, [*_build_frame_condition(window, frame), job_id])))
        if best is None or count > most:
            best, most = frame, count
    return best


def list_rated_answers(db: Queryable, window: JudgingWindow) -> int:
    """Number of responses in the window rated in rounds that can correct a judge."""
    sql = f"SELECT count(*) FROM ({_PEOPLE})"
    return int(read_scalar(db.query(sql, [*window, _list_round_ids(db, window)])))


def _build_frame_condition(window: JudgingWindow, frame: CorrectionRound) -> list[object]:
    return [window.endpoint_id, frame.start, frame.end, [frame.round_id]]


def _list_round_ids(db: Queryable, window: JudgingWindow) -> list[str]:
    return [frame.round_id for frame in _list_frames(db, window)]


def _list_frames(db: Queryable, window: JudgingWindow) -> list[CorrectionRound]:
    """Rounds that drew from all requests in a part of the window, with that part, the newest first."""
    frames: list[CorrectionRound] = []
    for row in read_records(
        db.query(_ROUNDS, [window.endpoint_id]), RequestRoundSummary, ["config", "details"]
    ):
        chosen = RequestSample.parse(row.config["requests"])
        if chosen.alert or chosen.group:
            continue
        last = min(row.drawn_at, chosen.end or row.drawn_at)
        looked = db.query(_FIRST_LOOKED_AT, [window.endpoint_id, chosen.start, last])["asked_at"].to_pylist()
        start = max([window.start, *looked, *([chosen.start] if chosen.start else [])])
        if start < (end := min(last, window.end)):
            frames.append(
                CorrectionRound(
                    round_id=row.round_id,
                    name=row.name,
                    start=start,
                    end=end,
                    version=chosen.version,
                    notices=row.details.notices,
                )
            )
    return frames
