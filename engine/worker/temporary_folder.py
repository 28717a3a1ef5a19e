"""Temporary output of a job, so that a failed, cancelled or killed one leaves nothing unfinished.

A killed worker can't clean up; the engine does so when it ends the job (`engine.server.job_outcomes`).
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
    """Use the job's folder for unfinished files, empty at the start of the block and removed afterwards.

    what: the output, for the error ("the file"); again: what to do once there is space ("export again").
    Raises DataError if the disk is full.
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
    """Move a finished data set to its final folder.

    The job's folder records the name before: if the job ends without its result in the store, the engine
    removes the data set, as no row refers to it.
    """
    write_json(job.dir.published, {"fingerprint": fingerprint})
    publish(made, job.home, fingerprint)
