"""What a card says of a training is what happened, and not what was asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from engine.models import batching
from store.evaluation.verdict_schemas import TrainingStop
from store.runs import card_text
from store.training.train_config import TrainConfig


def config(**fields: Any) -> TrainConfig:
    return TrainConfig(name="r", dataset="D", model="tiny", **fields).resolved(600)


def ended(reason: Any, step: int, kept: int | None = None) -> TrainingStop:
    return TrainingStop(reason=reason, step=step, restored_step=step if kept is None else kept)


@pytest.mark.parametrize(
    ("rows", "batch", "accumulation"), [(100, 4, 2), (97, 4, 2), (8, 4, 2), (5, 4, 2), (64, 3, 5), (1, 1, 1)]
)
def test_rows_seen_are_those_that_the_batches_hold(rows: int, batch: int, accumulation: int) -> None:
    settings = config(per_device_train_batch_size=batch, gradient_accumulation_steps=accumulation)
    dealt = [
        sum(map(len, step))
        for epoch in range(3)
        for step in batching.build_epoch_steps(
            np.arange(rows) % 7, seed=1, epoch=epoch, batch_size=batch, accumulation=accumulation
        )
    ]
    for step in range(len(dealt) + 1):
        course = card_text.summarise_run(settings, rows, ended("epochs", step), 1)
        assert course["rows"] == sum(dealt[:step]), step


def course_words(settings: TrainConfig, stopped: TrainingStop, rows: int = 600, attempts: int = 1) -> str:
    return " ".join(card_text.format_sentences(card_text.summarise_run(settings, rows, stopped, attempts)))


EIGHT = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "num_train_epochs": 3}


@pytest.mark.parametrize(
    ("fields", "stopped", "attempts", "sentence"),
    [
        (
            {"max_steps": 24},
            ended("max_steps", 24),
            1,
            "24 steps, 192 rows seen, 0.32 epochs of 600 training rows. It ended at its limit of steps."
            " Asked for: 3 epochs (225 steps), at most 24 steps.",
        ),
        (
            {},
            ended("epochs", 225),
            1,
            "225 steps, 1,800 rows seen, 3 epochs of 600 training rows. It went through all of the epochs"
            " that were asked for.",
        ),
        (
            {"max_steps": 300},  # a limit that was never reached
            ended("epochs", 225),
            1,
            "225 steps, 1,800 rows seen, 3 epochs of 600 training rows. It went through all of the epochs"
            " that were asked for.",
        ),
        (
            {},
            ended("early_stopping", 100, 75),
            1,
            "75 steps, 600 rows seen, 1 epoch of 600 training rows. It was stopped early, as the validation"
            " loss had stopped falling. Training went on to step 100; the weights are those of step 75, where"
            " the validation loss was lowest. Asked for: 3 epochs (225 steps).",
        ),
        (
            {},
            ended("epochs", 225),
            3,
            "225 steps, 1,800 rows seen, 3 epochs of 600 training rows. It went through all of the epochs"
            " that were asked for. It was interrupted and resumed 2 times.",
        ),
        (
            {},
            ended("forgetting", 1),
            1,
            "1 step, 8 rows seen, 0.01 epochs of 600 training rows. It was stopped early, as it was losing"
            " what the model knew before. Asked for: 3 epochs (225 steps).",
        ),
    ],
)
def test_it_says_what_happened(fields: Any, stopped: TrainingStop, attempts: int, sentence: str) -> None:
    assert course_words(config(**EIGHT | fields), stopped, attempts=attempts) == sentence


def test_a_checkpoint_of_a_run_that_was_ended_says_so() -> None:
    course = card_text.summarise_checkpoint(config(**EIGHT), 600, 10, 12, 1)
    text = " ".join(card_text.format_sentences(course))
    assert text.startswith("10 steps, 80 rows seen, 0.13 epochs")
    assert "The run was ended before training was through" in text
    assert "225 steps" in text
