"""The job `clean`: apply a recipe to a version and publish the result as a new version.

Every row is accounted for. The new version is written to a temporary folder of the job and moved into place
once complete, so a failed, cancelled or killed job leaves nothing behind.
"""

from __future__ import annotations

from engine.data.cleaning import recipe_run
from engine.data.cleaning import recipe_run as steps
from engine.data.cleaning.working_rows import WorkingRows
from engine.worker.job import ONE_PHASE, WorkerJob
from engine.worker.temporary_folder import publish_dataset, use_temporary_folder
from store.core.row_schemas import CleanResult
from store.data.config import CleanConfig

phases = ONE_PHASE  # `RecipeProgress` reports the share of all work


def run(job: WorkerJob) -> CleanResult:
    """Run the recipe of the job's CleanConfig and return the result document (docs/rows.md).

    Raises the error of the step that failed, which names it, and DataError if the disk is full.
    """
    config = CleanConfig.parse(job.config)
    with use_temporary_folder(job, what="the new version", again="clean again") as folder:
        work = WorkingRows(job, job.spec["dataset"], job.spec["mixed"], folder / "passing")
        counted = steps.apply_recipe(work, config.recipe)
        result = recipe_run.write_version(work, folder / "dataset", counted)
        job.check_cancelled()
        publish_dataset(job, folder / "dataset", result["fingerprint"])
    for notice in work.notices:
        job.alert(notice, level="info")
    return result
