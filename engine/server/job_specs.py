"""Job specifications: `config.json` of a job's folder, the only input of a worker.

This module builds the fields of every specification (`store.core.schemas.JobOrder`), and the details of
each kind of job.
"""

from __future__ import annotations

import os

from store.core.home import Home
from store.core.job_folder import JobDir
from store.core.schemas import Job
from store.data import dataset_versions, datasets
from store.data.schemas import Dataset
from store.db.database import Queryable
from store.jobs.schemas import (
    JobSpec,
    JobSpecDetails,
    NamedDataset,
    OrderDataset,
)
from store.runs import runs
from store.training.split import Split, get_split


def build_spec(home: Home, job: Job, networks: list[str], details: JobSpecDetails) -> JobSpec:
    """Build the specification of a claimed job."""
    return {
        "job_id": job.job_id,
        "kind": job.kind,
        "home": str(home.path),
        "device": job.device or "cpu",
        "attempt": job.attempt,
        "resume": job.attempt > 1,
        "networks": networks,
        "config": job.config,
        **details,
    }


def specify_run(db: Queryable, job: Job) -> JobSpecDetails:
    """Return the details of a run. Raises NotFoundError if its data set was deleted."""
    run = runs.get_run(db, job.job_id)
    config = job.config
    details: JobSpecDetails = {
        "run_id": job.job_id,
        "dataset": {**build_named_dataset(datasets.get_dataset(db, run.dataset_id))},
        "split": get_split(config, Split().fields()),  # older runs have fewer fields
    }
    if replayed := config.get("replay_dataset"):
        general = datasets.find_dataset(db, replayed)  # a resumed run has stored what it needs of it
        details["replay"] = build_named_dataset(general) if general else None
    if names := config.get("probe_datasets"):
        present = [datasets.find_dataset(db, name) for name in names]
        details["probes"] = [build_named_dataset(dataset) for dataset in present if dataset]
    if bundle := run.facts.get("reproduces"):
        details["opened_by"] = bundle["opened_by"]
    return details


def specify_variant(db: Queryable, job: Job) -> JobSpecDetails:
    """Return the details of a run, with the run it is interpolated from."""
    facts = runs.get_run(db, job.job_id).facts
    return {**specify_run(db, job), "mixed_from": facts["mixed_from"], "alpha": facts["alpha"]}


def specify_evaluation(db: Queryable, job: Job) -> JobSpecDetails:
    """Return the data set with its split and measurements; the evaluated run is known by its folder."""
    dataset = datasets.get_dataset(db, job.config["dataset"])
    return {
        "dataset": load_measured_dataset(db, dataset.dataset_id),
        "split": datasets.get_split_fields(dataset),
    }


def specify_data_job(db: Queryable, job: Job) -> JobSpecDetails:
    """Return the data set with its measurements, for a profile or a cleaning."""
    return {**datasets.work_order(db, job.config)}


def specify_data_export(db: Queryable, job: Job) -> JobSpecDetails:
    """Return the data set, and facts about earlier versions for its card."""
    return {**specify_data_job(db, job), **dataset_versions.read_card_facts(db, job.config["dataset"])}


def build_named_dataset(dataset: Dataset) -> NamedDataset:
    """Return the fields of a data set that a worker needs."""
    return {
        "dataset_id": dataset.dataset_id,
        "name": dataset.name,
        "kind": dataset.kind,
        "fingerprint": dataset.fingerprint,
    }


def load_measured_dataset(db: Queryable, dataset: str) -> OrderDataset:
    """Return the data set with its measurements, which a filter may use."""
    return datasets.work_order(db, {"dataset": dataset})["dataset"]


def archive_attempt(folder: JobDir, attempt: int) -> None:
    """Rename the files of an ended attempt before a resume, so that they aren't taken for the next one's."""
    for path in (folder.result, folder.worker):
        if path.exists():
            os.replace(path, path.with_name(f"{path.stem}.attempt-{attempt}{path.suffix}"))
