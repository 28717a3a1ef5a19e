"""The objective of a classification head: cross-entropy of each row's class, from its last token.

Which token a row is read at is decided here, not by the model: a hook on `score` shows the head the hidden
state of each row's last token that isn't padding, whatever an adapter has put before the row, and spreads its
answer over all positions, so that the pooling of transformers takes it from anywhere. That head is in fp32
under any model: its probabilities are what people read. An encoder, whose head isn't called `score`, pools by
itself, in its own precision, and gets an attention mask.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from peft import PeftModel

from engine.diagnostics.statistics.class_figures import Confusion, f1_averages
from engine.forward import trained_prompts
from engine.forward.batches import by_length
from engine.forward.losses import RowLosses
from engine.rows.labelled import UNSEEN, Labels
from engine.rows.render import TokenRows


@dataclass
class ClassBatch:
    """inputs int64 [rows, longest]; last int64 [rows]: where a row is read; targets int64 [rows]: classes;
    lengths int64 [rows]; tokens: of the rows, without padding."""

    inputs: torch.Tensor
    last: torch.Tensor
    lengths: torch.Tensor
    targets: torch.Tensor
    tokens: int

    @property
    def units(self) -> int:
        """What the loss sums over: rows."""
        return len(self.targets)


@dataclass
class ClassLosses(RowLosses):
    """Losses of rows; `tokens` is 1, or 0 for a row whose label training doesn't know, which has no loss.

    truth, predicted: int64, indices of `classes` classes, labels that training doesn't know after the others.
    """

    truth: np.ndarray
    predicted: np.ndarray
    classes: int

    @property
    def metrics(self) -> dict[str, float]:
        """Loss a row, share of rows right, and the mean F1 of the classes."""
        macro, _ = f1_averages(*Confusion.of(self.truth, self.predicted, self.classes).sums())
        return {
            "eval/loss": self.loss,
            "eval/accuracy": float(self.correct.mean()),
            "eval/f1_macro": float(macro[0]),
        }


class ClassObjective:
    """The objective; `labels` are those of the run's rows, `pad_token_id` the tokenizer's.

    Rows are not grouped by length: labels often hang on it, as spam is longer than ham, and batches of one
    class pull the head to and fro.
    """

    grouped = False

    def __init__(self, labels: Labels, pad_token_id: int) -> None:
        self.labels, self.pad = labels, pad_token_id

    def collate(self, rows: TokenRows, indices: np.ndarray, device: torch.device) -> ClassBatch:
        parts = [rows.row(int(i))[0] for i in indices]
        lengths = np.array([len(ids) for ids in parts])
        inputs = np.full((len(parts), int(lengths.max())), self.pad, np.int64)
        for i, ids in enumerate(parts):
            inputs[i, : len(ids)] = ids
        last = np.array([self._last(ids) for ids in parts])
        targets = self.labels.of(rows.row_ids[indices])
        arrays = {"inputs": inputs, "last": last, "lengths": lengths, "targets": targets}
        tensors = {name: torch.from_numpy(array).to(device) for name, array in arrays.items()}
        return ClassBatch(**tensors, tokens=int(lengths.sum()))

    def _last(self, ids: np.ndarray) -> int:
        """The last token that isn't the padding token, as transformers finds it."""
        real = np.flatnonzero(ids != self.pad)
        return int(real[-1]) if len(real) else len(ids) - 1

    def loss_sum(self, model: Any, batch: ClassBatch) -> torch.Tensor:
        return F.cross_entropy(class_logits(model, batch), batch.targets, reduction="sum")

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
    ) -> ClassLosses:
        return self.judged(rows, self.predict(model, rows, batch_size, device, on_batch))

    def predict(
        self,
        model: Any,
        rows: TokenRows,
        batch_size: int,
        device: torch.device,
        on_batch: Callable[[int], None] = lambda done: None,
    ) -> np.ndarray:
        """Log-probabilities [rows, classes]; the model is left in the mode in which it came."""
        log_probabilities = np.zeros((len(rows), len(self.labels.names)))
        training, done = model.training, 0
        model.eval()
        try:
            with torch.inference_mode():
                for indices in by_length(rows.lengths, batch_size):
                    logits = class_logits(model, self.collate(rows, indices, device))
                    log_probabilities[indices] = logits.log_softmax(-1).double().cpu().numpy()
                    done += len(indices)
                    on_batch(done)
        finally:
            model.train(training)
        return log_probabilities

    def baseline(self, rows: TokenRows) -> ClassLosses:
        """Step 0: always the most frequent class, with the frequencies of the training rows as
        probabilities. What an untrained head says is noise."""
        shares = self.labels.counts / self.labels.counts.sum()
        return self.judged(rows, np.tile(np.log(shares), (len(rows), 1)))

    def judged(self, rows: TokenRows, log_probabilities: np.ndarray) -> ClassLosses:
        """Log-probabilities [rows, classes] against the rows' labels."""
        classes = self.labels.of(rows.row_ids)
        has_class = classes != UNSEEN
        losses = np.zeros(len(rows))
        losses[has_class] = -log_probabilities[has_class, classes[has_class]]
        predicted = log_probabilities.argmax(axis=1)
        truth = self.labels.place_of(rows.row_ids)
        return ClassLosses(
            row_ids=rows.row_ids,
            loss_sum=losses,
            tokens=has_class.astype(np.int64),
            correct=(predicted == truth).astype(np.int64),
            truth=truth,
            predicted=predicted,
            classes=len(self.labels.all_names),
        )


def head_of(model: Any) -> Any | None:
    """The module `score` of a model or of the model under an adapter; None where it has none."""
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    return getattr(base, "score", None)


def widen_head(model: Any) -> Any:
    """The head's weights in fp32, so that probabilities have their digits; the rest stays as it is."""
    head = head_of(model)
    if head is not None:
        for parameter in head.parameters():
            parameter.data = parameter.data.float()
    return model


def start_head(model: Any, seed: int) -> None:
    """Give the head its first weights, by the seed alone."""
    head = head_of(model)
    if head is None:
        return
    generator = torch.Generator().manual_seed(seed)
    deviation = getattr(model.config.get_text_config(), "initializer_range", 0.02)
    weight = head.weight
    drawn = torch.randn(weight.shape, generator=generator) * deviation
    weight.data.copy_(drawn.to(weight.device, weight.dtype))


def class_logits(model: Any, batch: ClassBatch) -> torch.Tensor:
    """Logits [rows, classes] in fp32."""
    head = head_of(model)
    if head is None:
        mask = torch.arange(batch.inputs.shape[1], device=batch.inputs.device) < batch.lengths[:, None]
        return model(input_ids=batch.inputs, attention_mask=mask.long()).logits.float()
    with _read_at(head, batch.last, batch.inputs.shape[1]):
        return trained_prompts.forward(model, batch.inputs).logits.float()


@contextmanager
def _read_at(head: Any, last: torch.Tensor, tokens: int) -> Iterator[None]:
    """Inside, the head sees of each row the hidden state at `last` alone, of rows of `tokens` tokens."""
    widths: list[int] = []

    def pick(_: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        hidden = inputs[0]
        widths.append(hidden.shape[1])
        at = last + (hidden.shape[1] - tokens)  # virtual tokens of an adapter come first
        picked = hidden[torch.arange(len(last), device=last.device), at]
        return (picked[:, None].to(next(head.parameters()).dtype), *inputs[1:])

    def spread(_: Any, inputs: Any, logits: torch.Tensor) -> torch.Tensor:
        return logits.expand(-1, widths[-1], -1)

    hooks = [head.register_forward_pre_hook(pick), head.register_forward_hook(spread)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
