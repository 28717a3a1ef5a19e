"""Logged answers that a judge is asked about, and what it and people say of them.

Each different answer (a version's, to the same messages) counts once, as in rounds of requests. People's part
are ratings, pass or fail, of rounds of requests whose items were drawn at random.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa

from store.config.serving.judge_requests_config import KIND
from store.db.records import records, scalar
from store.documents.serving.request_judging import JudgedAnswer, WindowOfRequests
from store.documents.tables.job import Job
from store.queries import jobs

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
# Of each item and version of a round the first request that it stands for.
_RATED = """
    SELECT l.round_id, l.item_id, l.version, arg_min(l.request_id, l.asked_at) AS request_id
    FROM round_request l JOIN rating_round r USING (round_id)
    WHERE l.endpoint_id = $1 AND l.asked_at >= $2 AND l.asked_at < $3 AND l.random
        AND r.protocol = 'pass_fail'
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
    """The random sample (`at_random`), and beside it the answers that people rated."""
    sql = f"""
        WITH kept AS (SELECT * FROM ({_KEPT}) ORDER BY place DESC LIMIT {NEWEST}),
        different AS (
            SELECT * FROM kept
            QUALIFY row_number() OVER (PARTITION BY version, messages, output ORDER BY place) = 1
        )
        SELECT * EXCLUDE (place), true AS at_random
        FROM (SELECT * FROM different ORDER BY md5(request_id || '/' || $5::VARCHAR) LIMIT $4)
        UNION ALL
        SELECT k.* EXCLUDE (place), false AS at_random
        FROM ({_KEPT}) k JOIN ({_PEOPLE}) p USING (request_id, version)"""
    return db.query(sql, [*window, rows, seed])


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


def judgings(db: Queryable, endpoint_id: str) -> list[Job]:
    """Of an endpoint, the newest first."""
    return [job for job in jobs.of_kind(db, KIND) if job["config"]["endpoint"] == endpoint_id]


def answers(db: Queryable, job_id: str, window: JudgedWindow) -> list[JudgedAnswer]:
    """What one judging and people say, of each different answer."""
    sql = f"""
        SELECT j.version, j.grouped_by, j.at_random, j.passed, p.people
        FROM request_judgement j LEFT JOIN ({_PEOPLE}) p
            ON p.request_id = j.request_id AND p.version = j.version AND NOT j.at_random
        WHERE j.job_id = $4"""
    return records(db.query(sql, [*window, job_id]), JudgedAnswer)


def rated(db: Queryable, window: JudgedWindow) -> int:
    """Answers of the window that people have rated."""
    return int(scalar(db.query(f"SELECT count(*) FROM ({_PEOPLE})", [*window])))
