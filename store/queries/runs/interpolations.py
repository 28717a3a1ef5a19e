"""What interpolations found. Single rows and items are in `interpolation.parquet` of the job's folder.

Every α of a run is known once: where several interpolations measured it, the newest counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from store.db.named_query import named_query
from store.db.records import records
from store.documents.tables.job import Job
from store.documents.tables.run import KeptVariant, MeasuredShare

if TYPE_CHECKING:
    from store.db.database import Queryable

FIGURES = ("gain", "prose", "answers", "kl")


@named_query
def points(db: Queryable, run_id: str = "") -> list[MeasuredShare]:
    """Every α that was measured, of one run or of all, along the way."""
    of_run = "AND config ->> 'run_id' = ?" if run_id else ""
    sql = f"""
        WITH found AS (
            SELECT config ->> 'run_id' AS run_id, job_id, created_at,
                   unnest(json_extract(result, '$.points[*]')) AS point
            FROM job
            WHERE kind = 'interpolate' AND status = 'finished' {of_run}
        )
        SELECT run_id, job_id, TRY_CAST(point ->> '$.alpha' AS DOUBLE) AS alpha, point ->> '$.state' AS state,
               TRY_CAST(point ->> '$.seconds' AS DOUBLE) AS seconds,
               nullif(point -> '$.gain', 'null') AS gain, nullif(point -> '$.text.change', 'null') AS prose,
               nullif(point -> '$.choices.change', 'null') AS answers, nullif(point -> '$.kl', 'null') AS kl,
               nullif(point -> '$.named', 'null') AS named
        FROM found
        QUALIFY row_number() OVER (PARTITION BY run_id, alpha ORDER BY created_at DESC, job_id DESC) = 1
        ORDER BY run_id, alpha
    """
    return records(db.query(sql, [run_id] if run_id else []), MeasuredShare, (*FIGURES, "named"))


@named_query
def mixed(db: Queryable) -> list[str]:
    """Runs with scored shares, those first that were scored last; deleted ones are left out."""
    sql = """
        SELECT j.config ->> 'run_id' AS run_id FROM job j JOIN run r ON r.run_id = j.config ->> 'run_id'
        WHERE j.kind = 'interpolate' AND j.status = 'finished'
        GROUP BY ALL ORDER BY max(j.created_at) DESC, run_id
    """
    return [str(run_id) for run_id in db.query(sql)["run_id"].to_pylist()]


@named_query
def unfinished(db: Queryable, run_id: str) -> list[Job]:
    """Interpolations of a run that wait, work, or ended without a result since the newest that has one."""
    sql = """
        SELECT * FROM job WHERE kind = 'interpolate' AND config ->> 'run_id' = ? AND status <> 'finished'
        AND created_at > coalesce((SELECT max(created_at) FROM job WHERE kind = 'interpolate'
            AND config ->> 'run_id' = ? AND status = 'finished'), TIMESTAMP '1970-01-01')
        ORDER BY created_at, job_id
    """
    return records(db.query(sql, [run_id, run_id]), Job, ("config", "error", "result"))


@named_query
def kept(db: Queryable, run_id: str) -> dict[float, KeptVariant]:
    """Runs that were mixed from this one and its base, the newest of each α."""
    sql = """
        SELECT run_id, number, name, status, TRY_CAST(facts ->> 'alpha' AS DOUBLE) AS alpha
        FROM run_overview WHERE facts ->> 'mixed_from' = ? ORDER BY created_at, run_id
    """
    return {row["alpha"]: row for row in records(db.query(sql, [run_id]), KeptVariant)}
