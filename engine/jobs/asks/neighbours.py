"""The ask `neighbours`: which rows of a data set mean most nearly what one of them means."""

from __future__ import annotations

from pydantic import Field

from engine.near.nearest import nearest
from engine.rows.dataset import open_rows
from engine.signals.embedded.embeddings import row_vectors
from engine.worker.job import WorkerJob
from engine.worker.progress import PhaseReporter
from store.config.training.ask_config import Fingerprint
from store.contract.document import Config
from store.contract.errors import ConfigError
from store.documents.data.neighbours import Neighbours


class NeighboursAsk(Config):
    """A row of a data set, by the fingerprint of its rows."""

    fingerprint: Fingerprint
    row_id: int = Field(ge=0)
    count: int = Field(12, ge=1, le=100)


def run(job: WorkerJob) -> Neighbours:
    """`{"neighbours": [[row_id, cosine], …]}`, nearest first. Raises NotFoundError where the rows are gone,
    ConfigError (field row_id) where there is no such row."""
    ask = NeighboursAsk.parse(job.config)
    open_rows(job.home, ask.fingerprint)
    vectors = row_vectors(job.home, job.home.rows(ask.fingerprint), PhaseReporter(job))
    if ask.row_id >= len(vectors):
        raise ConfigError(
            f"There is no row {ask.row_id:,}: the data set has {len(vectors):,}, counted from 0.",
            field="row_id",
        )
    return {"neighbours": nearest(vectors, ask.row_id, ask.count)}
