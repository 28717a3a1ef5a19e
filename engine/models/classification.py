"""Labeled texts for a classifier, and the objective of a classification head: cross-entropy per row.

A text is encoded as `tokenizer(text)` does: no chat template, and no closing token that the tokenizer doesn't
add itself. Every pipeline encodes texts this way and reads the last non-padding token, which is often the
very token that closes a turn, so that the saved model gives the same probabilities wherever it is loaded. The
classes are the labels of the training rows, sorted. A held-out row with any other label is kept: it always
counts as wrong in accuracy, and it has no loss. A row without a label is dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from peft import PeftModel

from engine.models import generation
from engine.models.batching import batch_by_length
from engine.models.confusion import Confusion, compute_f1_averages
from engine.models.losses import RowLosses
from engine.models.tokenization.rendering import EMPTY, TokenRows
from store.core.errors import ConfigError, DataError
from store.core.home import Home
from store.data import dataset_files

UNSEEN_CLASS = -1  # the class of a label that no training row has
MAX_CLASSES = 10_000  # with more distinct labels, these are texts rather than classes


@dataclass(frozen=True)
class Labels:
    """Labels of a run's rows. `names`: the classes; `ids`: the class of each row in `row_ids` (sorted)."""

    names: list[str]
    row_ids: np.ndarray
    ids: np.ndarray
    texts: list[str]
    counts: np.ndarray  # training rows of each class

    @property
    def all_names(self) -> list[str]:
        """The classes, followed by held-out labels that don't occur in the training rows."""
        return [*self.names, *sorted(set(self.texts) - set(self.names))]

    def place_of(self, row_ids: np.ndarray) -> np.ndarray:
        """Return the index of each row's label in `all_names`."""
        places = {name: i for i, name in enumerate(self.all_names)}
        return np.array([places[text] for text in self.text_of(row_ids)], np.int64)

    def of(self, row_ids: np.ndarray) -> np.ndarray:
        """Return the class of each row, or `UNSEEN_CLASS` for a label that no training row has."""
        return self.ids[np.searchsorted(self.row_ids, row_ids)]

    def text_of(self, row_ids: np.ndarray) -> list[str]:
        """Return the label of each row as written in the data set."""
        return [self.texts[i] for i in np.searchsorted(self.row_ids, row_ids)]

    def unseen(self, row_ids: np.ndarray) -> dict[str, int]:
        """Return the labels of these rows that no training row has, with their row counts."""
        rows_of: dict[str, int] = {}
        for row, text in zip(self.of(row_ids), self.text_of(row_ids), strict=True):
            if row == UNSEEN_CLASS:
                rows_of[text] = rows_of.get(text, 0) + 1
        return rows_of


def load_labels(
    home: Home, fingerprint: str, dealt: Mapping[str, np.ndarray]
) -> tuple[Labels, dict[str, np.ndarray], int]:
    """Load the labels of the rows in a split.

    Returns the labels, the split reduced to rows with a label, and the number of rows without one. Raises
    ConfigError if no row has a label; DataError if the training rows have one class only or too many, or
    if a part is left without a row.
    """
    all_ids = np.sort(np.concatenate(list(dealt.values())))
    texts = dataset_files.load_rows(home, fingerprint, columns=["label"], row_ids=all_ids)[
        "label"
    ].to_pylist()
    has_label = np.array([bool(text) for text in texts], bool)
    if not has_label.any():
        raise ConfigError(
            "The data set has no labels, which text classification needs.",
            fix="Import the file in the format Text and label, or choose Instruction tuning.",
            field="task",
        )
    row_ids = all_ids[has_label]
    kept = {part: ids[np.isin(ids, row_ids)] for part, ids in dealt.items()}
    for part in ("train", "validation"):
        if not len(kept[part]):
            raise DataError(f"No {part} row has a label.", fix="Take more rows.", field="dataset")
    own = [text for text in texts if text]
    place = dict(zip(row_ids.tolist(), own, strict=True))
    names = sorted({place[i] for i in kept["train"].tolist()})
    _check(names, len(kept["train"]))
    index = {name: i for i, name in enumerate(names)}
    ids = np.array([index.get(text, UNSEEN_CLASS) for text in own], np.int64)
    train = ids[np.searchsorted(row_ids, kept["train"])]
    labels = Labels(names, row_ids, ids, own, np.bincount(train, minlength=len(names)))
    if (labels.of(kept["validation"]) == UNSEEN_CLASS).all():
        raise DataError(
            "No validation row has a label that the training rows have.",
            fix="Train on more rows, or split by strata of label.",
            field="dataset",
        )
    return labels, kept, int((~has_label).sum())


def _check(names: list[str], rows: int) -> None:
    if len(names) == 1:
        raise DataError(
            f"The training rows have one class only, {names[0]!r}; at least two are needed.",
            fix="Train on more rows, or choose a data set with several labels.",
            field="dataset",
        )
    if len(names) > MAX_CLASSES:
        raise DataError(
            f"The {rows:,} training rows have {len(names):,} different labels; those are texts, not classes.",
            fix="Choose Instruction tuning, or map another column to label.",
            field="dataset",
        )


def load_texts(home: Home, fingerprint: str, row_ids: np.ndarray) -> list[str]:
    """Load the texts to classify: the turns before the answer, without roles."""
    rows = dataset_files.load_rows(home, fingerprint, columns=["messages", "text"], row_ids=row_ids)
    return [
        join_prompt_turns(messages) if messages else text
        for messages, text in zip(rows["messages"].to_pylist(), rows["text"].to_pylist(), strict=True)
    ]


def join_prompt_turns(messages: Sequence[Mapping[str, str]]) -> str:
    """Join the turns before the last answer into one text."""
    last = max((i for i, m in enumerate(messages) if m["role"] == "assistant"), default=len(messages))
    return "\n\n".join(m["content"] for m in messages[:last])


def encode_texts(tokenizer: Any, row_ids: Sequence[int] | np.ndarray, texts: Sequence[str]) -> TokenRows:
    """Encode texts as token ids; none of the tokens is trained."""
    ids = tokenizer(list(texts), return_attention_mask=False).input_ids if len(texts) else []
    lengths = np.fromiter((len(row) for row in ids), np.int64, len(ids))
    flat = np.concatenate([*(np.asarray(row, np.int32) for row in ids), np.zeros(0, np.int32)])
    reasons = np.where(lengths == 0, EMPTY, 0).astype(np.uint8)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    return TokenRows(
        np.asarray(row_ids, np.int64), starts, flat.astype(np.int32), np.zeros(len(flat), bool), reasons
    )


def truncate_texts(tokenizer: Any, rows: TokenRows, max_length: int) -> tuple[TokenRows, int, int]:
    """Truncate rows to `max_length` as the tokenizer does.

    A closing token that the tokenizer adds to every text stays last. Returns the rows, the number of
    truncated rows, and the number of tokens lost.
    """
    long = np.flatnonzero(rows.lengths > max_length)
    shorter, _, _ = rows.truncated(max_length)
    closing = tokenizer("a").input_ids[-1:]
    if closing and closing[0] in tokenizer.all_special_ids:
        shorter.ids[shorter.starts[1:][long] - 1] = closing[0]
    shorter.reasons[:] = rows.reasons
    return shorter, len(long), len(rows.ids) - len(shorter.ids)


# The position at which a row is read is decided here, not by the model: a hook on `score` passes the head the
# hidden state of each row's last non-padding token only, whatever an adapter has prepended to the row, and
# broadcasts its output over all positions, so that the pooling of transformers can take it from any of them.
# The head is in fp32 under any model, as users read its probabilities. An encoder, whose head isn't called
# `score`, pools by itself, in its own precision, and gets an attention mask.


@dataclass
class ClassBatch:
    """A batch of texts with their classes.

    - inputs: int64 [rows, longest]
    - last: int64 [rows]: position at which the head reads each row
    - lengths: int64 [rows]
    - targets: int64 [rows]: classes
    - tokens: number of tokens in the rows, without padding
    """

    inputs: torch.Tensor
    last: torch.Tensor
    lengths: torch.Tensor
    targets: torch.Tensor
    tokens: int

    @property
    def units(self) -> int:
        """Number of units the loss sums over: rows."""
        return len(self.targets)


@dataclass
class ClassLosses(RowLosses):
    """Losses per row; `tokens` is 1, or 0 for a label unseen in training, which has no loss.

    `truth` and `predicted` are int64 indices into `classes` classes, with labels unseen in training last.
    """

    truth: np.ndarray
    predicted: np.ndarray
    classes: int

    @property
    def metrics(self) -> dict[str, float]:
        """Loss per row, accuracy, and macro F1."""
        macro, _ = compute_f1_averages(*Confusion.of(self.truth, self.predicted, self.classes).sums())
        return {
            "eval/loss": self.loss,
            "eval/accuracy": float(self.correct.mean()),
            "eval/f1_macro": float(macro[0]),
        }


class ClassObjective:
    """Classification objective. `labels`: of the run's rows; `pad_token_id`: the tokenizer's.

    Rows are not grouped by length: labels often correlate with it, as spam is longer than ham, and batches of
    a single class make the head oscillate.
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
        """Return the position of the last non-padding token, as transformers determines it."""
        real = np.flatnonzero(ids != self.pad)
        return int(real[-1]) if len(real) else len(ids) - 1

    def loss_sum(self, model: Any, batch: ClassBatch) -> torch.Tensor:
        return F.cross_entropy(compute_class_logits(model, batch), batch.targets, reduction="sum")

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
        """Return log-probabilities [rows, classes]; the model's train or eval mode is restored."""
        log_probabilities = np.zeros((len(rows), len(self.labels.names)))
        training, done = model.training, 0
        model.eval()
        try:
            with torch.inference_mode():
                for indices in batch_by_length(rows.lengths, batch_size):
                    logits = compute_class_logits(model, self.collate(rows, indices, device))
                    log_probabilities[indices] = logits.log_softmax(-1).double().cpu().numpy()
                    done += len(indices)
                    on_batch(done)
        finally:
            model.train(training)
        return log_probabilities

    def baseline(self, rows: TokenRows) -> ClassLosses:
        """Return the losses at step 0, for always predicting the most frequent class.

        The training rows' class frequencies are the probabilities. An untrained head would give noise.
        """
        shares = self.labels.counts / self.labels.counts.sum()
        return self.judged(rows, np.tile(np.log(shares), (len(rows), 1)))

    def judged(self, rows: TokenRows, log_probabilities: np.ndarray) -> ClassLosses:
        """Compare log-probabilities [rows, classes] with the rows' labels."""
        classes = self.labels.of(rows.row_ids)
        has_class = classes != UNSEEN_CLASS
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


def find_head(model: Any) -> Any | None:
    """Return the module `score` of a model or of the model under an adapter; None if it has none."""
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    return getattr(base, "score", None)


def upcast_head(model: Any) -> Any:
    """Convert the head's weights to fp32, for precise probabilities; the other weights are unchanged."""
    head = find_head(model)
    if head is not None:
        for parameter in head.parameters():
            parameter.data = parameter.data.float()
    return model


def init_head(model: Any, seed: int) -> None:
    """Initialize the head's weights from the seed alone."""
    head = find_head(model)
    if head is None:
        return
    generator = torch.Generator().manual_seed(seed)
    deviation = getattr(model.config.get_text_config(), "initializer_range", 0.02)
    weight = head.weight
    drawn = torch.randn(weight.shape, generator=generator) * deviation
    weight.data.copy_(drawn.to(weight.device, weight.dtype))


def compute_class_logits(model: Any, batch: ClassBatch) -> torch.Tensor:
    """Return logits [rows, classes] in fp32."""
    head = find_head(model)
    if head is None:
        mask = torch.arange(batch.inputs.shape[1], device=batch.inputs.device) < batch.lengths[:, None]
        logits: torch.Tensor = model(input_ids=batch.inputs, attention_mask=mask.long()).logits.float()
        return logits
    with _read_at(head, batch.last, batch.inputs.shape[1]):
        logits = generation.forward_prompted(model, batch.inputs).logits.float()
    return logits


@contextmanager
def _read_at(head: Any, last: torch.Tensor, tokens: int) -> Iterator[None]:
    """Make the head read each row only at the hidden state at `last`, for rows of `tokens` tokens."""
    widths: list[int] = []

    def pick(_: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        hidden = inputs[0]
        widths.append(hidden.shape[1])
        at = last + (hidden.shape[1] - tokens)  # virtual tokens of an adapter precede the row
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
