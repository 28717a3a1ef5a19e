"""What a worker is told: `config.json` of a job's folder (`store.core.schemas.JobOrder`), which is
all that it knows of the world. Here is what each kind of job adds to what every order has.
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
    """What the worker of a claimed job is told."""
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
    """Raises NotFoundError where the run's data set is gone."""
    run = runs.get_run(db, job.job_id)
    config = job.config
    details: JobSpecDetails = {
        "run_id": job.job_id,
        "dataset": _build_spec_dataset(datasets.get_dataset(db, run.dataset_id)),
        "split": get_split(config, Split().fields()),  # runs of before know fewer fields
    }
    if replayed := config.get("replay_dataset"):
        general = datasets.find_dataset(db, replayed)  # a resumed run has kept what it needs of it
        details["replay"] = build_named_dataset(general) if general else None
    if names := config.get("probe_datasets"):
        present = [datasets.find_dataset(db, name) for name in names]
        details["probes"] = [build_named_dataset(dataset) for dataset in present if dataset]
    if bundle := run.facts.get("reproduces"):
        details["opened_by"] = bundle["opened_by"]
    return details


def specify_variant(db: Queryable, job: Job) -> JobSpecDetails:
    """As of a run, with what it is mixed from."""
    facts = runs.get_run(db, job.job_id).facts
    return {**specify_run(db, job), "mixed_from": facts["mixed_from"], "alpha": facts["alpha"]}


def specify_evaluation(db: Queryable, job: Job) -> JobSpecDetails:
    """The data set with its own split, and with what was measured of it; the run that is evaluated is known
    by its folder."""
    dataset = datasets.get_dataset(db, job.config["dataset"])
    return {
        "dataset": load_measured_dataset(db, dataset.dataset_id),
        "split": datasets.get_split_fields(dataset),
    }


def specify_data_job(db: Queryable, job: Job) -> JobSpecDetails:
    """The data with what was measured of it, for a profile and a cleaning."""
    return {**datasets.work_order(db, job.config)}


def specify_data_export(db: Queryable, job: Job) -> JobSpecDetails:
    """The data, and what its card tells of the versions before."""
    return {**specify_data_job(db, job), **dataset_versions.read_card_facts(db, job.config["dataset"])}


def build_named_dataset(dataset: Dataset) -> NamedDataset:
    """The data set as a worker has to know it."""
    return {
        "dataset_id": dataset.dataset_id,
        "name": dataset.name,
        "kind": dataset.kind,
        "fingerprint": dataset.fingerprint,
    }


def _build_spec_dataset(dataset: Dataset) -> OrderDataset:
    return {**build_named_dataset(dataset)}


def load_measured_dataset(db: Queryable, dataset: str) -> OrderDataset:
    """With what was measured of it, which a filter may ask for."""
    return datasets.work_order(db, {"dataset": dataset})["dataset"]


def archive_attempt(folder: JobDir, attempt: int) -> None:
    """Before a resume: what the ended attempt said of itself must not be taken for the next one's."""
    for path in (folder.result, folder.worker):
        if path.exists():
            os.replace(path, path.with_name(f"{path.stem}.attempt-{attempt}{path.suffix}"))
