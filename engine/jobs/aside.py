"""Work that a job does aside, so that a failed, cancelled or killed one leaves nothing half-made."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.job import Job
from store.errors import DataError

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def aside(job: Job, *folders: Path, what: str, again: str) -> Iterator[None]:
    """The folders are not there when the block begins, whatever a killed attempt left, nor after it.

    Raises DataError where the disk is full: `what` ("the file") could not be written, `again` is what to do
    once there is space ("export again").
    """
    try:
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)
        yield
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        raise DataError(
            f"The disk of {job.home.path} is full: {what} could not be written.",
            fix=f"Free some space and {again}.",
        ) from error
    finally:
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)
