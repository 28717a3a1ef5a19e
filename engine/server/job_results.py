"""Storage of job results, in the transaction that marks the job as finished."""

from __future__ import annotations

import os

import pyarrow.parquet as pq

from engine.server.profiling import queue_automatic
from store.core.errors import DataError
from store.core.home import Home
from store.core.job_folder import JobDir
from store.core.row_schemas import CleanResult, ImportResult, ProfileResult, RowsResult
from store.core.schemas import Job
from store.data import datasets
from store.data.config import CleanConfig, ImportConfig
from store.data.schemas import Dataset, NewDataset
from store.db.database import Transaction
from store.evaluation import evaluations
from store.evaluation.schemas import EvaluationResult
from store.jobs import job_queue
from store.jobs.schemas import SplitFields
from store.runs import runs
from store.runs.schemas import RunResult


def build_dataset_id(job_id: str) -> str:
    """Return the id of an import job's data set, known before it exists."""
    return f"data-{job_id.removeprefix('job-')}"


def select_rows_fields(result: RowsResult) -> RowsResult:
    """Return the fields that the results of an import and a cleaning have in common."""
    return {
        "fingerprint": result["fingerprint"],
        "kind": result["kind"],
        "format": result["format"],
        "columns": result["columns"],
        "row_count": result["row_count"],
        "skipped_count": result["skipped_count"],
        "duplicate_count": result["duplicate_count"],
        "source_bytes": result["source_bytes"],
        "stats": result["stats"],
    }


def store_dataset(tx: Transaction, home: Home, job: Job, result: ImportResult, at: float) -> None:
    """Store the data set of an import, and queue the jobs that measure it."""
    config = ImportConfig.parse(job.config)
    if not home.rows(result["fingerprint"]).exists():
        raise DataError(f"The rows of {config.name} are gone from {home.datasets}.", fix="Import it again.")
    dataset_id = build_dataset_id(job.job_id)
    row = NewDataset(
        dataset_id=dataset_id,
        name=config.name,
        source=config.source.document(),
        **select_rows_fields(result),
        **config.fields(),
        parent_id=None,
        recipe=None,
        fates=None,
        created_at=job_queue.to_utc(at),
        created_by=job.created_by,
    )
    if by := result.get("split_by"):
        row.split_by = by
    datasets.insert_dataset(tx, row)
    tx.execute(  # runs launched during the import
        "UPDATE run SET data_fingerprint = ? WHERE dataset_id = ?", [result["fingerprint"], dataset_id]
    )
    queue_automatic(tx, dataset_id, at)


def store_signals(tx: Transaction, home: Home, job: Job, result: ProfileResult, at: float) -> None:
    """Move the worker's sidecar file to the rows it measured, unless the data set was deleted."""
    dataset, group = datasets.find_dataset(tx, job.config["dataset"]), job.config["group"]
    made = home.jobs / job.job_id / f"{group}.parquet"
    if dataset is None:
        made.unlink(missing_ok=True)
        return
    fingerprint = dataset.fingerprint
    final = home.signals(fingerprint, group)
    if made.exists():  # otherwise moved by an engine that was killed before the commit
        final.parent.mkdir(exist_ok=True)
        os.replace(made, final)
    datasets.record_signals(tx, fingerprint, group, result, job_queue.to_utc(at))


def store_version(tx: Transaction, home: Home, job: Job, result: CleanResult, at: float) -> None:
    """Store the new version with split and source of the old one."""
    config = CleanConfig.parse(job.config)
    if not home.rows(result["fingerprint"]).exists():
        raise DataError(f"The rows of {config.name} are gone from {home.datasets}.", fix="Clean it again.")
    old = datasets.get_dataset(tx, config.dataset)
    datasets.insert_dataset(
        tx,
        NewDataset(
            dataset_id=build_dataset_id(job.job_id),
            name=config.name,
            source=old.source,
            **select_rows_fields(result),
            **_build_version_split(old, result),
            parent_id=old.dataset_id,
            recipe={"steps": config.recipe.model_dump()["steps"]},
            fates=result["fates"],
            created_at=job_queue.to_utc(at),
            created_by=job.created_by,
        ),
    )
    queue_automatic(tx, build_dataset_id(job.job_id), at)


def _build_version_split(old: Dataset, result: CleanResult) -> SplitFields:
    """Return the split of the old version.

    If every row has an assigned part, it is kept, and a part without rows stays empty.
    """
    fields = datasets.get_split_fields(old)
    parts = result.get("parts")
    if parts is None:
        return fields
    sizes = {part: rows / result["row_count"] for part, rows in parts.items()}
    return {
        **fields,
        "split_by": "given",
        "split_column": None,
        "validation_size": min(0.5, round(sizes.get("validation", 0.0), 6)),
        "test_size": min(0.5, round(sizes.get("test", 0.0), 6)),
    }


def store_verdict(tx: Transaction, home: Home, job: Job, result: RunResult, at: float) -> None:
    """Store the verdict of a run, and its responses to sample prompts."""
    run_id, folder = job.job_id, JobDir(home.jobs / job.job_id)
    runs.update(tx, run_id, verdict=result["verdict"])
    if folder.predictions.exists():
        runs.replace_predictions(tx, run_id, pq.read_table(folder.predictions).to_pylist())


def store_evaluation(tx: Transaction, home: Home, job: Job, result: EvaluationResult, at: float) -> None:
    """Store the results of an evaluation."""
    config = job.config
    model = config["model"] or runs.get_run(tx, config["run"]).model
    evaluations.insert(tx, job, result, datasets.get_dataset(tx, config["dataset"]), model, at)
