"""A model anywhere on the straight line between the base's weights and the tuned ones, without training.

Of an adapter one factor of each change is scaled, on which the change depends linearly: B of LoRA, the
singular values of AdaLoRA, the scales behind VeRA's random matrices; IA3's factors go from 1. Of whole
weights every one that tuning changed is interpolated, for which both ends are in memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

FACTORS = {
    "lora": "lora_B.",
    "qlora": "lora_B.",
    "adalora": "lora_E.",
    "vera": "vera_lambda_b.",
    "ia3": "ia3_l.",
}


@dataclass(frozen=True)
class Line:
    """Parameters of one model, and their values at both ends."""

    ends: list[tuple[Tensor, Tensor, Tensor]]  # parameter, base, tuned

    def go(self, alpha: float) -> None:
        """Put the model at `alpha`: 0 is exactly the base, 1 exactly the tuned model."""
        with torch.no_grad():
            for parameter, base, tuned in self.ends:
                if alpha in (0.0, 1.0):
                    parameter.copy_(tuned if alpha else base)
                else:
                    between = torch.lerp(base.float(), tuned.float(), alpha)
                    parameter.copy_(between.to(parameter.dtype))


def of_adapter(model: Any, method: str) -> Line:
    """From a tuned model with its adapter."""
    factor = FACTORS[method]
    found = [parameter.data for name, parameter in model.named_parameters() if factor in name]
    start = torch.ones_like if method == "ia3" else torch.zeros_like
    return Line([(parameter, start(parameter), parameter.clone()) for parameter in found])


def of_weights(base: Any, tuned: Any) -> Line:
    """From two models of one architecture; the line is in `tuned`, `base` can go."""
    before = dict(base.named_parameters())
    return Line(
        [
            (parameter.data, before[name].data, parameter.data.clone())
            for name, parameter in tuned.named_parameters()
            if not torch.equal(parameter, before[name])
        ]
    )
