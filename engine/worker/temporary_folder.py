"""Work that a job does aside, so that a failed, cancelled or killed one leaves nothing half-made.

Where the worker is killed it can't tidy up; the engine does so when it ends the job
(`engine.server.job_outcomes`).
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.worker.job import WorkerJob
from store.core.errors import DataError
from store.core.job_folder import write_json
from store.data.dataset_files import publish

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def use_temporary_folder(job: WorkerJob, *, what: str, again: str) -> Iterator[Path]:
    """The job's folder for what is half-made: it is empty when the block begins, whatever a killed attempt
    left, and gone after it.

    Raises DataError where the disk is full: `what` ("the file") could not be written, `again` is what to do
    once there is space ("export again").
    """
    folder = job.dir.temporary
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        yield folder
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        raise DataError(
            f"The disk of {job.home.path} is full: {what} could not be written.",
            fix=f"Free some space and {again}.",
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def publish_dataset(job: WorkerJob, made: Path, fingerprint: str) -> None:
    """Move a finished data set to its place. The job's folder names it before: should the job end without its
    result in the store, the engine finds by that what belongs to nobody."""
    write_json(job.dir.published, {"fingerprint": fingerprint})
    publish(made, job.home, fingerprint)
