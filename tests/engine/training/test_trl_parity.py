"""The reference: on the same rows in the same order, losses equal those of TRL's SFTTrainer."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.models.batching import build_epoch_steps
from engine.models.tokenization.rendering import render
from engine.models.tuning_methods import make_trainable
from engine.training.training_loop import TrainingLoop
from store.core.home import Home
from store.training.train_config import TrainConfig
from tests.engine.beside_trl import Steps, arguments, our_steps, trl_steps
from tests.tiny import conversations, make_job, make_model, make_tokenizer, write_model

ROWS, BATCH, ACCUMULATION = 43, 4, 2  # the last step is smaller, and so is its last micro-batch
STEPS = 6
FIELDS = {
    "per_device_train_batch_size": BATCH,
    "gradient_accumulation_steps": ACCUMULATION,
    "num_train_epochs": 1,
    "learning_rate": 3e-3,
    "weight_decay": 0.1,
    "max_grad_norm": 0.5,  # below the norms that occur, so that clipping counts
    "evaluations": 1,
    "early_stopping": False,
    "load_best_model_at_end": False,
}


def ours(home: Home, config: TrainConfig, model: Any) -> Steps:
    """(loss, gradient norm) of each step in our loop."""
    job = make_job(home, "run", **config.model_dump(exclude={"name", "model", "dataset", "dtype"}))
    rows = render(make_tokenizer(), range(ROWS), conversations(ROWS))
    TrainingLoop(job, config, model, rows, rows.take(np.arange(4))).run()
    return our_steps(job, "train/loss", "train/grad_norm")


def trl(folder: Path, config: TrainConfig, model: Any) -> Steps:
    """The same of SFTTrainer, its rows given in the order of our batches."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    rows = render(make_tokenizer(), range(ROWS), conversations(ROWS))
    steps = build_epoch_steps(rows.lengths, seed=0, epoch=0, batch_size=BATCH, accumulation=ACCUMULATION)
    pairs = [rows.row(int(index)) for step in steps for part in step for index in part]
    dataset = Dataset.from_list(
        [{"input_ids": ids.tolist(), "labels": np.where(on, ids, -100).tolist()} for ids, on in pairs]
    )
    sft_config = SFTConfig(**arguments(folder, config))
    trainer = SFTTrainer(model, sft_config, train_dataset=dataset, processing_class=make_tokenizer())
    trainer.train()
    return trl_steps(trainer, "loss", "grad_norm")


@pytest.mark.parametrize("method", ["lora", "full"])
def test_losses_and_gradients_equal_trl(tmp_path: Path, method: str) -> None:
    home = Home(tmp_path / "home").create()
    write_model(home.models / "tiny")
    config = TrainConfig(dataset="rows", method=method, r=4, **FIELDS).resolved(ROWS)
    model = make_trainable(make_model(), config, torch.float32)
    reference = copy.deepcopy(model)
    mine, theirs = ours(home, config, model), trl(tmp_path / "trl", config, reference)
    assert len(mine) == len(theirs) == STEPS
    for (loss, norm), (their_loss, their_norm) in zip(mine, theirs, strict=True):
        assert loss == pytest.approx(their_loss, abs=1e-4)
        assert norm == pytest.approx(their_norm, rel=1e-3)
    assert mine[-1][0] < mine[0][0]
