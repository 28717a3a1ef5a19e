"""What a model knew before and should still know: named sets of items, measured alike on the base model, on
checkpoints and on the tuned model.

Whatever its kind, a probe gives one row an item, in the same order each time, so that two models are compared
item by item. What may be measured
while a run trains is decided in `engine.training.probing`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import torch

from engine.forward.losses import RowLosses, row_losses
from engine.rows.render import TokenRows

OnItems = Callable[[int], None]
SEEN = "train_rows"  # rows that are trained on; the other probes are of what the model should still know
LISTING = pa.schema(
    [
        ("probe", pa.string()),
        ("item", pa.string()),
        ("category", pa.string()),
        ("text", pa.string()),
        ("options", pa.list_(pa.string())),  # empty for a text
        ("right", pa.int32()),  # index of the right option, -1 for a text
    ]
)


@dataclass(frozen=True)
class ProbeMeasurement:
    """Items of one probe under one model. `loss_sum`: nats, of a text over its `tokens`, of a choice that of
    the right one of its `options`. `correct`: tokens predicted greedily, or 1 for a right choice. `chosen`:
    index of the option, -1 for a text. rows: what a probe of rows was measured to, while it is in memory."""

    probe: str
    items: Sequence[str]
    categories: Sequence[str]
    loss_sum: np.ndarray
    tokens: np.ndarray
    correct: np.ndarray
    options: np.ndarray
    chosen: np.ndarray
    rows: RowLosses | None = None

    def __len__(self) -> int:
        return len(self.items)

    @property
    def metrics(self) -> dict[str, float]:
        """What the store keeps as a curve."""
        tokens = max(1, int(self.tokens.sum()))
        curves = {f"probe/{self.probe}/loss": float(self.loss_sum.sum() / tokens)}
        if self.options.any():
            curves[f"probe/{self.probe}/accuracy"] = float(self.correct.sum() / tokens)
        return curves

    @classmethod
    def of(cls, table: pa.Table) -> ProbeMeasurement:
        """What `table` wrote of one probe."""
        numbers = (table[name].to_numpy() for name in ("loss_sum", "tokens", "correct", "options", "chosen"))
        items, categories = (table[name].to_pylist() for name in ("item", "category"))
        return cls(table["probe"][0].as_py(), items, categories, *numbers)

    def table(self, **same: Any) -> pa.Table:
        """As rows to keep, each with `same`: the step or the model that was measured."""
        return pa.table(
            {
                **{name: [value] * len(self) for name, value in same.items()},
                "probe": [self.probe] * len(self),
                "item": list(self.items),
                "category": list(self.categories),
                "loss_sum": self.loss_sum.astype(np.float64),
                "tokens": self.tokens.astype(np.int64),
                "correct": self.correct.astype(np.int64),
                "options": self.options.astype(np.int32),
                "chosen": self.chosen.astype(np.int32),
            }
        )


class Probe(Protocol):
    """A named set of items."""

    @property
    def name(self) -> str:
        """As in the names of its metrics."""

    def __len__(self) -> int: ...

    @property
    def tokens(self) -> int:
        """That pass through the model, about."""

    def measure(
        self, model: Any, *, batch_size: int, device: torch.device, on_items: OnItems = ...
    ) -> ProbeMeasurement:
        """All of its items under a model, which is left in the mode in which it came."""

    def listing(self) -> pa.Table:
        """What the items are: LISTING."""

    def part(self, most: int) -> Probe:
        """At most so many of its items, spread evenly over it and so over its categories."""


@dataclass(frozen=True)
class TextProbe:
    """Texts whose every token but the first is told: what the model loses on each."""

    name: str
    items: Sequence[str]
    categories: Sequence[str]
    texts: Sequence[str]
    rows: TokenRows

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def tokens(self) -> int:
        return len(self.rows.ids)

    def measure(
        self, model: Any, *, batch_size: int, device: torch.device, on_items: OnItems = lambda done: None
    ) -> ProbeMeasurement:
        losses = row_losses(model, self.rows, batch_size=batch_size, device=device, on_batch=on_items)
        none = np.zeros(len(self), np.int32)
        return ProbeMeasurement(
            self.name, self.items, self.categories,
            losses.loss_sum, losses.tokens, losses.correct, none, none - 1,
        )  # fmt: skip

    def listing(self) -> pa.Table:
        count = len(self)
        columns = [[self.name] * count, self.items, self.categories, self.texts, [[]] * count, [-1] * count]
        return pa.table(columns, schema=LISTING)

    def part(self, most: int) -> TextProbe:
        chosen = spread(len(self), most)
        whole = (self.items, self.categories, self.texts)
        items, categories, texts = ([column[i] for i in chosen] for column in whole)
        return TextProbe(self.name, items, categories, texts, self.rows.take(chosen))


def spread(count: int, most: int) -> np.ndarray:
    """At most `most` of the places 0 … count - 1, evenly spaced."""
    if count <= most:
        return np.arange(count)
    return np.floor(np.arange(most) * count / most).astype(np.int64)


def all_told(
    name: str,
    items: Sequence[str],
    categories: Sequence[str],
    texts: Sequence[str],
    ids: Sequence[np.ndarray],
) -> TextProbe:
    """Texts with their token ids; of each at least two tokens."""
    lengths = np.array([len(row) for row in ids], np.int64)
    if (lengths < 2).any():
        raise ValueError(f"Text {items[int(np.argmin(lengths))]!r} of {name} has no token after its first.")
    starts = np.concatenate([[0], np.cumsum(lengths)])
    trained = np.ones(int(starts[-1]), bool)
    trained[starts[:-1]] = False
    whole, reasons = np.concatenate(ids).astype(np.int32), np.zeros(len(ids), np.uint8)
    rows = TokenRows(np.arange(len(ids)), starts, whole, trained, reasons)
    return TextProbe(name, items, categories, texts, rows)
