"""Optimiser, schedule and checkpoints of a training run.

Bf16 models have fp32 master weights. Runs resume bit for bit from checkpoints, whose tensors are safetensors
and the rest JSON, never pickle.
"""

from __future__ import annotations

import math
import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypedDict

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch.optim.lr_scheduler import LRScheduler
from transformers import get_scheduler
from transformers.trainer_pt_utils import get_parameter_names

from store.core.job_folder import read_json, write_json
from store.training.train_config import TrainConfig

# Optimiser and schedule, with fp32 master weights for a model that computes in bf16.
#
# A bf16 weight has 8 bits of mantissa: an update below 1/256 of it would be lost. So each trained bf16
# parameter has an fp32 master; its gradients from all micro-batches are accumulated in fp32 as they are
# computed (and the bf16 gradient is freed), the optimiser updates the master, and `publish` rounds it back.
# An fp32 parameter is its own master.

# As in transformers' Trainer: biases and norms are not decayed.
NOT_DECAYED = (r"bias", r"layernorm", r"rmsnorm", r"(?:^|\.)norm(?:$|\.)", r"_norm(?:$|\.)")


class MasterWeights:
    """The fp32 parameters updated by the optimiser; `weights`: name -> parameter."""

    def __init__(self, trained: Iterable[tuple[str, torch.nn.Parameter]]) -> None:
        self.weights: dict[str, torch.nn.Parameter] = {}
        self._copies: list[tuple[torch.nn.Parameter, torch.nn.Parameter]] = []
        for name, parameter in trained:
            if parameter.dtype == torch.float32:
                self.weights[name] = parameter
                continue
            master = torch.nn.Parameter(parameter.detach().float().clone())
            parameter.register_post_accumulate_grad_hook(_move_gradient(master))
            self._copies.append((parameter, master))
            self.weights[name] = master

    def publish(self) -> None:
        """Round the masters to the parameters that the model computes with."""
        with torch.no_grad():
            for parameter, master in self._copies:
                parameter.copy_(master)

    def load(self, weights: dict[str, torch.Tensor]) -> None:
        """Set the masters to these values by name, and publish them."""
        with torch.no_grad():
            for name, master in self.weights.items():
                master.copy_(weights[name])
        self.publish()


def _move_gradient(master: torch.nn.Parameter) -> Any:
    def move(parameter: torch.Tensor) -> None:
        assert parameter.grad is not None
        if master.grad is None:
            master.grad = parameter.grad.float()
        else:
            master.grad.add_(parameter.grad)
        parameter.grad = None

    return move


def make_optimizer(model: Any, masters: MasterWeights, config: TrainConfig) -> torch.optim.Optimizer:
    """Build the AdamW variant `config.optim`, with weight decay for the same parameters as Trainer."""
    decayed = set(get_parameter_names(model, [torch.nn.LayerNorm], list(NOT_DECAYED)))
    groups: dict[tuple[bool, bool], dict[str, Any]] = {}
    for name, parameter in masters.weights.items():
        decays, faster = name in decayed, bool(config.loraplus_lr_ratio) and ".lora_B." in name
        group: dict[str, Any] = {"params": [], "weight_decay": config.weight_decay if decays else 0.0}
        if faster:  # LoRA+ (Hayou et al. 2024): a higher learning rate for B than for A
            group["lr"] = (config.learning_rate or 0.0) * (config.loraplus_lr_ratio or 1.0)
        groups.setdefault((not decays, faster), group)["params"].append(parameter)
    ordered = [groups[key] for key in sorted(groups)]
    options: dict[str, Any] = {"lr": config.learning_rate, "betas": (0.9, 0.999), "eps": 1e-8}
    if config.optim == "paged_adamw_8bit":
        from bitsandbytes.optim import PagedAdamW8bit

        return PagedAdamW8bit(ordered, **options)
    return torch.optim.AdamW(ordered, fused=config.optim == "adamw_torch_fused", **options)


def count_warmup_steps(config: TrainConfig, steps: int) -> int:
    """Return the warm-up steps; a config value below 1 is a share of all steps."""
    return int(config.warmup_steps) if config.warmup_steps >= 1 else math.ceil(steps * config.warmup_steps)


def make_schedule(optimizer: torch.optim.Optimizer, config: TrainConfig, steps: int) -> LRScheduler:
    """Build the learning rate schedule over `steps` optimiser steps."""
    schedule: LRScheduler = get_scheduler(
        config.lr_scheduler_type, optimizer, count_warmup_steps(config, steps), steps
    )
    return schedule


# Checkpoints: tensors as safetensors, the rest as JSON, never pickle.
#
#   checkpoints/step-00000120/tensors.safetensors   masters, optimiser state, random states
#                             state.json            step, best step, history (written last)
#   checkpoints/best-00000100.safetensors           trained weights of the best validation so far
#
# A checkpoint is written under a temporary name, flushed to disk and renamed, so that it is complete or
# absent. Older checkpoints are deleted once a newer one exists, along with best weights that it doesn't name.

Tensors = dict[str, torch.Tensor]
Numbers = dict[str, object]  # the optimiser's scalars, named as in its state


class StepDocument(TypedDict):
    """Non-tensor state of a step: optimiser scalars, schedule state, learning rate per parameter group."""

    optimizer: Numbers
    schedule: dict[str, object]
    rates: list[float]


class CheckpointDocument(StepDocument):
    """Contents of `state.json`, including the training loop's state."""

    state: dict[str, Any]  # engine.training.training_loop.State


def save_checkpoint(
    folder: Path, step: int, tensors: Tensors, document: CheckpointDocument, best_step: int | None
) -> None:
    """Write the checkpoint of `step`, and delete earlier ones."""
    folder.mkdir(exist_ok=True)
    final = folder / f"step-{step:08d}"
    aside = folder / f".{final.name}"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    try:
        _write(aside / "tensors.safetensors", tensors)
        write_json(aside / "state.json", document)
    except OSError:  # e.g. a full disk: free the space that the result needs
        shutil.rmtree(aside, ignore_errors=True)
        raise
    shutil.rmtree(final, ignore_errors=True)  # of the same step, from before an interrupted evaluation
    os.rename(aside, final)
    _flush(folder)
    for old in folder.glob("step-*"):
        if old != final:
            shutil.rmtree(old)
    for old in folder.glob("best-*.safetensors"):
        if best_step is None or old != build_best_path(folder, best_step):
            old.unlink()


def load_newest_checkpoint(folder: Path) -> tuple[Tensors, CheckpointDocument] | None:
    """Load tensors (on the CPU) and document of the newest complete checkpoint, or None."""
    for path in sorted(folder.glob("step-*"), reverse=True):
        document = read_json(path / "state.json")
        try:
            tensors = load_file(path / "tensors.safetensors")
        except (FileNotFoundError, SafetensorError):
            continue
        if document is not None:
            return tensors, document
    return None


def build_best_path(folder: Path, step: int) -> Path:
    """Return the path of the best weights, from `step`."""
    return folder / f"best-{step:08d}.safetensors"


def save_best(folder: Path, step: int, weights: Tensors) -> None:
    """Save the weights of `step`; the previous best is kept until a checkpoint names this one."""
    folder.mkdir(exist_ok=True)
    _write(build_best_path(folder, step), weights)


def load_best(folder: Path, step: int) -> Tensors:
    """Load the weights saved by `save_best`."""
    return load_file(build_best_path(folder, step))


def collect_optimizer_state(optimizer: torch.optim.Optimizer) -> tuple[Tensors, Numbers]:
    """Return the optimiser's state as named tensors, and its scalars for JSON."""
    tensors: Tensors = {}
    numbers: Numbers = {}
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for index, parameter in enumerate(parameters):  # state_dict() of an 8-bit optimiser is nested
        for key, value in optimizer.state.get(parameter, {}).items():
            name = f"optimizer.{index}.{key}"
            if isinstance(value, torch.Tensor):
                tensors[name] = value.clone() if key.startswith("qmap") else value  # all share one map
            else:
                numbers[name] = value
    return tensors, numbers


def load_optimizer_state(optimizer: torch.optim.Optimizer, tensors: Tensors, numbers: Numbers) -> None:
    """Restore the state from `collect_optimizer_state`; parameter groups are unchanged."""
    document = optimizer.state_dict()
    document["state"] = {}
    for name, value in [*tensors.items(), *numbers.items()]:
        if name.startswith("optimizer."):
            _, index, key = name.split(".", 2)
            document["state"].setdefault(int(index), {})[key] = value
    optimizer.load_state_dict(document)


def collect_random_states() -> Tensors:
    """Return the states of torch's random generators, for the CPU and each GPU."""
    states = {"random.cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states |= {f"random.cuda.{i}": s for i, s in enumerate(torch.cuda.get_rng_state_all())}
    return states


def load_random_states(tensors: Tensors) -> None:
    """Restore the states from `collect_random_states`, skipping GPUs that are no longer present."""
    torch.set_rng_state(tensors["random.cpu"])
    for i in range(torch.cuda.device_count()):
        if f"random.cuda.{i}" in tensors:
            torch.cuda.set_rng_state(tensors[f"random.cuda.{i}"], i)


def _write(path: Path, tensors: Tensors) -> None:
    aside = path.with_name(f".{path.name}")
    try:
        save_file({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, aside)
    except SafetensorError as error:
        aside.unlink(missing_ok=True)
        if code := re.search(r"os error (\d+)", str(error)):  # safetensors hides the system's error code
            raise OSError(int(code[1]), str(error)) from error
        raise
    _flush(aside)
    os.replace(aside, path)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
