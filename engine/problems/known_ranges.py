"""Settings outside the range that is known to work: learning rate, rank, rows a step, epochs.

They are warned of, never refused: an expert may want them.
"""

from __future__ import annotations

from engine.problems.problem import problem
from store.catalog.methods import METHODS
from store.config.training.train_config import TrainConfig
from store.documents.asks.preview import Problem

# Twice beyond the 16 to 32 rows a step that published recipes for tuning take.
ROWS_A_STEP = (8, 64)
# Times the epochs that suit this many rows (3 below 2,000, 2 below 20,000, else 1); the pilot's validation
# loss turned up between 4 and 8 epochs of a small set.
MANY_EPOCHS = 2.0


def find(config: TrainConfig, train_rows: int) -> list[Problem]:
    """A warning for every such setting; `config` is resolved."""
    return [
        *_learning_rate(config),
        *_rank(config),
        *_rows_a_step(config, train_rows),
        *_epochs(config, train_rows),
    ]


def _learning_rate(config: TrainConfig) -> list[Problem]:
    low, high = METHODS[config.method].rates
    if config.task == "dpo":  # whose loss is steep: a tenth of the rates of instruction tuning
        low, high = low / 10, high / 10
    rate = config.learning_rate or 0.0
    if low <= rate <= high:
        return []
    effect = "learns next to nothing" if rate < low else "often diverges or forgets"
    return [problem(
        "warning", "learning_rate",
        f"A learning rate of {rate:g} is outside the {low:g} to {high:g} in which"
        f" {METHODS[config.method].title} is known to work; it {effect}.",
        "Leave it out for the default of the method.",
    )]  # fmt: skip


def _rank(config: TrainConfig) -> list[Problem]:
    method = METHODS[config.method]
    if method.ranks is None:
        return []
    low, high = method.ranks
    r = config.r or low
    if low <= r <= high:
        return []
    effect = "adds memory and time, no quality" if r > high else "leaves little room to learn"
    return [problem(
        "warning", "r",
        f"A rank of {r} is outside the {low} to {high} in which {method.title} is known to"
        f" work; it {effect}.",
        "Take 16, or 64 to 256 for a large data set.",
    )]  # fmt: skip


def _rows_a_step(config: TrainConfig, train_rows: int) -> list[Problem]:
    effective = config.per_device_train_batch_size * config.gradient_accumulation_steps
    fewest, most = ROWS_A_STEP
    if fewest <= effective <= most or effective > train_rows:
        return []
    effect = (
        "its gradient is noisy" if effective < fewest else "it takes few steps, and each learns little more"
    )
    return [problem(
        "warning", "gradient_accumulation_steps",
        f"A step takes {effective:,} row{'s' * (effective != 1)}, outside the {fewest} to {most} in which"
        f" tuning is known to work; {effect}.",
        "Set gradient_accumulation_steps so that a step takes 16 to 32 rows.",
    )]  # fmt: skip


def _epochs(config: TrainConfig, train_rows: int) -> list[Problem]:
    """Many passes over few rows are what overfitting is made of."""
    usual = config.model_copy(update={"num_train_epochs": None}).resolved(train_rows).num_train_epochs
    epochs, limit = config.num_train_epochs or 0.0, MANY_EPOCHS * (usual or 1.0)
    if epochs <= limit or config.max_steps:
        return []
    return [problem(
        "warning", "num_train_epochs",
        f"{epochs:g} epochs over {train_rows:,} rows are more than the {limit:g} up to which such a set"
        " is known to gain; the model begins to learn rows by heart.",
        f"Take {usual:g}, or leave early_stopping on.",
    )]  # fmt: skip
