"""The experiment that a new home folder offers, on rows that are made from this machine's own Python."""

from __future__ import annotations

from store.config.train_config import SAMPLE_DATASET, TrainConfig


def sample_experiment() -> TrainConfig:
    """The experiment that a new home folder offers: it must end with a significant gain within minutes."""
    return TrainConfig(
        name="Sample experiment",
        notes="LoRA on 600 functions of the Python standard library: from name to documentation.",
        dataset=SAMPLE_DATASET,
        max_train_rows=600,
        max_eval_rows=100,
        num_train_epochs=1,
        learning_rate=2e-4,
    )
