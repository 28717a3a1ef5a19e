"""Which class of run does a task."""

from __future__ import annotations

from engine.runs.class_run import ClassRun
from engine.runs.pair_run import PairRun
from engine.runs.training_run import TrainingRun

RUNS: dict[str, type[TrainingRun]] = {"sft": TrainingRun, "classification": ClassRun, "dpo": PairRun}
