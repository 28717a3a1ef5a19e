"""Job handlers of gathered rows: storing of results, and what improvements in progress need."""

from __future__ import annotations

from engine.server.job_results import build_dataset_id, select_rows_fields
from engine.server.profiling import queue_automatic
from store.core.errors import DataError
from store.core.home import Home
from store.core.schemas import Job
from store.data import datasets
from store.data.schemas import NewDataset
from store.db.database import Transaction
from store.jobs import job_queue
from store.retraining import improvements
from store.retraining.config import GatherConfig
from store.retraining.schemas import GatherResult, TooFewRowsResult


def store_feedback_rows(
    tx: Transaction, home: Home, job: Job, result: GatherResult | TooFewRowsResult, at: float
) -> None:
    """Store the data set of new rows and queue the jobs that measure it; do nothing if there are too few
    rows.
    """
    if "too_few" in result:
        return
    config = GatherConfig.parse(job.config)
    if not home.rows(result["fingerprint"]).exists():
        raise DataError(
            f"The rows of {config.name} are missing from {home.datasets}.", fix="Gather the rows again."
        )
    dataset_id = build_dataset_id(job.job_id)
    datasets.insert_dataset(
        tx,
        NewDataset(
            dataset_id=dataset_id,
            name=config.name,
            source={"improvement": config.improvement},
            **select_rows_fields(result),
            split_seed=config.seed,
            split_by="given",
            split_column=None,
            validation_size=0.0,  # the old rows are used for validation
            test_size=config.held_out,
            parent_id=None,
            recipe=None,
            fates=None,
            created_at=job_queue.to_utc(at),
            created_by=job.created_by,
        ),
    )
    queue_automatic(tx, dataset_id, at)


def list_feedback_datasets(tx: Transaction, job: Job) -> set[str]:
    """Return the ids of the data sets that new rows are compared with or come from."""
    config = job.config
    return {config["dataset"], *(rows["dataset"] for rows in config["rows"] if rows["source"] == "dataset")}


def check_job_not_improving(tx: Transaction, home: Home, job: Job) -> None:
    """Raise StateError if an improvement in progress needs the job or its run."""
    improvements.check_not_improving(tx, job.job_id, job.title)
