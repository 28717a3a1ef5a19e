"""What a finished job brings into the store, in the transaction that makes it finished."""

from __future__ import annotations

import os
from typing import Any

import pyarrow.parquet as pq

from engine.server.profiling import queue_automatic
from store.config.data_config import CleanConfig
from store.config.import_config import ImportConfig
from store.config.train_config import Split
from store.contract.errors import DataError
from store.contract.home import Home
from store.contract.jobdir import JobDir
from store.db.database import Transaction
from store.queries import jobs
from store.queries.data import datasets, quality
from store.queries.evaluations import evaluations
from store.queries.runs import runs

MEASURED = (
    *("fingerprint", "kind", "format", "columns", "row_count", "skipped_count", "duplicate_count"),
    *("source_bytes", "stats"),
)


def dataset_id_of(job_id: str) -> str:
    """The id of the data set that an import job makes, known before it is made."""
    return f"data-{job_id.removeprefix('job-')}"


def keep(tx: Transaction, home: Home, job: dict[str, Any], result: dict[str, Any], at: float) -> None:
    """Store what the finished `job` made; raises where its result is not what docs/architecture.md says."""
    if job["kind"] == "import":
        _keep_dataset(tx, home, job, result, at)
    elif job["kind"] in runs.RUNS:
        _keep_verdict(tx, JobDir(home.jobs / job["job_id"]), job["job_id"], result)
    elif job["kind"] == "profile":
        _keep_signals(tx, home, job, result, at)
    elif job["kind"] == "clean":
        _keep_version(tx, home, job, result, at)
    elif job["kind"] == "evaluate":
        config = job["config"]
        model = config["model"] or runs.get_run(tx, config["run"])["model"]
        evaluations.insert(tx, job, result, datasets.get_dataset(tx, config["dataset"]), model, at)


def _keep_dataset(
    tx: Transaction, home: Home, job: dict[str, Any], result: dict[str, Any], at: float
) -> None:
    config = ImportConfig.parse(job["config"])
    if not home.rows(result["fingerprint"]).exists():
        raise DataError(f"The rows of {config.name} are gone from {home.datasets}.", fix="Import it again.")
    dataset_id = dataset_id_of(job["job_id"])
    row = {
        "dataset_id": dataset_id,
        "name": config.name,
        "source": config.source.model_dump(exclude_none=True),
        **{field: result[field] for field in MEASURED},
        **config.model_dump(include=set(Split.model_fields)),
        "split_by": result.get("split_by", config.split_by),
        "created_at": jobs.utc(at),
    }
    datasets.insert_dataset(tx, row)
    tx.execute(  # runs that were launched while the rows were still being read
        "UPDATE run SET data_fingerprint = ? WHERE dataset_id = ?", [result["fingerprint"], dataset_id]
    )
    queue_automatic(tx, dataset_id, at)


def _keep_signals(
    tx: Transaction, home: Home, job: dict[str, Any], result: dict[str, Any], at: float
) -> None:
    """The sidecar that the worker wrote goes to the rows that it measured; a data set deleted meanwhile needs
    none."""
    dataset, group = datasets.find_dataset(tx, job["config"]["dataset"]), job["config"]["group"]
    made = home.jobs / job["job_id"] / f"{group}.parquet"
    if dataset is None:
        made.unlink(missing_ok=True)
        return
    fingerprint = dataset["fingerprint"]
    final = home.signals(fingerprint, group)
    if made.exists():  # else an engine that was killed between the move and the commit has moved it
        final.parent.mkdir(exist_ok=True)
        os.replace(made, final)
    quality.record_signals(tx, fingerprint, group, result, jobs.utc(at))


def _keep_version(
    tx: Transaction, home: Home, job: dict[str, Any], result: dict[str, Any], at: float
) -> None:
    """The new version; split and source are those of the old one."""
    config = CleanConfig.parse(job["config"])
    if not home.rows(result["fingerprint"]).exists():
        raise DataError(f"The rows of {config.name} are gone from {home.datasets}.", fix="Clean it again.")
    old = datasets.get_dataset(tx, config.dataset)
    inherited = ("source", *Split.model_fields)
    datasets.insert_dataset(
        tx,
        {
            "dataset_id": dataset_id_of(job["job_id"]),
            "name": config.name,
            "parent_id": old["dataset_id"],
            "recipe": config.recipe.model_dump(),
            **{field: old[field] for field in inherited},
            **{field: result[field] for field in MEASURED},
            "fates": result["fates"],
            "created_at": jobs.utc(at),
        },
    )
    queue_automatic(tx, dataset_id_of(job["job_id"]), at)


def _keep_verdict(tx: Transaction, folder: JobDir, run_id: str, result: dict[str, Any]) -> None:
    runs.update(tx, run_id, verdict=result["verdict"])
    if folder.predictions.exists():
        runs.replace_predictions(tx, run_id, pq.read_table(folder.predictions).to_pylist())
