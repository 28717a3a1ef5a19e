"""The train job: a run of whichever task, from its order to its verdict."""

from __future__ import annotations

import torch

from engine.evaluation.evaluated import LOADING
from engine.evidence.gathering import JUDGED
from engine.models import memory
from engine.runs.tasks import RUNS
from engine.worker.job import WorkerJob
from engine.worker.phases import Phase, always
from store.config.training.train_config import TrainConfig
from store.documents.tables.run import RunResult

# What a step takes is known once one was taken: from there on the training's Clock, then the JudgingPace,
# tell what is left of the whole run, and before that nothing does.
phases = always(
    LOADING,
    Phase(("Letting the base model ", "Asking the base model for both answers of each pair"), 0),
    Phase(("Training", "Measuring ", "Answering validation rows", "Classifying ", *JUDGED)),
)


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
