"""How far a run moved each weight matrix, into its folder, and the figures of all of them for the verdict."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from engine.evidence import weights
from engine.models import models
from engine.worker.job import Job
from store.catalog.methods import METHODS
from store.config.train_config import TrainConfig


def weight_change(job: Job, config: TrainConfig, source: str, model: Any) -> dict[str, Any]:
    """`weights.measure` without its rows, which go into `weights.parquet`. `model` has the adapter; whole
    weights are read from the job's folder. source: of the base model."""
    job.progress(0, 1, "run", "Measuring how far the weights moved", weights.SECONDS)
    base = models.weights_folder(source)
    if METHODS[config.method].adapter:
        found = weights.of_adapter(model, base)
    else:
        found = weights.of_weights(base, job.dir.model)
    rows = found.pop("rows")
    if rows:
        pq.write_table(pa.Table.from_pylist(rows, schema=weights.ROWS), job.dir.weights)
    return found
