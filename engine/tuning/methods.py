"""The training methods as one table: what of the model is trained, and at which rates it is known to work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model

from store.config import TrainConfig
from store.errors import ConfigError


@dataclass(frozen=True)
class Method:
    """`adapter`: the base stays as it is; `rates`: learning rates outside of it are warned of.

    Ranges: Biderman et al. 2024 ("LoRA learns less and forgets less") and the LoRA and QLoRA papers.
    """

    adapter: bool
    quantised: bool
    rates: tuple[float, float]


METHODS: dict[str, Method] = {
    "lora": Method(adapter=True, quantised=False, rates=(1e-5, 2e-3)),
    "qlora": Method(adapter=True, quantised=True, rates=(1e-5, 2e-3)),
    "full": Method(adapter=False, quantised=False, rates=(1e-6, 2e-4)),
}


def make_trainable(model: Any, config: TrainConfig, dtype: torch.dtype) -> Any:
    """The model with exactly the parameters that the method trains requiring gradients.

    Adapters are in `dtype`, not in peft's fp32: the optimiser keeps fp32 masters (`optimizer.py`).
    Raises ConfigError for target modules that the model does not have.
    """
    if METHODS[config.method].adapter:
        try:
            model = get_peft_model(model, lora_config(config), autocast_adapter_dtype=False)
        except ValueError as error:
            raise ConfigError(
                f"target_modules is {config.target_modules!r}: {error}",
                fix="Use all-linear, or names of the model's modules such as q_proj.",
                field="target_modules",
            ) from error
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.to(dtype)
    if config.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return model


def lora_config(config: TrainConfig) -> LoraConfig:
    """peft's config of the adapter; `config` is resolved."""
    return LoraConfig(
        task_type="SEQ_CLS" if config.task == "classification" else "CAUSAL_LM",  # peft trains its head
        r=config.r,
        lora_alpha=config.lora_alpha or 2 * config.r,
        lora_dropout=config.lora_dropout,
        target_modules=config.target_modules,
        use_rslora=config.use_rslora,
    )


def trainable(model: Any) -> list[tuple[str, torch.nn.Parameter]]:
    """Names and parameters that are trained, in the model's order."""
    return [(name, p) for name, p in model.named_parameters() if p.requires_grad]


def count_parameters(model: Any) -> tuple[int, int]:
    """(trainable, total) parameters; a 4-bit weight counts as what it stands for."""
    if isinstance(model, PeftModel):
        return model.get_nb_trainable_parameters()
    total = sum(p.numel() for p in model.parameters())
    return sum(p.numel() for _, p in trainable(model)), total


@contextmanager
def base_weights(model: PeftModel) -> Iterator[None]:
    """The model as it was before training: its adapter is switched off inside."""
    with model.disable_adapter():
        yield
