"""The reference for preference tuning: the same pairs in the same order give DPOTrainer's losses."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.models.batching import build_epoch_steps
from engine.models.tokenization.rendering import render
from engine.models.tokenization.tokenized_rows import TokenPairs, join_pairs
from engine.models.tuning_methods import make_trainable
from engine.training.preference import PreferenceObjective, ReferenceLogps
from engine.training.training_loop import TrainingLoop, TrainingSetup
from store.core.home import Home
from store.training.train_config import TrainConfig
from tests.engine.beside_trl import Steps, arguments, our_steps, trl_steps
from tests.tiny import CHATML, conversations, make_job, make_model, make_tokenizer, worse_answers, write_model

ROWS, BATCH, ACCUMULATION, STEPS = 21, 3, 2, 4  # the last step is smaller
# TRL takes everything behind the prompt for the answer, a line end behind the closing token too
TEMPLATE = CHATML.replace("+ '<|im_end|>' + '\\n' }}", "+ '<|im_end|>' }}")
FIELDS = {
    "task": "dpo",
    "beta": 0.3,
    "per_device_train_batch_size": BATCH,
    "gradient_accumulation_steps": ACCUMULATION,
    "num_train_epochs": 1,
    "learning_rate": 1e-2,
    "warmup_steps": 0,
    "weight_decay": 0.1,
    "max_grad_norm": 0.5,
    "evaluations": 1,
    "early_stopping": False,
    "load_best_model_at_end": False,
}


def pairs() -> TokenPairs:
    rows, tokenizer = conversations(ROWS), make_tokenizer(TEMPLATE)
    rejected = [
        [row[0], {"role": "assistant", "content": w}]
        for row, w in zip(rows, worse_answers(rows), strict=True)
    ]
    return join_pairs(render(tokenizer, range(ROWS), rows), render(tokenizer, range(ROWS), rejected))


def ours(home: Home, config: TrainConfig, model: Any) -> Steps:
    """(loss, gradient norm, reward accuracy, margin) of each step in our loop."""
    job = make_job(home, "run", **config.model_dump(exclude={"name", "model", "dataset", "dtype"}))
    rows = pairs()
    references = ReferenceLogps.compute(model, [rows], batch_size=4, device=torch.device("cpu"))
    some = rows.take(np.arange(4))
    TrainingLoop(job, config, model, rows, some, TrainingSetup(PreferenceObjective(config, references))).run()
    return our_steps(job, "train/loss", "train/grad_norm", "train/reward_accuracy", "train/reward_margin")


def trl(folder: Path, config: TrainConfig, model: Any, reference: Any) -> Steps:
    """The same of DPOTrainer, its pairs given in the order of our batches."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    rows = conversations(ROWS)
    worse = worse_answers(rows)
    steps = build_epoch_steps(pairs().lengths, seed=0, epoch=0, batch_size=BATCH, accumulation=ACCUMULATION)
    order = [int(index) for step in steps for part in step for index in part]
    examples = [
        {
            "prompt": rows[i][:1],
            "chosen": rows[i][1:],
            "rejected": [{"role": "assistant", "content": worse[i]}],
        }
        for i in order
    ]
    wanted = DPOConfig(
        **arguments(folder, config),
        beta=config.beta,
        loss_type=[config.loss_type],
        label_smoothing=config.label_smoothing,
    )
    trainer = DPOTrainer(
        model,
        reference,
        wanted,
        train_dataset=Dataset.from_list(examples),
        processing_class=make_tokenizer(TEMPLATE),
    )
    trainer.train()
    return trl_steps(trainer, "loss", "grad_norm", "rewards/accuracies", "rewards/margins")


@pytest.mark.parametrize(
    ("loss_type", "method"),
    [
        ("sigmoid", "lora"),
        ("sigmoid", "full"),
        ("hinge", "lora"),
        ("ipo", "lora"),
        ("robust", "lora"),
        ("sigmoid_norm", "lora"),
        ("apo_zero", "lora"),
    ],
)
def test_losses_and_gradients_equal_trl(tmp_path: Path, loss_type: str, method: str) -> None:
    home = Home(tmp_path / "home").create()
    write_model(home.models / "tiny", TEMPLATE)
    smoothing = 0.1 if loss_type == "robust" else 0.0
    given = FIELDS | {"loss_type": loss_type, "method": method, "r": 4, "label_smoothing": smoothing}
    config = TrainConfig(dataset="rows", **given).resolved(ROWS)
    model = make_trainable(make_model(), config, torch.float32)
    copied = copy.deepcopy(model)
    theirs = trl(tmp_path / "trl", config, copied, make_model() if method == "full" else None)
    mine = ours(home, config, model)
    assert len(mine) == len(theirs) == STEPS
    for (loss, norm, accuracy, margin), expected in zip(mine[1:], theirs[1:], strict=True):
        assert loss == pytest.approx(expected[0], abs=1e-4)
        assert norm == pytest.approx(expected[1], rel=1e-3)
        assert accuracy == pytest.approx(expected[2], abs=1e-6)
        assert margin == pytest.approx(expected[3], abs=1e-4)
    assert mine[0][0] == pytest.approx(theirs[0][0], abs=1e-4)
    if loss_type in ("sigmoid", "robust", "sigmoid_norm"):
        assert mine[0][0] == pytest.approx(math.log(2), abs=1e-5)
    assert mine[0][3] == pytest.approx(0, abs=1e-5)
    assert mine[-1][0] < mine[0][0]
