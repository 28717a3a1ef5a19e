"""Optimiser and schedule, with fp32 master weights under a model that computes in bf16.

A bf16 weight has 8 bits of mantissa: an update below 1/256 of it would be lost. So each trained bf16
parameter has an fp32 master; its gradients of all micro-batches are summed in fp32 as they appear (and the
bf16 gradient is freed), the optimiser steps the master, and `publish` rounds it back. An fp32 parameter is
its own master.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch.optim.lr_scheduler import LRScheduler
from transformers import get_scheduler
from transformers.trainer_pt_utils import get_parameter_names

from store.config.training.train_config import TrainConfig

# As transformers' Trainer: biases and norms are not decayed.
NOT_DECAYED = (r"bias", r"layernorm", r"rmsnorm", r"(?:^|\.)norm(?:$|\.)", r"_norm(?:$|\.)")


class Masters:
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


def make_optimizer(model: Any, masters: Masters, config: TrainConfig) -> torch.optim.Optimizer:
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


def warmup_steps(config: TrainConfig, steps: int) -> int:
    """Steps of warm-up: a share of all below 1, a number from 1."""
    return int(config.warmup_steps) if config.warmup_steps >= 1 else math.ceil(steps * config.warmup_steps)


def make_schedule(optimizer: torch.optim.Optimizer, config: TrainConfig, steps: int) -> LRScheduler:
    """The learning rate over `steps` optimiser steps."""
    return get_scheduler(config.lr_scheduler_type, optimizer, warmup_steps(config, steps), steps)
