"""What a judging of logged requests is given, and what it brings into the store."""

from __future__ import annotations

from typing import Any

import pyarrow.parquet as pq

from store.config.serving.judge_requests_config import JudgingOfRequests
from store.contract.home import Home
from store.contract.jobdir import JobDir, written_aside
from store.db.database import Queryable, Transaction
from store.documents.tables.job import Job
from store.documents.tables.job_order import OrderDetails
from store.queries.monitoring import judged_requests, monitors
from store.queries.monitoring.judged_requests import JudgedWindow

FILE = "judgements.parquet"


def of_judging(db: Queryable, job: Job) -> OrderDetails:
    """How many requests the window has."""
    return {"judging": judged_requests.counts(db, JudgedWindow.of(job))}


def bring_answers(db: Queryable, home: Home, job: Job) -> None:
    """Put what is to be judged into the job's folder."""
    config = JudgingOfRequests.parse(job["config"])
    rows = judged_requests.to_judge(db, JudgedWindow.of(job), config.rows, config.seed)
    with written_aside(JobDir(home.jobs / job["job_id"]).path / "requests.parquet") as unfinished:
        pq.write_table(rows, unfinished)


def keep_judging(tx: Transaction, home: Home, job: Job, result: Any, at: float) -> None:
    """The verdicts, while the endpoint is there."""
    endpoint_id = job["config"]["endpoint"]
    if any(each["endpoint_id"] == endpoint_id for each in monitors.endpoints(tx)):
        table = pq.read_table(home.jobs / job["job_id"] / FILE)
        judged_requests.keep(tx, job["job_id"], endpoint_id, table)
