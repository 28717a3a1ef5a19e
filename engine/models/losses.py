"""Losses per token and per row, on which every comparison rests, and the training objectives."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NotRequired, Protocol, TypedDict

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike

from engine.models.batching import CPU_TOKENS, TokenBatch, batch_by_length, collate
from engine.models.forward import llama_layers
from engine.models.forward.llama_layers import is_untouched
from engine.models.forward.operations import HEAD_ROWS, LOSS_ROWS, SummedLoss
from engine.models.forward.packed_forward import compute_hidden_states
from engine.models.tokenization.rendering import TokenRows

# Losses per token and row are the cross-entropy of the trained tokens, with logits for those only: most of a
# batch is prompt and padding, and logits are the widest tensors of a step. A hook on the output layer picks
# the hidden states that predict a trained token before they are multiplied with the vocabulary; what the
# architecture does to logits afterwards (soft-capping, scaling) still applies, as it is elementwise.


class ModelScores(TypedDict):
    """Scores per row, in the same order for both models.

    - loss: nats per token
    - min_k: Min-K% value, if known
    - margin: for pairs of answers (0 under the base model)
    """

    loss: ArrayLike
    min_k: NotRequired[ArrayLike]
    margin: NotRequired[ArrayLike]


@contextmanager
def limit_output(model: Any, picked: torch.Tensor) -> Iterator[None]:
    """Compute logits only for the picked positions within the context.

    Trained prompts are prepended to the rows, so positions count from the end.
    """
    head = model.get_output_embeddings()
    width = picked.shape[1]
    hook = head.register_forward_pre_hook(lambda _, inputs: (inputs[0][:, -width:][picked], *inputs[1:]))
    try:
        yield
    finally:
        hook.remove()


@contextmanager
def use_fp32_head(model: Any) -> Iterator[bool]:
    """Make a 16-bit output layer compute fp32 logits within the context, a few vocabulary entries at a time.

    16-bit logits are up to 0.125 apart, so that two different ones may become equal. Yields False, without
    any change, if the layer is more than a matrix, or already wide enough.
    """
    head = model.get_output_embeddings()
    wider = type(head) is torch.nn.Linear and head.weight.dtype in (torch.bfloat16, torch.float16)
    if not wider:
        yield False
        return

    def make_wide(_: Any, inputs: tuple[torch.Tensor, ...], __: torch.Tensor) -> torch.Tensor:
        states = inputs[0].float()
        logits = states.new_empty(*states.shape[:-1], len(head.weight))
        for first in range(0, len(head.weight), HEAD_ENTRIES):
            part = slice(first, first + HEAD_ENTRIES)
            bias = None if head.bias is None else head.bias[part].float()
            logits[..., part] = F.linear(states, head.weight[part].float(), bias)
        return logits

    hook = head.register_forward_hook(make_wide)
    try:
        yield True
    finally:
        hook.remove()


def compute_picked_logits(model: Any, batch: TokenBatch) -> torch.Tensor:
    """Return logits [trained tokens, vocabulary] in fp32, in the order of `batch.targets`."""
    hidden = compute_hidden_states(model, batch)
    if hidden is not None:
        logits: torch.Tensor = model.get_output_embeddings()(hidden[: len(batch.targets)]).float()
        return logits
    with limit_output(model, batch.picked):
        logits = model(input_ids=batch.inputs, use_cache=False).logits.float()
    return logits


def compute_loss_sum(model: Any, batch: TokenBatch) -> torch.Tensor:
    """Return the batch's summed loss in nats, to be divided by the trained tokens of the effective batch."""
    hidden = compute_plain_head_inputs(model, batch)
    if hidden is not None:
        losses: torch.Tensor = SummedLoss.apply(hidden, model.get_output_embeddings().weight, batch.targets)
        return losses
    return F.cross_entropy(compute_picked_logits(model, batch), batch.targets, reduction="sum")


def compute_token_losses(model: Any, batch: TokenBatch) -> tuple[torch.Tensor, torch.Tensor]:
    """Return for each of `batch.targets` the loss in nats and whether it is the likeliest token.

    No gradients are computed.
    """
    hidden = compute_plain_head_inputs(model, batch)
    if hidden is None:
        logits = compute_picked_logits(model, batch)
        return F.cross_entropy(logits, batch.targets, reduction="none"), logits.argmax(-1) == batch.targets
    parts = [
        part
        for rows, targets in zip(hidden.split(HEAD_ROWS), batch.targets.split(HEAD_ROWS), strict=False)
        for part in _iterate_token_losses(
            rows[: len(targets)] @ model.get_output_embeddings().weight.t(), targets
        )
    ]
    return torch.cat([losses for losses, _ in parts]), torch.cat([hits for _, hits in parts])


def _iterate_token_losses(
    logits: torch.Tensor, targets: torch.Tensor
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Compute as `compute_token_losses` does, a few rows at a time, so that few logits are in fp32."""
    for part, wanted in zip(logits.split(LOSS_ROWS), targets.split(LOSS_ROWS), strict=True):
        yield F.cross_entropy(part.float(), wanted, reduction="none"), part.argmax(-1) == wanted


def compute_plain_head_inputs(model: Any, batch: TokenBatch) -> torch.Tensor | None:
    """Return the output layer's input if that is a plain matrix and the rows are packed, else None."""
    head = model.get_output_embeddings()
    plain = type(head) is torch.nn.Linear and head.bias is None and is_untouched(head)
    return compute_hidden_states(model, batch) if plain else None


HEAD_ENTRIES = 2048  # vocabulary entries whose fp32 weights are held at a time
LOGIT = 10  # bytes of memory per trained token and vocabulary entry
LOGIT_BYTES = 512 * 2**20  # limit per batch, which is split if it has more trained tokens
MIN_K_SHARE = 0.2  # share of a row's tokens with the lowest log-probability: k of Min-K%


@dataclass
class RowLosses:
    """Losses per row: row_ids int64, loss_sum float64 (nats), tokens int64 (trained), correct int64 (greedy).

    If known per token: min_k float64, the mean log-probability of a row's `MIN_K_SHARE` least likely tokens;
    hits bool [trained tokens, row after row], whether each is the model's first choice.
    """

    row_ids: np.ndarray
    loss_sum: np.ndarray
    tokens: np.ndarray
    correct: np.ndarray
    min_k: np.ndarray | None = field(default=None, kw_only=True)
    hits: np.ndarray | None = field(default=None, kw_only=True)

    @property
    def loss(self) -> float:
        """Nats per token, over all tokens."""
        return float(self.loss_sum.sum() / self.tokens.sum())

    @property
    def scores(self) -> ModelScores:
        """Scores for `engine.evaluation.verdicts.membership_inference`.

        The loss of a row without tokens is NaN.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            scores: ModelScores = {"loss": self.loss_sum / self.tokens}
        if self.min_k is not None:
            scores["min_k"] = self.min_k
        return scores

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


def compute_row_losses(
    model: Any,
    rows: TokenRows,
    *,
    batch_size: int,
    device: str | torch.device,
    on_batch: Callable[[int], None] = lambda done: None,
) -> RowLosses:
    """Return the losses of rows, each with at least one trained token.

    `on_batch(rows done)` may raise to stop. The model's train or eval mode is restored.
    """
    counts = rows.trained_counts
    ends = np.cumsum(counts)
    each, hits = np.zeros(int(counts.sum())), np.zeros(int(counts.sum()), bool)  # per trained token
    training, done = model.training, 0
    model.eval()
    try:
        with torch.inference_mode():
            for indices in build_fitting_batches(model, rows, batch_size):
                batch = collate(rows, indices, device)
                losses, right = compute_token_losses(model, batch)
                at = np.concatenate([np.arange(ends[i] - counts[i], ends[i]) for i in indices])
                each[at], hits[at] = losses.double().cpu().numpy(), right.cpu().numpy()
                done += len(indices)
                on_batch(done)
    finally:
        model.train(training)
    starts = ends - counts
    sums = np.add.reduceat(each, starts) if len(rows) else np.zeros(0)
    correct = np.add.reduceat(hits, starts, dtype=np.int64) if len(rows) else np.zeros(0, np.int64)
    return RowLosses(rows.row_ids, sums, counts, correct, min_k=_compute_min_k(each, starts, ends), hits=hits)


def _compute_min_k(losses: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Return the mean log-probability of each row's `MIN_K_SHARE` least likely tokens, at least one."""
    means = np.zeros(len(starts))
    for i, (start, end) in enumerate(zip(starts, ends, strict=True)):
        worst = max(1, round(MIN_K_SHARE * (end - start)))
        means[i] = -np.sort(losses[start:end])[-worst:].mean()
    return means


def build_fitting_batches(model: Any, rows: TokenRows, batch_size: int) -> list[np.ndarray]:
    """Batch rows by length, longest first, with at most `batch_size` rows.

    Batches are limited to the rows that fit with their logits, and for packed rows to the number of tokens
    at which a CPU is fast.
    """
    most = max(1, LOGIT_BYTES // (LOGIT * model.get_output_embeddings().weight.shape[0]))
    packed = not llama_layers.explain_refusal(model, int(rows.sequence_lengths.max()))
    room = CPU_TOKENS["full"] if packed else math.inf
    batches = []
    for indices in batch_by_length(rows.lengths, batch_size):
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


# Objectives: how rows become a batch, its summed loss, and what validation measures.
#
# The training loop knows nothing else of a task. A loss is a sum over units (trained tokens, rows, or pairs
# of answers); a step divides it by the units of the whole effective batch.


class SizedBatch(Protocol):
    """Batch as the training loop sees it.

    - tokens: number of tokens in its rows, without padding
    - units: number of units that its loss sums over
    """

    @property
    def tokens(self) -> int: ...

    @property
    def units(self) -> int: ...


class Objective(Protocol):
    """Losses of one task. grouped: whether to batch rows of similar length, which saves padding."""

    grouped: bool

    def collate(self, rows: TokenRows, indices: np.ndarray, device: torch.device) -> SizedBatch:
        """Collate the rows at `indices` into a batch."""
        ...

    def loss_sum(self, model: Any, batch: Any) -> torch.Tensor:
        """Return the batch's summed loss, with gradients."""
        ...

    def step_metrics(self) -> dict[str, float]:
        """Return further metrics of the step, from the batches since the last call."""
        ...

    def drop_metrics(self) -> None:
        """Discard the pending metrics: they belong to no step."""
        ...

    def measure(
        self,
        model: Any,
        rows: TokenRows,
        *,
        batch_size: int,
        device: torch.device,
        on_batch: Callable[[int], None],
    ) -> RowLosses:
        """Return the losses of every row, without gradients; `on_batch(rows done)` may raise to stop."""
        ...

    def baseline(self, rows: TokenRows) -> RowLosses | None:
        """Return the losses of step 0 if the untrained model is no useful baseline; otherwise None."""
        ...


class TokenObjective:
    """Supervised fine-tuning: cross-entropy of the trained tokens, in nats."""

    grouped = True

    def collate(self, rows: TokenRows, indices: np.ndarray, device: torch.device) -> Any:
        return collate(rows, indices, device)

    def loss_sum(self, model: Any, batch: Any) -> torch.Tensor:
        return compute_loss_sum(model, batch)

    def step_metrics(self) -> dict[str, float]:
        return {}

    def drop_metrics(self) -> None:
        """Do nothing: there are no step metrics."""

    def measure(
        self,
        model: Any,
        rows: TokenRows,
        *,
        batch_size: int,
        device: torch.device,
        on_batch: Callable[[int], None],
    ) -> RowLosses:
        return compute_row_losses(model, rows, batch_size=batch_size, device=device, on_batch=on_batch)

    def baseline(self, rows: TokenRows) -> RowLosses | None:
        return None
