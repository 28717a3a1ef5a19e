"""What conclusions read of a train config."""

from __future__ import annotations

from typing import TypedDict


class JudgedConfig(TypedDict, total=False):
    """Fields of a train config and its split that verdicts, advice and forgetting rest on; a run from before
    a field was there lacks it."""

    task: str
    loss_type: str
    learning_rate: float | None
    num_train_epochs: float | None
    max_steps: int | None
    early_stopping_threshold: float
    early_stopping_patience: int
    load_best_model_at_end: bool
    negligible_gain: float
    validation_size: float
    test_size: float
    max_eval_rows: int
    replay_share: float
    kl_beta: float
    probe_tasks: list[str]
