"""Optimiser, schedule and checkpoint: fp32 master weights under a model that computes in bf16, and the
files from which a run resumes bit for bit: tensors as safetensors, the rest as JSON, never pickle.
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

# Optimiser and schedule, with fp32 master weights under a model that computes in bf16.
#
# A bf16 weight has 8 bits of mantissa: an update below 1/256 of it would be lost. So each trained bf16
# parameter has an fp32 master; its gradients of all micro-batches are summed in fp32 as they appear (and the
# bf16 gradient is freed), the optimiser steps the master, and `publish` rounds it back. An fp32 parameter is
# its own master.

# As transformers' Trainer: biases and norms are not decayed.
NOT_DECAYED = (r"bias", r"layernorm", r"rmsnorm", r"(?:^|\.)norm(?:$|\.)", r"_norm(?:$|\.)")


class MasterWeights:
    """The fp32 parameters that the optimiser steps: `weights`, name -> parameter."""

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
        """Round the masters into the parameters that the model computes with."""
        with torch.no_grad():
            for parameter, master in self._copies:
                parameter.copy_(master)

    def load(self, weights: dict[str, torch.Tensor]) -> None:
        """Take these values, by name, and publish them."""
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
    """AdamW in the variant `config.optim`, with weight decay where Trainer would apply it."""
    decayed = set(get_parameter_names(model, [torch.nn.LayerNorm], list(NOT_DECAYED)))
    groups: dict[tuple[bool, bool], dict[str, Any]] = {}
    for name, parameter in masters.weights.items():
        decays, faster = name in decayed, bool(config.loraplus_lr_ratio) and ".lora_B." in name
        group: dict[str, Any] = {"params": [], "weight_decay": config.weight_decay if decays else 0.0}
        if faster:  # LoRA+ (Hayou et al. 2024): what leaves the adapter learns faster than what enters it
            group["lr"] = (config.learning_rate or 0.0) * (config.loraplus_lr_ratio or 1.0)
        groups.setdefault((not decays, faster), group)["params"].append(parameter)
    ordered = [groups[key] for key in sorted(groups)]
    options: dict[str, Any] = {"lr": config.learning_rate, "betas": (0.9, 0.999), "eps": 1e-8}
    if config.optim == "paged_adamw_8bit":
        from bitsandbytes.optim import PagedAdamW8bit

        return PagedAdamW8bit(ordered, **options)
    return torch.optim.AdamW(ordered, fused=config.optim == "adamw_torch_fused", **options)


def count_warmup_steps(config: TrainConfig, steps: int) -> int:
    """Steps of warm-up: a share of all below 1, a number from 1."""
    return int(config.warmup_steps) if config.warmup_steps >= 1 else math.ceil(steps * config.warmup_steps)


def make_schedule(optimizer: torch.optim.Optimizer, config: TrainConfig, steps: int) -> LRScheduler:
    """The learning rate over `steps` optimiser steps."""
    schedule: LRScheduler = get_scheduler(
        config.lr_scheduler_type, optimizer, count_warmup_steps(config, steps), steps
    )
    return schedule


# What a resumed run starts from: tensors as safetensors, the rest as JSON, never pickle.
#
# checkpoints/step-00000120/tensors.safetensors   masters, optimiser state, random states
# state.json            step, best step, history (written last)
# checkpoints/best-00000100.safetensors           trained weights of the best validation so far
#
# A checkpoint is written aside, flushed to disk and renamed, so that it is whole or absent. Older ones go
# once a newer one is there, and with them the best weights that it does not name.

Tensors = dict[str, torch.Tensor]
Numbers = dict[str, object]  # of an optimiser, named as in its state


class StepDocument(TypedDict):
    """What is no tensor of a step: numbers of the optimiser, the schedule as it says itself, and the learning
    rate of each group of parameters."""

    optimizer: Numbers
    schedule: dict[str, object]
    rates: list[float]


class CheckpointDocument(StepDocument):
    """`state.json`: with the state of training."""

    state: dict[str, Any]  # engine.training.training_loop.State


def save_checkpoint(
    folder: Path, step: int, tensors: Tensors, document: CheckpointDocument, best_step: int | None
) -> None:
    """Write the checkpoint of `step` and drop those before it."""
    folder.mkdir(exist_ok=True)
    final = folder / f"step-{step:08d}"
    aside = folder / f".{final.name}"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    try:
        _write(aside / "tensors.safetensors", tensors)
        write_json(aside / "state.json", document)
    except OSError:  # a full disk: what is there of it takes the room that the result needs
        shutil.rmtree(aside, ignore_errors=True)
        raise
    shutil.rmtree(final, ignore_errors=True)  # of the same step, before an evaluation that was cut off
    os.rename(aside, final)
    _flush(folder)
    for old in folder.glob("step-*"):
        if old != final:
            shutil.rmtree(old)
    for old in folder.glob("best-*.safetensors"):
        if best_step is None or old != build_best_path(folder, best_step):
            old.unlink()


def load_newest_checkpoint(folder: Path) -> tuple[Tensors, CheckpointDocument] | None:
    """Tensors (on the CPU) and document of the newest whole checkpoint, or None."""
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
    """The file with the weights that were best at `step`."""
    return folder / f"best-{step:08d}.safetensors"


def save_best(folder: Path, step: int, weights: Tensors) -> None:
    """Keep the weights of `step`; the former best stays until a checkpoint names this one."""
    folder.mkdir(exist_ok=True)
    _write(build_best_path(folder, step), weights)


def load_best(folder: Path, step: int) -> Tensors:
    """The weights that `save_best` kept."""
    return load_file(build_best_path(folder, step))


def collect_optimizer_state(optimizer: torch.optim.Optimizer) -> tuple[Tensors, Numbers]:
    """The optimiser's state as named tensors, and its numbers as JSON."""
    tensors: Tensors = {}
    numbers: Numbers = {}
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for index, parameter in enumerate(parameters):  # state_dict() of an 8-bit optimiser is nested
        for key, value in optimizer.state.get(parameter, {}).items():
            name = f"optimizer.{index}.{key}"
            if isinstance(value, torch.Tensor):
                tensors[name] = value.clone() if key.startswith("qmap") else value  # one map for all
            else:
                numbers[name] = value
    return tensors, numbers


def load_optimizer_state(optimizer: torch.optim.Optimizer, tensors: Tensors, numbers: Numbers) -> None:
    """Put back what `collect_optimizer_state` took; parameter groups stay as they were made."""
    document = optimizer.state_dict()
    document["state"] = {}
    for name, value in [*tensors.items(), *numbers.items()]:
        if name.startswith("optimizer."):
            _, index, key = name.split(".", 2)
            document["state"].setdefault(int(index), {})[key] = value
    optimizer.load_state_dict(document)


def collect_random_states() -> Tensors:
    """The states of torch's generators, of the CPU and of each GPU."""
    states = {"random.cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states |= {f"random.cuda.{i}": s for i, s in enumerate(torch.cuda.get_rng_state_all())}
    return states


def load_random_states(tensors: Tensors) -> None:
    """Put back what `collect_random_states` took; a GPU that is no longer there is left out."""
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
        if code := re.search(r"os error (\d+)", str(error)):  # it hides which error of the system it was
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
