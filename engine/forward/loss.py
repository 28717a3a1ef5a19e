"""Cross-entropy of the trained tokens, with logits for those alone.

Most of a batch is prompt and padding, and logits are the widest tensors of a step. A hook on the output
layer picks the hidden states that predict a trained token before they are multiplied with the vocabulary;
what the architecture does to logits afterwards (soft-capping, scaling) still happens, as it is elementwise.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F

from engine.forward.affine import untouched
from engine.forward.batches import TokenBatch
from engine.forward.fused import HEAD_ROWS, LOSS_ROWS, SummedLoss
from engine.forward.packed import hidden_states


@contextmanager
def output_where(model: Any, picked: torch.Tensor) -> Iterator[None]:
    """Inside, logits are of the picked positions alone; trained prompts lengthen rows at their beginning."""
    head = model.get_output_embeddings()
    width = picked.shape[1]
    hook = head.register_forward_pre_hook(lambda _, inputs: (inputs[0][:, -width:][picked], *inputs[1:]))
    try:
        yield
    finally:
        hook.remove()


def picked_logits(model: Any, batch: TokenBatch) -> torch.Tensor:
    """Logits [trained tokens, vocabulary] in fp32, in the order of `batch.targets`."""
    hidden = hidden_states(model, batch)
    if hidden is not None:
        return model.get_output_embeddings()(hidden[: len(batch.targets)]).float()
    with output_where(model, batch.picked):
        return model(input_ids=batch.inputs, use_cache=False).logits.float()


def loss_sum(model: Any, batch: TokenBatch) -> torch.Tensor:
    """The summed loss of the batch in nats; divide by the trained tokens of the whole effective batch."""
    hidden = under_plain_head(model, batch)
    if hidden is not None:
        return SummedLoss.apply(hidden, model.get_output_embeddings().weight, batch.targets)
    return F.cross_entropy(picked_logits(model, batch), batch.targets, reduction="sum")


def token_losses(model: Any, batch: TokenBatch) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss in nats, and whether it is the likeliest token, of each of `batch.targets`; without gradients."""
    hidden = under_plain_head(model, batch)
    if hidden is None:
        logits = picked_logits(model, batch)
        return F.cross_entropy(logits, batch.targets, reduction="none"), logits.argmax(-1) == batch.targets
    parts = [
        part
        for rows, targets in zip(hidden.split(HEAD_ROWS), batch.targets.split(HEAD_ROWS), strict=False)
        for part in _of_rows(rows[: len(targets)] @ model.get_output_embeddings().weight.t(), targets)
    ]
    return torch.cat([losses for losses, _ in parts]), torch.cat([hits for _, hits in parts])


def _of_rows(logits: torch.Tensor, targets: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """As `token_losses`, a few rows at a time, so that few logits are in fp32."""
    for part, wanted in zip(logits.split(LOSS_ROWS), targets.split(LOSS_ROWS), strict=True):
        yield F.cross_entropy(part.float(), wanted, reduction="none"), part.argmax(-1) == wanted


def under_plain_head(model: Any, batch: TokenBatch) -> torch.Tensor | None:
    """What a head that is a matrix and nothing else gets of packed rows; None where that is not so."""
    head = model.get_output_embeddings()
    plain = type(head) is torch.nn.Linear and head.bias is None and untouched(head)
    return hidden_states(model, batch) if plain else None
