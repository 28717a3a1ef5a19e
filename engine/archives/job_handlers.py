"""Specifications of the archives' jobs, and the result of an opened bundle in the store: its data set, and
how it differs from its run.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

from engine.archives import archive_file, originals
from engine.server.job_results import build_dataset_id, select_rows_fields
from engine.server.job_specs import load_measured_dataset
from engine.server.profiling import queue_automatic
from store.archives.schemas import LocalOriginal, OpenedBundle
from store.core.documents import as_json
from store.core.home import Home
from store.core.job_folder import read_json
from store.core.schemas import Job
from store.data import dataset_versions, datasets
from store.data.schemas import NewDataset
from store.db.database import Queryable, Transaction
from store.jobs import job_queue, metric_points
from store.jobs.schemas import AuxiliaryDataset, JobSpecDetails, LossCurve, RunSpec, RunWithCurves
from store.runs import runs
from store.runs.schemas import Run
from store.training.split import get_split

MAX_POINTS = 20_000  # of a loss curve; above this, neighbors are merged
MAX_DIFFERENCES = 50  # listed between a bundle and its run


def specify_bundle(db: Queryable, job: Job) -> JobSpecDetails:
    """Describe the bundled run, its rows and their history, and its other inputs."""
    run = runs.get_run(db, job.config["run"])
    dataset = datasets.get_dataset(db, run.dataset_id)
    parent = datasets.find_dataset(db, dataset.parent_id or "")
    config = run.config
    named_others = [("replay", config.get("replay_dataset") or "")]
    named_others += [("probe", name) for name in config.get("probe_datasets", ())]
    others: list[AuxiliaryDataset] = []
    for role, name in named_others:
        if other := datasets.find_dataset(db, name) if name else None:
            others.append(
                AuxiliaryDataset(role=cast(Any, role), name=other.name, fingerprint=other.fingerprint)
            )
    return {
        "run": _describe_run(db, run),
        "dataset": load_measured_dataset(db, dataset.dataset_id),
        "split": get_split(config, datasets.get_split_fields(dataset)),
        "history": dataset_versions.read_card_facts(db, dataset.dataset_id)["history"],
        "parent_fingerprint": parent.fingerprint if parent else None,
        "others": others,
    }


def specify_reproduction(db: Queryable, job: Job) -> JobSpecDetails:
    """Describe the run that was launched from a bundle, now that it has ended, and the original if it exists
    here.
    """
    run = runs.get_run(db, job.config["run"])
    details: JobSpecDetails = {"run": _describe_run(db, run), "opened_by": job.config["bundle"]}
    source = run.facts.get("reproduces")
    if source and (original := runs.find_run(db, source["run_id"])):
        details["compared"] = [_add_curves(db, original), _add_curves(db, run)]
    return details


def _add_curves(db: Queryable, run: Run) -> RunWithCurves:
    return RunWithCurves(
        **vars(_describe_run(db, run)),
        curves={
            "train/loss": _read_curve(db, run, "train/loss"),
            "eval/loss": _read_curve(db, run, "eval/loss"),
        },
    )


def _read_curve(db: Queryable, run: Run, name: str) -> LossCurve:
    table = metric_points.curve(db, run.run_id, name, buckets=MAX_POINTS)
    return LossCurve(steps=table["step"].to_pylist(), values=table["value"].to_pylist())


def _describe_run(db: Queryable, run: Run) -> RunSpec:
    return RunSpec(
        run_id=run.run_id,
        name=run.name,
        kind=job_queue.get_job(db, run.run_id).kind,
        model=run.model,
        created_at=run.created_at.isoformat(),
        config=run.config,
        facts={**run.facts},
        verdict=as_json(run.verdict) if run.verdict else None,
    )


def store_opened_bundle(tx: Transaction, home: Home, job: Job, result: OpenedBundle, at: float) -> None:
    """Store the data set of a bundle, under its name or the next free one, and how the bundle differs from
    its run if that exists here.
    """
    if run := runs.find_run(tx, result.run.run_id):
        opened: OpenedBundle = replace(result, original=_find_original(tx, home, job, run, result))
        job_queue.update(tx, job.job_id, result=opened)
    taken = result.taken
    if taken is None:
        return
    names = {row.name for row in datasets.list_datasets(tx)}
    name, number = result.dataset[:80], 1
    while name in names:
        number += 1
        name = f"{result.dataset[:70]} ({number})"
    dataset_id = build_dataset_id(job.job_id)
    row = NewDataset(
        dataset_id=dataset_id,
        name=name,
        source={"upload": result.bundle},
        **select_rows_fields(taken),
        **result.split,
        parent_id=None,
        recipe=None,
        fates=None,
        created_at=job_queue.to_utc(at),
        created_by=job.created_by,
    )
    datasets.insert_dataset(tx, row)
    queue_automatic(tx, dataset_id, at)


def _find_original(tx: Transaction, home: Home, job: Job, run: Run, result: OpenedBundle) -> LocalOriginal:
    manifest = read_json(home.jobs / job.job_id / archive_file.MANIFEST)
    kind = job_queue.get_job(tx, run.run_id).kind
    written = [made.result for made in job_queue.list_of_kind(tx, "bundle") if made.result]
    differing = originals.compare_with_original(manifest, run, kind, home.jobs / run.run_id)
    return LocalOriginal(
        run_id=run.run_id,
        name=run.name,
        written_here=result.seal in {made.get("seal") for made in written} - {None},
        differences=differing[:MAX_DIFFERENCES],
        more=max(0, len(differing) - MAX_DIFFERENCES),
    )
