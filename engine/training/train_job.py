"""The train job: a run of whichever task, from its order to its verdict."""

from __future__ import annotations

import torch

from engine.evaluation.evaluated_model import LOADING_MESSAGE
from engine.evaluation.run_evaluation import EVALUATION_MESSAGES
from engine.models import hardware
from engine.training.task_runs import RUN_CLASSES
from engine.worker.job import Phase, WorkerJob, build_fixed_phases
from store.runs.schemas import RunResult
from store.training.train_config import TrainConfig

# What a step takes is known once one was taken: from there on the training's Clock, then the JudgingPace,
# tell what is left of the whole run, and before that nothing does.
phases = build_fixed_phases(
    LOADING_MESSAGE,
    Phase(("Letting the base model ", "Asking the base model for both answers of each pair"), 0),
    Phase(("Training", "Measuring ", "Answering validation rows", "Classifying ", *EVALUATION_MESSAGES)),
)


def run(job: WorkerJob) -> RunResult:
    """Train as `job.config` says; answers its verdict."""
    config = TrainConfig.parse(job.config)
    run = RUN_CLASSES[config.task](job, config)
    try:
        return {"verdict": run.run()}
    except Exception as error:
        if hardware.is_out_of_memory(error):
            raise hardware.make_out_of_memory_error(
                config, torch.device(job.device), dealt=run.packed
            ) from error
        raise
