"""Base models whose matrices are held in 4 or 8 bits, by bitsandbytes.

What is trained and what is evaluated must be the same numbers, so the places where the library computes in
another way without gradients are pinned.
"""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.ia3 import IA3Layer

from store.catalog.methods import Held
from store.config.training.train_config import TrainConfig

HEADS = ["score", "classifier", "pre_classifier", "head", ".*pooler"]  # of classifiers in transformers


def loading(held: Held, device: str, dtype: torch.dtype, *, headed: bool = False) -> dict[str, Any]:
    """Options of `from_pretrained` that load matrices in that form; headed: but for a classification head."""
    if not held:
        return {}
    from transformers import BitsAndBytesConfig

    skipped = HEADS if headed else None
    config = BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=skipped)
    if held == "nf4":
        config = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
            llm_int8_skip_modules=skipped,
        )
    return {"quantization_config": config, "device_map": {"": device}}


def pin(model: Any) -> None:
    """Make evaluation compute as training does.

    On a CPU an evaluation of 4-bit weights would repack them in place where there is AVX-512 BF16: it rounds
    their scales to bf16, refuses some widths, and breaks dequantisation later. One of 8-bit weights rounds
    the inputs too, which training doesn't.
    """
    import bitsandbytes as bnb

    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
        if isinstance(module, bnb.nn.Linear8bitLt) and module.weight.device.type == "cpu":
            module.training = True
            module.train = _stay.__get__(module)  # type: ignore[method-assign]


def unmap(model: Any) -> None:
    """Copy what was not quantised out of the file that was mapped: one weight that still lies there keeps all
    of the file in memory, with the weights that were quantised."""
    for parameter in model.parameters():
        if parameter.device.type == "cpu" and parameter.dtype.is_floating_point:
            parameter.data = parameter.data.clone()


def _stay(module: torch.nn.Module, mode: bool = True) -> torch.nn.Module:
    """In place of `train`: the layer goes on as in training."""
    return module


def keep_dtype(model: Any, config: TrainConfig, dtype: torch.dtype) -> None:
    """IA3 on quantised weights answers fp32 whatever it is given, which the next layer would refuse."""
    if not config.held:
        return

    def back(_: Any, __: Any, out: torch.Tensor) -> torch.Tensor:
        return out.to(dtype)

    for module in model.modules():
        if isinstance(module, IA3Layer) and isinstance(module, torch.nn.Module):
            module.register_forward_hook(back)
