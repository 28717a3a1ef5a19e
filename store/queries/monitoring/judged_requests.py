"""Logged answers that a judge is asked about, and what it and people say of them.

Each different answer (a version's, to the same messages) counts once, as in rounds of requests. People's part
are ratings, pass or fail, of one round of requests: of its items that were drawn at random, which stand for
the requests that it drew from and for no others. So a round about an alert or a group corrects nothing, and
the judge is corrected on the requests that the window and the round have in common.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa

from store.config.judging.chosen_requests import ChosenRequests
from store.config.serving.judge_requests_config import KIND
from store.db.named_query import named_query
from store.db.records import records, scalar
from store.documents.serving.request_judging import (
    CorrectingRound,
    JudgedAnswer,
    RoundOfRequests,
    WindowOfRequests,
)
from store.documents.tables.job import Job
from store.queries import jobs
from store.queries.monitoring.logged_requests import MOST_LOOKED_AT

if TYPE_CHECKING:
    from store.db.database import Queryable, Transaction

NEWEST = 100_000  # requests of a window that are looked through


class JudgedWindow(NamedTuple):
    """Whose requests, and of when."""

    endpoint_id: str
    start: datetime
    end: datetime

    @classmethod
    def of(cls, job: Job) -> JudgedWindow:
        """Of a judging that is queued."""
        config = job["config"]
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
# Where a round stopped looking: it draws from the newest requests alone.
_FIRST_LOOKED_AT = f"""
    SELECT asked_at FROM request
    WHERE endpoint_id = $1 AND status < 400 AND role <> 'shadow' AND ($2::TIMESTAMP IS NULL OR asked_at >= $2)
        AND asked_at < $3
    ORDER BY place DESC LIMIT 1 OFFSET {MOST_LOOKED_AT - 1}"""
# Of each item and version of rounds ($4) the first request that it stands for.
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


def to_judge(db: Queryable, window: JudgedWindow, rows: int, seed: int) -> pa.Table:
    """The answers that people rated, and after them the random sample (`at_random`): where the judge's budget
    is spent before its end, the sample is smaller."""
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
    return db.query(sql, [*window, _round_ids(db, window), rows, seed])


def counts(db: Queryable, window: JudgedWindow) -> WindowOfRequests:
    """Of the whole window."""
    sql = f"""
        SELECT count(*) AS requests,
            count(*) FILTER (messages IS NULL OR coalesce(label, output) IS NULL) AS left_out
        FROM request WHERE {_WHERE}"""
    return records(db.query(sql, [*window]), WindowOfRequests)[0]


def keep(tx: Transaction, job_id: str, endpoint_id: str, judgements: pa.Table) -> None:
    """What a judging left, in place of what it may have left before."""
    tx.execute("DELETE FROM request_judgement WHERE job_id = ?", [job_id])
    with tx.table("judged", judgements):
        tx.execute(
            "INSERT INTO request_judgement SELECT ?, ?, request_id, asked_at, version, grouped_by, at_random,"
            " passed FROM judged",
            [job_id, endpoint_id],
        )


@named_query
def judgings(db: Queryable, endpoint_id: str) -> list[Job]:
    """Of an endpoint, the newest first."""
    return [job for job in jobs.of_kind(db, KIND) if job["config"]["endpoint"] == endpoint_id]


@named_query
def answers(db: Queryable, job_id: str, window: JudgedWindow) -> list[JudgedAnswer]:
    """What one judging and people say, of each different answer."""
    frame = correcting(db, job_id, window)
    if frame is None:
        sql = """
            SELECT version, grouped_by, at_random, passed, false AS in_frame, NULL::DOUBLE AS people
            FROM request_judgement WHERE job_id = ?"""
        return records(db.query(sql, [job_id]), JudgedAnswer)
    sql = f"""
        SELECT j.version, j.grouped_by, j.at_random, j.passed, p.people,
            j.asked_at >= $2 AND j.asked_at < $3 AND ($6 = '' OR j.version = $6) AS in_frame
        FROM request_judgement j LEFT JOIN ({_PEOPLE}) p
            ON p.request_id = j.request_id AND p.version = j.version AND NOT j.at_random
        WHERE j.job_id = $5"""
    return records(db.query(sql, [*_of_frame(window, frame), job_id, frame["version"]]), JudgedAnswer)


@named_query
def correcting(db: Queryable, job_id: str, window: JudgedWindow) -> CorrectingRound | None:
    """The round that corrects a judging: of those that fit its window the one of which the judge was asked
    about most rated answers, the newest of two; None where there is none."""
    best, most = None, 0
    for frame in _frames(db, window):
        sql = f"""
            SELECT count(*) FROM request_judgement j JOIN ({_PEOPLE}) p
                ON p.request_id = j.request_id AND p.version = j.version
            WHERE j.job_id = $5 AND NOT j.at_random"""
        count = int(scalar(db.query(sql, [*_of_frame(window, frame), job_id])))
        if best is None or count > most:
            best, most = frame, count
    return best


def rated(db: Queryable, window: JudgedWindow) -> int:
    """Answers of the window that people have rated, in rounds that can correct a judge."""
    sql = f"SELECT count(*) FROM ({_PEOPLE})"
    return int(scalar(db.query(sql, [*window, _round_ids(db, window)])))


def _of_frame(window: JudgedWindow, frame: CorrectingRound) -> list[object]:
    return [window.endpoint_id, frame["start"], frame["end"], [frame["round_id"]]]


def _round_ids(db: Queryable, window: JudgedWindow) -> list[str]:
    return [frame["round_id"] for frame in _frames(db, window)]


def _frames(db: Queryable, window: JudgedWindow) -> list[CorrectingRound]:
    """The rounds that drew from all requests of a part of the window, with that part, the newest first."""
    frames: list[CorrectingRound] = []
    for row in records(db.query(_ROUNDS, [window.endpoint_id]), RoundOfRequests, ["config", "details"]):
        chosen = ChosenRequests.parse(row["config"]["requests"])
        if chosen.alert or chosen.group:
            continue
        last = min(row["drawn_at"], chosen.end or row["drawn_at"])
        looked = db.query(_FIRST_LOOKED_AT, [window.endpoint_id, chosen.start, last])["asked_at"].to_pylist()
        start = max([window.start, *looked, *([chosen.start] if chosen.start else [])])
        if start < (end := min(last, window.end)):
            frames.append(
                {
                    "round_id": row["round_id"],
                    "name": row["name"],
                    "start": start,
                    "end": end,
                    "version": chosen.version,
                    "notices": row["details"]["notices"],
                }
            )
    return frames
