"""The train job: a run of whichever task, from its order to its verdict."""

from __future__ import annotations

import torch

from engine.evaluation.evaluated_model import LOADING
from engine.evaluation.run_evaluation import JUDGED
from engine.models import hardware
from engine.training.task_runs import RUNS
from engine.worker.job import Phase, WorkerJob, always
from store.runs.schemas import RunResult
from store.training.train_config import TrainConfig

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
        if hardware.is_out_of_memory(error):
            raise hardware.out_of_memory(config, torch.device(job.device), dealt=run.packed) from error
        raise
