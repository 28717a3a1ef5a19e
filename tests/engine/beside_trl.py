"""What the tests that hold our loop against TRL's trainers share: their arguments, and what both log."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from engine.worker.job import WorkerJob
from store.training.train_config import TrainConfig

Steps = list[tuple[float, ...]]


def arguments(folder: Path, config: TrainConfig) -> dict[str, Any]:
    """Those of TRL's configs that say what `config` says, rows taken in the order that they are given in."""
    return {
        "output_dir": str(folder),
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "per_device_train_batch_size": config.per_device_train_batch_size,
        "gradient_accumulation_steps": config.gradient_accumulation_steps,
        "num_train_epochs": config.num_train_epochs,
        "learning_rate": config.learning_rate,
        "weight_decay": config.weight_decay,
        "max_grad_norm": config.max_grad_norm,
        "lr_scheduler_type": config.lr_scheduler_type,
        "warmup_steps": config.warmup_steps,
        "train_sampling_strategy": "sequential",
        "logging_steps": 1,
        "report_to": [],
        "save_strategy": "no",
        "disable_tqdm": True,
    }


def our_steps(job: WorkerJob, *names: str) -> Steps:
    """The metrics `names` of each step of a run."""
    events = map(json.loads, job.dir.events.read_text().splitlines())
    values = [e["values"] for e in events if e["type"] == "metrics" and "train/loss" in e["values"]]
    return [tuple(v[name] for name in names) for v in values]


def trl_steps(trainer: Any, *names: str) -> Steps:
    """What a trainer of TRL logged as `names` at each step."""
    return [tuple(log[name] for name in names) for log in trainer.state.log_history if "loss" in log]
