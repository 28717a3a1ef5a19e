"""AdaLoRA between the steps: which ranks live on (Zhang et al. 2023), on the fp32 masters.

peft's own allocator reads weights and gradients of a model; here it reads the masters, which have both. Its
state is part of a checkpoint, so that a resumed run deals the same ranks.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from peft import AdaLoraConfig
from peft.tuners.adalora.layer import RankAllocator

FIRST_SHARE, FINAL_SHARE = 0.1, 0.3  # of the steps, in which no rank goes: at the beginning, at the end
AVERAGES = ("exp_avg_ipt", "exp_avg_unc")
PENALTY = 0.5  # weight of the term that keeps the singular vectors orthogonal, as the authors'

Tensors = dict[str, torch.Tensor]


class Allocation:
    """Deals rank among the matrices. `weights`: the masters by name."""

    def __init__(self, config: AdaLoraConfig, weights: dict[str, torch.nn.Parameter]) -> None:
        self.config = config
        self.weights = weights
        self.pattern: dict[str, list[bool]] = {}  # which ranks of each matrix are left
        self.allocator = RankAllocator(self, config, "default")

    def named_parameters(self) -> Iterator[tuple[str, torch.nn.Parameter]]:
        """The masters, as the allocator asks for them."""
        yield from self.weights.items()

    def regularise(self) -> None:
        """Add the gradient of the penalty, once a step: the mean of |A Aᵀ - I| and |Bᵀ B - I|."""
        parts = []
        for name, weight in self.weights.items():
            if "lora_A" in name or "lora_B" in name:
                product = weight @ weight.T if "lora_A" in name else weight.T @ weight
                identity = torch.eye(len(product), device=weight.device)
                parts.append(torch.linalg.norm(product - identity))
        (PENALTY * torch.stack(parts).mean()).backward()

    def after_step(self, step: int) -> None:
        """After optimiser step `step` (from 1), while the gradients are still there."""
        last = (self.config.total_step or 0) - self.config.tfinal
        if step <= last:
            _, pattern = self.allocator.update_and_allocate(self, step, force_mask=step == last)
            self.pattern = pattern or self.pattern
        if step == last:
            self.allocator.reset_ipt()
        elif step > last and self.pattern:
            self.allocator.mask_using_rank_pattern(self, self.pattern)

    def tensors(self) -> Tensors:
        """What a checkpoint must hold of it."""
        tensors = {
            f"allocation.{kind}.{name}": value
            for kind in AVERAGES
            for name, value in getattr(self.allocator, kind).items()
        }
        tensors |= {f"allocation.pattern.{name}": torch.tensor(keep) for name, keep in self.pattern.items()}
        return tensors

    def load(self, tensors: Tensors) -> None:
        """Put back what `tensors` gave."""
        for kind in AVERAGES:
            prefix = f"allocation.{kind}."
            setattr(self.allocator, kind, _under(tensors, prefix))
        self.allocator.ipt = dict(self.allocator.exp_avg_ipt)  # names seen; their values are always made anew
        self.pattern = {name: keep.tolist() for name, keep in _under(tensors, "allocation.pattern.").items()}


def _under(tensors: Tensors, prefix: str) -> Tensors:
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
