"""The query `overlap`: rows that two data sets share, such as a training and a test file."""

from __future__ import annotations

from pydantic import Field

from engine.data.split.leakage import compute_overlap
from engine.worker.job import WorkerJob
from engine.worker.progress import PhaseReporter
from store.core.config import Config
from store.core.row_schemas import Overlap
from store.data.config import Fingerprint
from store.data.dataset_files import open_rows


class OverlapQuery(Config):
    """Two data sets, identified by the fingerprints of their rows."""

    fingerprint: Fingerprint
    other: Fingerprint
    threshold: float = Field(0.7, ge=0.5, le=1, description="Jaccard similarity of near duplicates")


def run(job: WorkerJob) -> Overlap:
    """Return the result of `engine.data.split.leakage.compute_overlap`.

    Raises NotFoundError if the rows no longer exist.
    """
    ask = OverlapQuery.parse(job.config)
    for fingerprint in (ask.fingerprint, ask.other):
        open_rows(job.home, fingerprint)
    rows = job.home.rows(ask.fingerprint), job.home.rows(ask.other)
    return compute_overlap(*rows, job.dir.path, PhaseReporter(job), ask.threshold)
