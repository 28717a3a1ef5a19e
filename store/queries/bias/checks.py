"""Bias checks that have finished, and those that wait or are at work."""

from __future__ import annotations

from typing import TYPE_CHECKING

from store.config.judging.bias_config import KIND, BiasConfig
from store.contract.errors import NotFoundError
from store.db.named_query import named_query
from store.db.records import records, to_json
from store.documents.shipping.bias_details import BiasCheck, BiasResult, BiasSummary
from store.documents.tables.job import Job
from store.queries.jobs import utc

if TYPE_CHECKING:
    from store.db.database import Queryable, Transaction

JSON_COLUMNS = ("config", "report", "details")
_OF = "($1 = '' OR run_id = $1) AND ($2 = '' OR model = $2) AND ($3 = '' OR contains(config::VARCHAR, $3))"


@named_query
def newest(db: Queryable, *, run_id: str = "", model: str = "", evaluation_id: str = "") -> BiasCheck | None:
    """The newest check of a run, of a model by name (NAME@3), or with groups of an evaluation; None where
    there is none."""
    sql = f"SELECT * FROM bias_check WHERE {_OF} ORDER BY created_at DESC, job_id DESC LIMIT 1"
    rows = records(db.query(sql, [run_id, model, evaluation_id]), BiasCheck, JSON_COLUMNS)
    return rows[0] if rows else None


@named_query
def listed(db: Queryable, *, run_id: str = "", evaluation_id: str = "", limit: int = 50) -> list[BiasSummary]:
    """Those of a run, or with groups of an evaluation, newest first."""
    sql = f"""
        SELECT job_id, run_id, model, against, report ->> 'sentence' AS sentence,
               (report ->> 'worse')::INTEGER AS worse, (report ->> 'cant_tell')::INTEGER AS cant_tell,
               created_by, created_at
        FROM bias_check WHERE {_OF} ORDER BY created_at DESC, job_id DESC LIMIT {int(limit)}"""
    return records(db.query(sql, [run_id, "", evaluation_id]), BiasSummary)


@named_query
def get(db: Queryable, job_id: str) -> BiasCheck:
    """The check of that job. Raises NotFoundError."""
    rows = records(db.query("SELECT * FROM bias_check WHERE job_id = ?", [job_id]), BiasCheck, JSON_COLUMNS)
    if not rows:
        raise NotFoundError(f"There is no bias check {job_id}.", fix="It may have been deleted.")
    return rows[0]


@named_query
def unfinished(db: Queryable, *, run_id: str = "", evaluation_id: str = "") -> list[Job]:
    """Jobs that check this run, or groups of this evaluation, and have no result; newest first."""
    sql = """
        SELECT * FROM job WHERE kind = $1 AND status <> 'finished'
        AND (($2 <> '' AND config ->> 'run' = $2) OR ($3 <> '' AND contains(config::VARCHAR, $3)))
        ORDER BY created_at DESC, job_id DESC"""
    return records(db.query(sql, [KIND, run_id, evaluation_id]), Job, ("config", "error", "result"))


def insert(tx: Transaction, job: Job, result: BiasResult, names: tuple[str, str], at: float) -> None:
    """What the finished `job` measured; names: of the model and of what it was held against."""
    config = BiasConfig.parse(job["config"])
    tx.execute(
        "INSERT INTO bias_check VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            job["job_id"],
            config.run or None,
            *names,
            to_json(config.document()),
            to_json(result["report"]),
            to_json(result["details"]),
            job["created_by"],
            utc(at),
        ],
    )
