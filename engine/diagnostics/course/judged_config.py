"""What conclusions read of a train config."""

from __future__ import annotations

from typing import TypedDict


class JudgedConfig(TypedDict, total=False):
    """Fields of a train config and its split that verdicts, advice and forgetting rest on; a run from before
    a field was there lacks it."""

    task: str
    loss_type: str
    label_smoothing: float
    learning_rate: float | None
    default_learning_rate: float  # of the method, for this task and a model of this size
    lr_scheduler_type: str
    warmup_steps: float
    max_grad_norm: float
    num_train_epochs: float | None
    max_steps: int | None
    evaluations: int
    early_stopping: bool
    early_stopping_threshold: float
    early_stopping_patience: int
    load_best_model_at_end: bool
    negligible_gain: float
    validation_size: float
    test_size: float
    split_by: str | None
    max_eval_rows: int
    replay_share: float
    kl_beta: float
    probe_tasks: list[str]
