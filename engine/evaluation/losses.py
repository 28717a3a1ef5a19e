"""What a model loses on each row of a set: the numbers that every comparison of models rests on."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from engine.data.render import Rows
from engine.tuning import packable
from engine.tuning.batches import CPU_TOKENS, by_length, collate
from engine.tuning.loss import token_losses

LOGIT = 10  # bytes of memory that a trained token takes for each entry of the vocabulary
LOGIT_BYTES = 512 * 2**20  # of them in a batch: one with more trained tokens is made smaller


@dataclass
class RowLosses:
    """Per row: row_ids int64, loss_sum float64 (nats), tokens int64 (trained), correct int64 (greedy)."""

    row_ids: np.ndarray
    loss_sum: np.ndarray
    tokens: np.ndarray
    correct: np.ndarray

    @property
    def loss(self) -> float:
        """Nats a token, over all tokens."""
        return float(self.loss_sum.sum() / self.tokens.sum())

    @property
    def metrics(self) -> dict[str, float]:
        """Loss, perplexity and token accuracy under their names in the store."""
        with np.errstate(over="ignore"):
            perplexity = float(np.exp(np.float64(self.loss)))
        return {
            "eval/loss": self.loss,
            "eval/perplexity": perplexity,
            "eval/token_accuracy": float(self.correct.sum() / self.tokens.sum()),
        }


def row_losses(
    model: Any,
    rows: Rows,
    *,
    batch_size: int,
    device: str | torch.device,
    on_batch: Callable[[int], None] = lambda done: None,
) -> RowLosses:
    """Losses of every row, each with at least one trained token; `on_batch(rows done)` may raise to stop.

    The model is left in the mode (train or eval) in which it came.
    """
    loss_sum = np.zeros(len(rows))
    correct = np.zeros(len(rows), np.int64)
    training, done = model.training, 0
    model.eval()
    try:
        with torch.inference_mode():
            for indices in fitting_batches(model, rows, batch_size):
                batch = collate(rows, indices, device)
                losses, hits = token_losses(model, batch)
                row_of = batch.picked.nonzero()[:, 0].cpu().numpy()
                loss_sum[indices] = np.bincount(row_of, losses.double().cpu().numpy(), len(indices))
                correct[indices] = np.bincount(row_of, hits.cpu().numpy(), len(indices)).astype(np.int64)
                done += len(indices)
                on_batch(done)
    finally:
        model.train(training)
    return RowLosses(rows.row_ids, loss_sum, rows.trained_counts, correct)


def fitting_batches(model: Any, rows: Rows, batch_size: int) -> list[np.ndarray]:
    """Rows of like length, the longest first: at most `batch_size`, as many as have room for their logits,
    of packed rows no more tokens than a CPU is fast with."""
    most = max(1, LOGIT_BYTES // (LOGIT * model.get_output_embeddings().weight.shape[0]))
    packed = not packable.refusal(model, int(rows.sequence_lengths.max()))
    room = CPU_TOKENS["full"] if packed else math.inf
    batches = []
    for indices in by_length(rows.lengths, batch_size):
        first = trained = tokens = 0
        for place, index in enumerate(indices):
            trained += int(rows.trained_counts[index])
            tokens += int(rows.lengths[index])
            if place > first and (trained > most or tokens > room):
                batches.append(indices[first:place])
                first, trained = place, int(rows.trained_counts[index])
                tokens = int(rows.lengths[index])
        batches.append(indices[first:])
    return batches
