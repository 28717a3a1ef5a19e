"""Results of an opened archive in the store: its data set, and how it differs from its run."""

from __future__ import annotations

from dataclasses import replace

from engine.archives import archive_file, originals
from engine.server.job_results import build_dataset_id, select_rows_fields
from engine.server.profiling import queue_automatic
from store.archives.schemas import LocalOriginal, OpenedBundle
from store.core.home import Home
from store.core.job_folder import read_json
from store.core.schemas import Job
from store.data import datasets
from store.data.schemas import NewDataset
from store.db.database import Transaction
from store.jobs import job_queue
from store.runs import runs
from store.runs.schemas import Run

MAX_DIFFERENCES = 50  # listed between a bundle and its run


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
