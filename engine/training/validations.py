"""Losses of every validation row at every validation, kept so that a rise can be tested row by row.

File: step int64, row_id int64, loss_sum float64 (nats), tokens int64, correct int64; in the order measured.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from engine.diagnostics.course.validation import Validation
from engine.forward.losses import RowLosses
from store.contract.jobdir import written_aside


class Validations:
    """The validations of one run, in memory and, after `write`, in its folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.done: list[tuple[int, RowLosses]] = []

    def add(self, step: int, losses: RowLosses) -> None:
        """Keep the losses measured at `step`."""
        self.done.append((step, losses))

    def rewind(self, steps: set[int]) -> None:
        """Read what an earlier attempt wrote, and keep these steps of it alone."""
        self.done = []
        if not self.path.exists():
            return
        table = pq.read_table(self.path)
        columns = {name: table[name].to_numpy() for name in table.column_names}
        for step in dict.fromkeys(columns["step"].tolist()):
            if step in steps:
                rows = columns["step"] == step
                names = ("row_id", "loss_sum", "tokens", "correct")
                self.done.append((int(step), RowLosses(*(columns[name][rows] for name in names))))

    def write(self) -> None:
        """Write all of them, by atomic rename."""
        if not self.done:
            return
        columns = {
            "step": np.concatenate([np.full(len(r.row_ids), s, np.int64) for s, r in self.done]),
            "row_id": np.concatenate([r.row_ids for _, r in self.done]),
            "loss_sum": np.concatenate([r.loss_sum for _, r in self.done]),
            "tokens": np.concatenate([r.tokens for _, r in self.done]),
            "correct": np.concatenate([r.correct for _, r in self.done]),
        }
        with written_aside(self.path, flush=False) as aside:
            pq.write_table(pa.table(columns), aside)

    def for_verdict(self) -> list[Validation]:
        """Them as `engine.diagnostics` takes them."""
        return [
            {"step": step, "row_ids": r.row_ids, "loss_sums": r.loss_sum, "tokens": r.tokens}
            for step, r in self.done
        ]
