"""The sync query `neighbours`: which rows of a data set mean most nearly what one of them means, by the
cosine of their vectors over all rows.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from engine.data.signals.embeddings import load_row_vectors
from engine.worker.job import WorkerJob
from engine.worker.progress import PhaseReporter
from store.core.config import Config
from store.core.errors import ConfigError
from store.data.config import Fingerprint
from store.data.dataset_files import open_rows
from store.data.schemas import SimilarRows

CHUNK = 65_536  # rows compared at a time; the vectors are mapped, not loaded


def find_nearest(vectors: np.ndarray, row: int, count: int) -> list[tuple[int, float]]:
    """(row, cosine) of at most `count` other rows, nearest first, equal ones in their order.

    vectors: float32 [rows, dimensions], each of length 1 or 0. A row without a word is near to none.
    """
    asked = np.asarray(vectors[row])
    if not asked.any():
        return []
    cosines = np.concatenate(
        [vectors[first : first + CHUNK] @ asked for first in range(0, len(vectors), CHUNK)]
    )
    cosines[row] = -np.inf
    count = min(count, len(cosines) - 1)
    if count < 1:
        return []
    few = np.argpartition(-cosines, count - 1)[:count]
    ordered = few[np.lexsort((few, -cosines[few]))]
    return [(int(place), float(cosines[place])) for place in ordered]


class NeighboursQuery(Config):
    """A row of a data set, by the fingerprint of its rows."""

    fingerprint: Fingerprint
    row_id: int = Field(ge=0)
    count: int = Field(12, ge=1, le=100)


def run(job: WorkerJob) -> SimilarRows:
    """`{"neighbours": [[row_id, cosine], …]}`, nearest first. Raises NotFoundError where the rows are gone,
    ConfigError (field row_id) where there is no such row."""
    ask = NeighboursQuery.parse(job.config)
    open_rows(job.home, ask.fingerprint)
    vectors = load_row_vectors(job.home, job.home.rows(ask.fingerprint), PhaseReporter(job))
    if ask.row_id >= len(vectors):
        raise ConfigError(
            f"There is no row {ask.row_id:,}: the data set has {len(vectors):,}, counted from 0.",
            field="row_id",
        )
    return SimilarRows(neighbours=find_nearest(vectors, ask.row_id, ask.count))
