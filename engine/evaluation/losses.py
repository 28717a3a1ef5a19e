"""What a model loses on each row of a set: the numbers that every comparison of models rests on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from engine.data.render import Rows
from engine.tuning.batches import by_length, collate
from engine.tuning.loss import picked_logits

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
                logits = picked_logits(model, batch)
                losses = F.cross_entropy(logits, batch.targets, reduction="none").double().cpu().numpy()
                hits = (logits.argmax(-1) == batch.targets).cpu().numpy()
                row_of = batch.picked.nonzero()[:, 0].cpu().numpy()
                loss_sum[indices] = np.bincount(row_of, losses, len(indices))
                correct[indices] = np.bincount(row_of, hits, len(indices)).astype(np.int64)
                done += len(indices)
                on_batch(done)
    finally:
        model.train(training)
    return RowLosses(rows.row_ids, loss_sum, rows.trained_counts, correct)


def fitting_batches(model: Any, rows: Rows, batch_size: int) -> list[np.ndarray]:
    """Rows of like length, at most `batch_size` and as many as have room for their logits."""
    most = max(1, LOGIT_BYTES // (LOGIT * model.get_output_embeddings().weight.shape[0]))
    counts = rows.trained_counts
    batches = []
    for indices in by_length(rows.lengths, batch_size):
        first, total = 0, 0
        for place, index in enumerate(indices):
            if total and total + counts[index] > most:
                batches.append(indices[first:place])
                first, total = place, 0
            total += int(counts[index])
        batches.append(indices[first:])
    return batches
