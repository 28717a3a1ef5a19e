"""What a finished job brings into the store, in the transaction that makes it finished."""

from __future__ import annotations

from typing import Any

import pyarrow.parquet as pq

from store import datasets, jobs, runs
from store.config import ImportConfig
from store.database import Transaction
from store.errors import DataError
from store.home import Home
from store.jobdir import JobDir


def dataset_id_of(job_id: str) -> str:
    """The id of the data set that an import job makes, known before it is made."""
    return f"data-{job_id.removeprefix('job-')}"


def keep(tx: Transaction, home: Home, job: dict[str, Any], result: dict[str, Any], at: float) -> None:
    """Store what the finished `job` made; raises where its result is not what docs/architecture.md says."""
    if job["kind"] == "import":
        _keep_dataset(tx, home, job, result, at)
    elif job["kind"] == "train":
        _keep_verdict(tx, JobDir(home.jobs / job["job_id"]), job["job_id"], result)


def _keep_dataset(
    tx: Transaction, home: Home, job: dict[str, Any], result: dict[str, Any], at: float
) -> None:
    config = ImportConfig.parse(job["config"])
    if not home.rows(result["fingerprint"]).exists():
        raise DataError(f"The rows of {config.name} are gone from {home.datasets}.", fix="Import it again.")
    dataset_id = dataset_id_of(job["job_id"])
    measured = (
        *("fingerprint", "kind", "format", "columns", "row_count", "skipped_count", "duplicate_count"),
        *("source_bytes", "stats"),
    )
    row = {
        "dataset_id": dataset_id,
        "name": config.name,
        "source": config.source.model_dump(exclude_none=True),
        **{field: result[field] for field in measured},
        **config.model_dump(include={"split_seed", "validation_size", "test_size"}),
        "created_at": jobs.utc(at),
    }
    datasets.insert_dataset(tx, row)
    tx.execute(  # runs that were launched while the rows were still being read
        "UPDATE run SET data_fingerprint = ? WHERE dataset_id = ?", [result["fingerprint"], dataset_id]
    )


def _keep_verdict(tx: Transaction, folder: JobDir, run_id: str, result: dict[str, Any]) -> None:
    runs.update(tx, run_id, verdict=result["verdict"])
    if folder.predictions.exists():
        runs.replace_predictions(tx, run_id, pq.read_table(folder.predictions).to_pylist())
