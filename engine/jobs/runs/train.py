"""The train job: a run of whichever task, from its order to its verdict."""

from __future__ import annotations

from typing import Any

import torch

from engine.models import memory
from engine.runs.tasks import RUNS
from engine.worker.job import WorkerJob
from store.config.training.train_config import TrainConfig


def run(job: WorkerJob) -> dict[str, Any]:
    """Train as `job.config` says; answers {"verdict": …} of docs/architecture.md."""
    config = TrainConfig.parse(job.config)
    run = RUNS[config.task](job, config)
    try:
        return {"verdict": run.run()}
    except Exception as error:
        if memory.is_out_of_memory(error):
            raise memory.out_of_memory(config, torch.device(job.device), dealt=run.packed) from error
        raise
