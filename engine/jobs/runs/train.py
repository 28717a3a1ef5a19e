"""The train job: a run of whichever task, from its order to its verdict."""

from __future__ import annotations

import torch

from engine.models import memory
from engine.runs.tasks import RUNS
from engine.worker.job import WorkerJob
from store.config.training.train_config import TrainConfig
from store.documents.tables.run import RunResult


def run(job: WorkerJob) -> RunResult:
    """Train as `job.config` says; answers its verdict."""
    config = TrainConfig.parse(job.config)
    run = RUNS[config.task](job, config)
    try:
        return {"verdict": run.run()}
    except Exception as error:
        if memory.is_out_of_memory(error):
            raise memory.out_of_memory(config, torch.device(job.device), dealt=run.packed) from error
        raise
