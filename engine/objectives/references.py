"""Log-probabilities of whole answers, and those of a preference run's reference: the model before training.

The reference does not change, so it is asked once, before the first step, by the very code that validates,
and what it says is kept in the job's folder. A run of three epochs with ten validations would otherwise pass
every pair through it up to eleven times; and a full fine-tuning leaves nothing of it after its first step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F

from engine.forward.batches import TokenBatch, collate
from engine.forward.losses import fitting_batches, picked_logits
from engine.models import memory
from engine.rows.pairs import TokenPairs
from engine.rows.render import TokenRows
from engine.worker.job import WorkerJob
from engine.worker.progress import ProgressReporter
from store.config.training.train_config import TrainConfig
from store.contract.jobdir import written_aside


@dataclass
class References:
    """Log-probabilities under the reference. row_ids int64 [n], ascending; logps float64 [n, 2]: of the
    chosen answer and of the rejected one, summed over its trained tokens, in nats."""

    row_ids: np.ndarray
    logps: np.ndarray

    def of(self, row_ids: np.ndarray) -> np.ndarray:
        """float64 [rows, 2] of those rows; each must be there."""
        return self.logps[np.searchsorted(self.row_ids, row_ids)]

    def write(self, path: Path) -> None:
        """Write them, by atomic rename."""
        columns = {"row_id": self.row_ids, "chosen": self.logps[:, 0], "rejected": self.logps[:, 1]}
        with written_aside(path, flush=False) as unfinished:
            pq.write_table(pa.table(columns), unfinished)

    @classmethod
    def read(cls, path: Path) -> References | None:
        """What `write` wrote, or None where it did not."""
        if not path.exists():
            return None
        table = pq.read_table(path)
        columns = [table[name].to_numpy() for name in ("row_id", "chosen", "rejected")]
        return cls(columns[0], np.stack(columns[1:], axis=1))

    @classmethod
    def unknown(cls, parts: Sequence[TokenRows]) -> References:
        """Zeros for every pair of `parts`: nobody has asked the reference yet."""
        row_ids = np.unique(np.concatenate([part.row_ids for part in parts]))
        return cls(row_ids, np.zeros((len(row_ids), 2)))

    @classmethod
    def compute(
        cls,
        model: Any,
        parts: Sequence[TokenRows],
        *,
        batch_size: int,
        device: torch.device,
        on_batch: Callable[[int], None] = lambda done: None,
    ) -> References:
        """Those of every pair of `parts` under `model`; `on_batch(pairs done)` may raise to stop."""
        done, logps = 0, []
        for part in parts:
            on_part = partial(_report_beyond, on_batch, done)
            logps.append(answer_logps(model, part, batch_size=batch_size, device=device, on_batch=on_part))
            done += len(part)
        row_ids, first = np.unique(np.concatenate([part.row_ids for part in parts]), return_index=True)
        return cls(row_ids, np.concatenate(logps)[first])


def _report_beyond(on_batch: Callable[[int], None], before: int, done: int) -> None:
    on_batch(before + done)


def references_of(job: WorkerJob, config: TrainConfig, model: Any, parts: Sequence[TokenRows]) -> References:
    """Those of `parts` under `model`, as an earlier attempt of the job left them, else computed and kept."""
    references = References.read(job.dir.references)
    if references is not None and job.resume:
        return references
    total = sum(len(part) for part in parts)
    tell = ProgressReporter(job, total, "pairs", "Asking the base model for both answers of each pair")
    device = torch.device(job.device)

    def on_batch(done: int) -> None:
        memory.guard(config, device)
        tell(done)

    batch_size = config.per_device_eval_batch_size
    references = References.compute(model, parts, batch_size=batch_size, device=device, on_batch=on_batch)
    references.write(job.dir.references)
    return references


def answer_logps(
    model: Any,
    rows: TokenRows,
    *,
    batch_size: int,
    device: str | torch.device,
    on_batch: Callable[[int], None] = lambda done: None,
) -> np.ndarray:
    """float64 [pairs, 2]: log-probability of each chosen and rejected answer, summed over its tokens.

    The model is left in the mode (train or eval) in which it came; `on_batch(pairs done)` may raise to stop.
    """
    answer_sums = np.zeros((len(rows), 2))
    training, done = model.training, 0
    model.eval()
    try:
        with torch.inference_mode():
            for indices in fitting_batches(model, rows, batch_size):
                logps = sequence_logps(model, collate_pairs(rows, indices, device))
                answer_sums[indices] = logps.view(2, -1).T.double().cpu().numpy()
                done += len(indices)
                on_batch(done)
    finally:
        model.train(training)
    return answer_sums


def collate_pairs(rows: TokenRows, indices: np.ndarray, device: str | torch.device) -> TokenBatch:
    """Chosen sequences, then as many rejected ones, of the pairs at `indices`."""
    places = np.concatenate([2 * indices, 2 * indices + 1])
    return collate(pairs(rows).sequences, places, device)


def sequence_logps(model: Any, batch: TokenBatch) -> torch.Tensor:
    """Log-probability of the trained tokens of each sequence of the batch, in nats."""
    logps = -F.cross_entropy(picked_logits(model, batch), batch.targets, reduction="none")
    row_of = batch.picked.nonzero()[:, 0]
    return logps.new_zeros(len(batch.inputs)).index_add(0, row_of, logps)


def pairs(rows: TokenRows) -> TokenPairs:
    """The rows as what they are in preference tuning."""
    assert isinstance(rows, TokenPairs), "preference tuning is given pairs"
    return rows
