"""The synchronous query `neighbours`: the rows of a data set that are closest in meaning to a given row.

Compares the row by the cosine of embedding vectors with all rows.
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

CHUNK = 65_536  # rows compared at a time; the vectors are memory-mapped


def find_nearest(vectors: np.ndarray, row: int, count: int) -> list[tuple[int, float]]:
    """Return (row, cosine) of at most `count` other rows, nearest first, ties in row order.

    vectors: float32 [rows, dimensions], each of length 1 or 0. A row without words has no neighbours.
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
    """A row of a data set, identified by the data set's fingerprint and the row id."""

    fingerprint: Fingerprint
    row_id: int = Field(ge=0)
    count: int = Field(12, ge=1, le=100)


def run(job: WorkerJob) -> SimilarRows:
    """Return `{"neighbours": [[row_id, cosine], …]}`, nearest first.

    Raises NotFoundError if the rows no longer exist, and ConfigError (field row_id) for an unknown row.
    """
    ask = NeighboursQuery.parse(job.config)
    open_rows(job.home, ask.fingerprint)
    vectors = load_row_vectors(job.home, job.home.rows(ask.fingerprint), PhaseReporter(job))
    if ask.row_id >= len(vectors):
        raise ConfigError(
            f"There is no row {ask.row_id:,}: the data set has {len(vectors):,}, counted from 0.",
            field="row_id",
        )
    return SimilarRows(neighbours=find_nearest(vectors, ask.row_id, ask.count))
