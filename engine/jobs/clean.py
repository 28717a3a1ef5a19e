"""The job `clean`: a version and a recipe make a new version, with every row accounted for.

The new version is made aside in the job's folder and moved into place when it is whole, so that a failed,
cancelled or killed cleaning leaves nothing half-made.
"""

from __future__ import annotations

import shutil
from typing import Any

from engine.data.dataset import publish
from engine.data.recipe import outcome
from engine.data.recipe import run as steps
from engine.data.recipe.working import Working
from engine.job import Job
from engine.jobs.import_rows import DISK_FULL
from store.data_config import CleanConfig
from store.errors import DataError


def run(job: Job) -> dict[str, Any]:
    """Run the recipe of the job's CleanConfig; the result document of docs/architecture.md.

    Raises the error of the step that can't be run, which names it, and DataError where the disk is full.
    """
    config = CleanConfig.parse(job.config)
    passing, aside = job.dir.path / "passing", job.dir.path / "dataset"
    folders = (passing, aside)
    try:
        for folder in folders:  # of an attempt that was killed
            shutil.rmtree(folder, ignore_errors=True)
        work = Working(job, job.order["dataset"], job.order["mixed"], passing)
        counted = steps.apply(work, config.recipe)
        result = outcome.write(work, aside, counted)
        job.check_cancelled()
        publish(aside, job.home, result["fingerprint"])
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        raise DataError(
            f"The disk of {job.home.path} is full: the new version could not be written.",
            fix="Free some space and clean again.",
        ) from error
    finally:
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)
    for notice in work.notices:
        job.alert(notice, level="info")
    return result
