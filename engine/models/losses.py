"""What a model loses on each token and row, the numbers that every comparison rests on, and what a step
makes smaller: how rows become a batch, its summed loss, and what validation measures.

Logits are made for the trained tokens alone. A loss is a sum over units (trained tokens, rows, pairs),
which a step divides by the units of the whole effective batch; the loop knows nothing else of a task.
"""

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

# What a model loses on each token and row: the numbers that every comparison of models rests on.
#
# It is the cross-entropy of the trained tokens, with logits for those alone: most of a batch is prompt and
# padding, and logits are the widest tensors of a step. A hook on the output layer picks the hidden states
# that predict a trained token before they are multiplied with the vocabulary; what the architecture does to
# logits afterwards (soft-capping, scaling) still happens, as it is elementwise.


class ModelScores(TypedDict):
    """Of each row the loss a token in nats, and where known the Min-K% value, of a pair of answers the margin
    (0 under the base model); in the same order for both models."""

    loss: ArrayLike
    min_k: NotRequired[ArrayLike]
    margin: NotRequired[ArrayLike]


@contextmanager
def limit_output(model: Any, picked: torch.Tensor) -> Iterator[None]:
    """Inside, logits are of the picked positions alone; trained prompts lengthen rows at their beginning."""
    head = model.get_output_embeddings()
    width = picked.shape[1]
    hook = head.register_forward_pre_hook(lambda _, inputs: (inputs[0][:, -width:][picked], *inputs[1:]))
    try:
        yield
    finally:
        hook.remove()


@contextmanager
def use_fp32_head(model: Any) -> Iterator[bool]:
    """Inside, an output layer of less than 32 bits makes logits in fp32, a few entries of the vocabulary at a
    time; in 16 bits logits lie up to 0.125 apart, and two that differ may be equal. False where the layer is
    more than a matrix, or wide already: nothing is changed then."""
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
    """Logits [trained tokens, vocabulary] in fp32, in the order of `batch.targets`."""
    hidden = compute_hidden_states(model, batch)
    if hidden is not None:
        logits: torch.Tensor = model.get_output_embeddings()(hidden[: len(batch.targets)]).float()
        return logits
    with limit_output(model, batch.picked):
        logits = model(input_ids=batch.inputs, use_cache=False).logits.float()
    return logits


def compute_loss_sum(model: Any, batch: TokenBatch) -> torch.Tensor:
    """The summed loss of the batch in nats; divide by the trained tokens of the whole effective batch."""
    hidden = compute_plain_head_inputs(model, batch)
    if hidden is not None:
        losses: torch.Tensor = SummedLoss.apply(hidden, model.get_output_embeddings().weight, batch.targets)
        return losses
    return F.cross_entropy(compute_picked_logits(model, batch), batch.targets, reduction="sum")


def compute_token_losses(model: Any, batch: TokenBatch) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss in nats, and whether it is the likeliest token, of each of `batch.targets`; without gradients."""
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
    """As `compute_token_losses`, a few rows at a time, so that few logits are in fp32."""
    for part, wanted in zip(logits.split(LOSS_ROWS), targets.split(LOSS_ROWS), strict=True):
        yield F.cross_entropy(part.float(), wanted, reduction="none"), part.argmax(-1) == wanted


def compute_plain_head_inputs(model: Any, batch: TokenBatch) -> torch.Tensor | None:
    """What a head that is a matrix and nothing else gets of packed rows; None where that is not so."""
    head = model.get_output_embeddings()
    plain = type(head) is torch.nn.Linear and head.bias is None and is_untouched(head)
    return compute_hidden_states(model, batch) if plain else None


HEAD_ENTRIES = 2048  # of the vocabulary whose weights are there in fp32 at a time
LOGIT = 10  # bytes of memory that a trained token takes for each entry of the vocabulary
LOGIT_BYTES = 512 * 2**20  # of them in a batch: one with more trained tokens is made smaller
MIN_K_SHARE = 0.2  # of a row's tokens, those of the lowest log-probability: k of Min-K%


@dataclass
class RowLosses:
    """Per row: row_ids int64, loss_sum float64 (nats), tokens int64 (trained), correct int64 (greedy).

    Where they were looked at token by token: min_k float64, the mean log-probability of a row's `MIN_K_SHARE`
    tokens; hits bool [trained tokens, row after row], whether each is the model's first choice.
    """

    row_ids: np.ndarray
    loss_sum: np.ndarray
    tokens: np.ndarray
    correct: np.ndarray
    min_k: np.ndarray | None = field(default=None, kw_only=True)
    hits: np.ndarray | None = field(default=None, kw_only=True)

    @property
    def loss(self) -> float:
        """Nats a token, over all tokens."""
        return float(self.loss_sum.sum() / self.tokens.sum())

    @property
    def scores(self) -> ModelScores:
        """What each row says of whether it was trained on, as
        `engine.evaluation.verdicts.membership_inference`
        takes it; a row without a token says nothing."""
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
    """Losses of every row, each with at least one trained token; `on_batch(rows done)` may raise to stop.

    The model is left in the mode (train or eval) in which it came.
    """
    counts = rows.trained_counts
    ends = np.cumsum(counts)
    each, hits = np.zeros(int(counts.sum())), np.zeros(int(counts.sum()), bool)  # of every trained token
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
    """Of each row the mean log-probability of its `MIN_K_SHARE` tokens, at least one."""
    means = np.zeros(len(starts))
    for i, (start, end) in enumerate(zip(starts, ends, strict=True)):
        worst = max(1, round(MIN_K_SHARE * (end - start)))
        means[i] = -np.sort(losses[start:end])[-worst:].mean()
    return means


def build_fitting_batches(model: Any, rows: TokenRows, batch_size: int) -> list[np.ndarray]:
    """Rows of like length, the longest first: at most `batch_size`, as many as have room for their logits,
    of packed rows no more tokens than a CPU is fast with."""
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


# What a step makes smaller: how rows become a batch, its summed loss, and what validation measures.
#
# The loop knows nothing else of a task. A loss is a sum over units (trained tokens, rows, or pairs of
# answers); a step divides it by the units of the whole effective batch.


class SizedBatch(Protocol):
    """A batch, as the loop sees it. tokens: of its rows, without padding; units: what its loss sums over."""

    @property
    def tokens(self) -> int: ...

    @property
    def units(self) -> int: ...


class Objective(Protocol):
    """One task's losses. grouped: rows of like length may share a batch, which saves padding."""

    grouped: bool

    def collate(self, rows: TokenRows, indices: np.ndarray, device: torch.device) -> SizedBatch:
        """The rows at `indices` as a batch."""
        ...

    def loss_sum(self, model: Any, batch: Any) -> torch.Tensor:
        """The summed loss of a batch, with gradients."""
        ...

    def step_metrics(self) -> dict[str, float]:
        """What the batches since the last call say beside their loss, as metrics of the step."""
        ...

    def drop_metrics(self) -> None:
        """Forget what they say: they belong to no step."""
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
        """Losses of every row, without gradients; `on_batch(rows done)` may raise to stop."""
        ...

    def baseline(self, rows: TokenRows) -> RowLosses | None:
        """What step 0 is where the untrained model is no measure of anything; None: the untrained model."""
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
        """There are none."""

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
