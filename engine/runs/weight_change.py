"""How far a run moved each weight matrix, into its folder, and the figures of all of them for the verdict."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from engine.evidence import weights
from engine.models import models
from engine.worker.job import WorkerJob
from store.catalog.methods import METHODS
from store.config.training.train_config import TrainConfig
from store.documents.verdicts.forgetting import WeightChange


def weight_change(job: WorkerJob, config: TrainConfig, source: str, model: Any) -> WeightChange:
    """`weights.measure` without its rows, which go into `weights.parquet`. `model` has the adapter; whole
    weights are read from the job's folder. source: of the base model."""
    job.progress(0, 1, "run", "Measuring how far the weights moved", weights.SECONDS)
    base = models.weights_folder(source)
    if METHODS[config.method].adapter:
        measured = weights.of_adapter(model, base)
    else:
        measured = weights.of_weights(base, job.dir.model)
    if measured["rows"]:
        pq.write_table(pa.Table.from_pylist(measured["rows"], schema=weights.ROWS), job.dir.weights)
    return {
        "relative": measured["relative"],
        "delta_norm": measured["delta_norm"],
        "intruders": measured["intruders"],
        "strongest": measured["strongest"],
        "matrices": measured["matrices"],
        "spectra": measured["spectra"],
        "seconds": measured["seconds"],
        "notes": measured["notes"],
    }
