"""What interpolations found. Single rows and items are in `interpolation.parquet` of the job's folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from store.records import records

if TYPE_CHECKING:
    from store.database import Queryable


def of_run(db: Queryable, run_id: str) -> dict[str, Any] | None:
    """What the newest finished interpolation of a run found (docs/architecture.md), with its `job_id`."""
    sql = (
        "SELECT job_id, result FROM job WHERE kind = 'interpolate' AND status = 'finished'"
        " AND config ->> 'run_id' = ? ORDER BY created_at DESC, job_id DESC LIMIT 1"
    )
    found = records(db.query(sql, [run_id]), ["result"])
    return found[0]["result"] | {"job_id": found[0]["job_id"]} if found else None
