"""The job `register`: the files of a new version of a registered model, with their checksums.

They are made aside, in the job's folder; the engine gives them their number and their place
(`engine.server.scheduling.registered`), so that numbers have no gaps and no race.
"""

from __future__ import annotations

import os
import shutil

from engine.evaluation.evaluated import LOADING
from engine.shipping import registering
from engine.worker.job import WorkerJob
from engine.worker.phases import Phase, always
from engine.worker.temporary_folder import temporary_folder
from store.config.shipping.registry_config import RegisterConfig
from store.documents.shipping.version import RegisteredFiles

phases = always(  # estimated: what is copied is written and waited for, and read once more for its checksum
    LOADING,
    Phase("Copying the files", 2),
    Phase("Taking checksums", 1),
)


def run(job: WorkerJob) -> RegisteredFiles:
    """Copy, check and hash. Raises ModelError, StateError and NotFoundError for what is no model."""
    config = RegisterConfig.parse(job.config["register"])
    with temporary_folder(job, what="the version", again="register again") as folder:
        made = folder / "version"
        made.mkdir()
        result = registering.make(job, config, made)
        job.check_cancelled()
        shutil.rmtree(job.dir.version, ignore_errors=True)
        os.rename(made, job.dir.version)
    for notice in result["notices"]:
        job.alert(notice, level="info")
    return result
