"""How far the tuned model is from its base, token by token: KL(base‖tuned) over whole distributions.

The base's hidden states are kept, not its logits: both models' logits are made for a few tokens at a time,
where the head is a plain matrix that is not trained, and gradients with them. Elsewhere the logits of the
picked tokens are held once for each model, and all else a few tokens at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from engine.forward.batches import TokenBatch
from engine.forward.fused import LOSS_ROWS, SummedLoss
from engine.forward.losses import picked_logits, under_plain_head
from engine.models.apply_method import base_model
from engine.objectives.objectives import TrainedTokens


def losses_beside_base(model: Any, batch: TokenBatch) -> tuple[Tensor, Tensor]:
    """The summed loss of the batch's trained tokens, and their summed KL(base‖tuned) in nats, both with
    gradients. `model` has an adapter; switched off, without dropout, it is the base."""
    base = _of_base(model, batch)
    hidden = under_plain_head(model, batch)
    head = model.get_output_embeddings()
    count = len(batch.targets)
    if hidden is not None and base.hidden is not None:
        loss = SummedLoss.apply(hidden, head.weight, batch.targets)
        return loss, _Divergence.apply(hidden, base.hidden, head.weight, count)
    logits = picked_logits(model, batch) if hidden is None else head(hidden[:count]).float()
    loss = F.cross_entropy(logits, batch.targets, reduction="sum")
    return loss, _Divergence.apply(logits, base.logits(head, count), None, count)


class BesideBase(TrainedTokens):
    """Loss and distance as one sum, with which a step is rehearsed."""

    def loss_sum(self, model: Any, batch: Any) -> Tensor:
        loss, apart = losses_beside_base(model, batch)
        return loss + apart


@dataclass(frozen=True)
class _Base:
    """What the base makes of a batch: hidden states under a plain head, or else logits."""

    hidden: Tensor | None
    made: Tensor | None

    def logits(self, head: Any, count: int) -> Tensor:
        """In fp32, of the picked tokens."""
        with torch.no_grad():
            if self.hidden is not None:
                return head(self.hidden[:count]).float()
        assert self.made is not None
        return self.made


def _of_base(model: Any, batch: TokenBatch) -> _Base:
    training = model.training
    model.eval()
    try:
        with torch.no_grad(), base_model(model) as base:
            hidden = under_plain_head(base, batch)
            return _Base(hidden, None if hidden is not None else picked_logits(base, batch))
    finally:
        model.train(training)


class _Divergence(torch.autograd.Function):
    """The summed KL of the first `count` rows: of logits, or of what a head with this `weight` makes of them.
    The gradient is made at once, a few rows at a time."""

    @staticmethod
    def forward(ctx: Any, tuned: Tensor, base: Tensor, weight: Tensor | None, count: int) -> Tensor:
        total = tuned.new_zeros((), dtype=torch.float32)
        gradient = torch.zeros_like(tuned)
        for first in range(0, count, LOSS_ROWS):
            part = slice(first, min(first + LOSS_ROWS, count))
            ours, theirs = (x[part] if weight is None else x[part] @ weight.t() for x in (tuned, base))
            ours, theirs = F.log_softmax(ours.float(), -1), F.log_softmax(theirs.float(), -1)
            share = theirs.exp()
            total += (share * (theirs - ours)).sum()
            away = (ours.exp() - share).to(tuned.dtype)
            gradient[part] = away if weight is None else away @ weight
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        return ctx.saved_tensors[0] * grad, None, None, None
