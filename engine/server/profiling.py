"""Jobs that measure groups of signals of a data set.

Automatic groups are queued in the transaction that stores a new version, so that no crash leaves one
unmeasured. Nobody waits for them: the scheduler starts them only if there is nothing else to do in the light
lane, and a data set can be deleted meanwhile.
"""

from __future__ import annotations

from store.core.job_kinds import ALIVE
from store.core.schemas import Job
from store.data import datasets
from store.data.config import ProfileConfig
from store.data.signals import GROUPS
from store.db.database import Transaction
from store.jobs import job_queue


def queue_profile(tx: Transaction, config: ProfileConfig, at: float) -> str:
    """Queue the measurement of one group; return the job's id, or that of an existing job.

    Raises: NotFoundError for an unknown data set.
    """
    dataset = datasets.get_dataset(tx, config.dataset)
    config = config.model_copy(update={"dataset": dataset.dataset_id})
    document = config.model_dump(exclude_none=True)
    for job in _list_profiles(tx, dataset.dataset_id):
        if job.config == document:
            return str(job.job_id)
    group = GROUPS[config.group]
    job_id = job_queue.create_id("job", at)
    job_queue.insert(
        tx,
        job_queue.NewJob(
            job_id=job_id,
            kind="profile",
            lane="device" if group.needs == "model" else "light",
            title=f"Measure {group.title.lower()} of {dataset.name}",
            config=document,
            at=at,
        ),
    )
    return job_id


def queue_automatic(tx: Transaction, dataset_id: str, at: float) -> list[str]:
    """Queue every automatic group not yet measured for these rows; return the jobs in order."""
    measured = datasets.signals(tx, datasets.get_dataset(tx, dataset_id).fingerprint)
    missing = [
        name
        for name, group in GROUPS.items()
        if group.automatic and (name not in measured or measured[name].outdated)
    ]
    return [
        queue_profile(tx, ProfileConfig(dataset=dataset_id, group=name), at + place / 1000)  # keeps the order
        for place, name in enumerate(missing)
    ]


def queue_outdated(tx: Transaction, at: float) -> list[str]:
    """Queue the automatic groups measured by an older version, with other columns, again; return the jobs."""
    return [
        job_id
        for dataset in datasets.list_datasets(tx)
        if any(row.outdated for row in datasets.signals(tx, dataset.fingerprint).values())
        for job_id in queue_automatic(tx, dataset.dataset_id, at)
    ]


def cancel_profiles(tx: Transaction, dataset_id: str, at: float) -> None:
    """Cancel the profiles of a data set to be deleted: queued ones end, running ones are asked to stop."""
    for job in _list_profiles(tx, dataset_id):
        if job.status == "queued":
            job_queue.finish(tx, job.job_id, "cancelled", at)
        elif not job.cancel_requested_at:
            job_queue.update(tx, job.job_id, cancel_requested_at=job_queue.to_utc(at))


def _list_profiles(tx: Transaction, dataset_id: str) -> list[Job]:
    return [
        job
        for job in job_queue.with_status(tx, ALIVE, kinds=["profile"])
        if job.config["dataset"] == dataset_id
    ]
