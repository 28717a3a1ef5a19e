"""What a step makes smaller: how rows become a batch, its summed loss, and what validation measures.

The loop knows nothing else of a task. A loss is a sum over units (trained tokens, rows, or pairs of answers);
a step divides it by the units of the whole effective batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch

from engine.forward import losses
from engine.forward.batches import collate
from engine.forward.losses import RowLosses, row_losses
from engine.rows.render import TokenRows


class Units(Protocol):
    """A batch, as the loop sees it. tokens: of its rows, without padding; units: what its loss sums over."""

    @property
    def tokens(self) -> int: ...

    @property
    def units(self) -> int: ...


class Objective(Protocol):
    """One task's losses. grouped: rows of like length may share a batch, which saves padding."""

    grouped: bool

    def collate(self, rows: TokenRows, indices: np.ndarray, device: torch.device) -> Units:
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


class TrainedTokens:
    """Supervised fine-tuning: cross-entropy of the trained tokens, in nats."""

    grouped = True

    def collate(self, rows: TokenRows, indices: np.ndarray, device: torch.device) -> Any:
        return collate(rows, indices, device)

    def loss_sum(self, model: Any, batch: Any) -> torch.Tensor:
        return losses.loss_sum(model, batch)

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
        return row_losses(model, rows, batch_size=batch_size, device=device, on_batch=on_batch)

    def baseline(self, rows: TokenRows) -> RowLosses | None:
        return None
