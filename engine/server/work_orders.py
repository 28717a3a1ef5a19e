"""What a worker is told: `config.json` of a job's folder, which is all that it knows of the world.

{job_id, kind, home, device, attempt, resume, config}; for a run also `run_id`, `dataset`
{dataset_id, name, kind, fingerprint}, `split` {the fields of Split} and, where rows of a data set are
replayed, `replay` {as `dataset`; null where it is gone}, and `probes` [{as `dataset`}, …], the data sets that
are probes, without those that are gone; for a run that is mixed and not trained `mixed_from` (the run of
whose model) and `alpha`. For work on data
(profile, clean, export): `dataset` {the same, format, columns, parent_id, row_count, split fields, `signals`:
{group that was measured: its options}}, `parent` (the same of the version before, or null), and `mixed`
{name in the recipe: the same}. For an export, for its data card: `history` [the versions from the first to
this one] and `figures` {group: what was measured}. For an evaluation: `dataset` as of a run, and its own
`split`; the run that is evaluated is known by its folder. For a matrix of transfer: `datasets` [the same of
each that is still there].
"""

from __future__ import annotations

import os
from typing import Any

from store.config.train_config import Split, split_of
from store.contract.home import Home
from store.contract.jobdir import JobDir, write_json
from store.db.database import Queryable
from store.queries.data import datasets, quality, versions
from store.queries.runs import runs
from store.queries.runs.runs import RUNS

NAMED = ("dataset_id", "name", "kind", "fingerprint")


def write_order(db: Queryable, home: Home, job: dict[str, Any]) -> JobDir:
    """Make the folder of a claimed job, if it has none yet, and write its order; raises OSError.

    Raises NotFoundError where a run's data set is gone.
    """
    folder = JobDir(home.jobs / job["job_id"])
    folder.path.mkdir(parents=True, exist_ok=True)
    order = {
        "job_id": job["job_id"],
        "kind": job["kind"],
        "home": str(home.path),
        "device": job["device"],
        "attempt": job["attempt"],
        "resume": job["attempt"] > 1,
        "config": job["config"],
    }
    if job["kind"] in RUNS:
        order |= _of_run(db, job)
    elif job["kind"] == "evaluate":
        order |= _of_evaluation(db, job["config"]["dataset"])
    elif job["kind"] == "transfer":
        there = [name for name in job["config"]["datasets"] if datasets.find_dataset(db, name)]
        order["datasets"] = [_of_evaluation(db, name) for name in there]
    elif job["kind"] in ("profile", "clean", "export"):
        order |= quality.work_order(db, job["config"])
    if job["kind"] == "export":
        order |= versions.told(db, job["config"]["dataset"])
    write_json(folder.config, order)
    return folder


def _of_run(db: Queryable, job: dict[str, Any]) -> dict[str, Any]:
    run = runs.get_run(db, job["job_id"])
    dataset = datasets.get_dataset(db, run["dataset_id"])
    order = {
        "run_id": job["job_id"],
        "dataset": {key: dataset[key] for key in NAMED},
        "split": split_of(job["config"], Split().model_dump()),  # runs of before know fewer fields
    }
    if replayed := job["config"].get("replay_dataset"):
        general = datasets.find_dataset(db, replayed)  # a resumed run has kept what it needs of it
        order["replay"] = {key: general[key] for key in NAMED} if general else None
    if names := job["config"].get("probe_datasets"):
        known = [datasets.find_dataset(db, name) for name in names]
        order["probes"] = [{key: one[key] for key in NAMED} for one in known if one]
    if job["kind"] == "variant":
        order |= {"mixed_from": run["facts"]["mixed_from"], "alpha": run["facts"]["alpha"]}
    return order


def _of_evaluation(db: Queryable, name: str) -> dict[str, Any]:
    dataset = datasets.get_dataset(db, name)
    return {
        "dataset": {key: dataset[key] for key in NAMED},
        "split": split_of({}, dataset),
    }


def set_attempt_aside(folder: JobDir, attempt: int) -> None:
    """Before a resume: what the ended attempt said of itself must not be taken for the next one's."""
    for path in (folder.result, folder.worker):
        if path.exists():
            os.replace(path, path.with_name(f"{path.stem}.attempt-{attempt}{path.suffix}"))
