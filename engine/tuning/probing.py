"""Probes between steps: what training rows lose beside validation rows, and what the model still knows.

Each kind has its own share of the time that training took so far and waits until that pays for it, so that
probes never take more than the run's `probe_share`, however short the run or slow the machine. What they cost
is written down. Nothing here draws a random number: with probes or without, training is the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch

from engine.data.render import Rows
from engine.diagnostics.overfitting import Validation
from engine.diagnostics.statistics import quick_interval
from engine.evaluation.general import PROSE
from engine.evaluation.losses import RowLosses
from engine.evaluation.probes import LISTING, SEEN, Measured, Probe, spread
from engine.job import Job
from engine.tuning.objectives import Objective
from store.config import TrainConfig
from store.jobdir import written_aside


class Seen:
    """Rows that are trained on, as a probe: `most` of them, spread over the data set, under the objective."""

    name = SEEN

    def __init__(self, rows: Rows, objective: Objective, most: int) -> None:
        own = np.flatnonzero(rows.row_ids >= 0)  # planted ones are none of the data set
        self.rows, self.objective = rows.take(own[spread(len(own), most)]), objective

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def tokens(self) -> int:
        return len(self.rows.ids)

    def measure(
        self,
        model: Any,
        *,
        batch_size: int,
        device: torch.device,
        on_items: Callable[[int], None] = lambda done: None,
    ) -> Measured:
        """Their losses without dropout, as those of validation rows."""
        found = self.objective.measure(
            model, self.rows, batch_size=batch_size, device=device, on_batch=on_items
        )
        return self.as_measured(found)

    def as_measured(self, found: RowLosses) -> Measured:
        """Losses of its rows as those of a probe."""
        none = np.zeros(len(self), np.int32)
        names = [str(row_id) for row_id in found.row_ids]
        return Measured(
            SEEN, names, [""] * len(self), found.loss_sum, found.tokens, found.correct, none, none - 1, found
        )

    def listing(self) -> pa.Table:
        """None: the rows are the data set's own."""
        return LISTING.empty_table()

    def part(self, most: int) -> Seen:
        return Seen(self.rows, self.objective, most)


class Budget:
    """Seconds that may go into something: a share of the seconds of training."""

    def __init__(self, share: float, spent: float = 0.0) -> None:
        self.share, self.spent = share, spent
        self.last: float | None = None  # what it took the last time

    def allows(self, trained: float, expected: float) -> bool:
        """Whether it can be paid for once more; `expected` seconds where it was not done yet."""
        cost = expected if self.last is None else self.last
        return self.share > 0 and self.spent + cost <= self.share * trained

    def spend(self, seconds: float) -> None:
        """It took so long."""
        self.spent, self.last = self.spent + seconds, seconds


class Probing:
    """The probes of one run: `kinds`, each a list of probes that are measured together."""

    def __init__(self, job: Job, config: TrainConfig, kinds: Sequence[Sequence[Probe]]) -> None:
        self.job, self.config, self.device = job, config, torch.device(job.device)
        self.kinds = [list(kind) for kind in kinds if kind]
        share = config.probe_share / max(1, len(self.kinds))
        self.budgets = [Budget(share) for _ in self.kinds]
        self.tables: dict[int, list[pa.Table]] = {}
        self.base: Measured | None = None  # prose under the base model

    @property
    def seconds(self) -> list[float]:
        """What each kind took."""
        return [budget.spent for budget in self.budgets]

    def measure(
        self, step: int, model: Any, trained: float, pace: float, tell: Callable[[str], None]
    ) -> list[Measured]:
        """At `step`, after `trained` seconds of training, whatever can be paid for. `pace`: seconds a token
        of a validation; `tell`: what is going on."""
        found = []
        for kind, budget in zip(self.kinds, self.budgets, strict=True):
            if not budget.allows(trained, pace * sum(probe.tokens for probe in kind)):
                continue
            began = time.perf_counter()
            found += [self._one(probe, model, tell) for probe in kind]
            budget.spend(time.perf_counter() - began)
        self._keep(step, found)
        if found:
            self.job.facts(probe_seconds=sum(self.seconds))
        return found

    def start(self, model: Any, tell: Callable[[str], None]) -> None:
        """Measure the base model, where a run is to stop for what it forgets: that is against it."""
        general = [probe for kind in self.kinds for probe in kind if probe.name == PROSE]
        if self.config.max_forgetting is None or not general:
            return
        self.base = self._one(general[0], model, tell)
        self._keep(0, [self.base])

    def forgot(self, found: Sequence[Measured]) -> bool:
        """Whether prose has surely (95%, over passages) lost more than the run may forget."""
        prose = next((measured for measured in found if measured.probe == PROSE), None)
        if prose is None or self.base is None or self.config.max_forgetting is None:
            return False
        lost = quick_interval(prose.loss_sum - self.base.loss_sum, prose.tokens)
        return lost.low is not None and lost.low > self.config.max_forgetting

    def _keep(self, step: int, found: Sequence[Measured]) -> None:
        for measured in found:
            self.job.metrics(step, measured.metrics)
            self.tables.setdefault(step, []).append(measured.table(step=step))

    def _one(self, probe: Probe, model: Any, tell: Callable[[str], None]) -> Measured:
        def on_items(done: int) -> None:
            tell(f"Measuring {probe.name.replace('_', ' ')} ({done} of {len(probe)})")

        return probe.measure(
            model,
            batch_size=self.config.per_device_eval_batch_size,
            device=self.device,
            on_items=on_items,
        )

    def rewind(self, last: int, seconds: Sequence[float]) -> None:
        """Read what an earlier attempt wrote, up to a step, by when each kind had taken `seconds`."""
        for budget, spent in zip(self.budgets, seconds, strict=False):
            budget.spent = spent
        self.tables = {}
        if self.job.dir.live_probes.exists():
            table = pq.read_table(self.job.dir.live_probes)
            for step in pc.unique(table["step"]).to_pylist():
                if step <= last:
                    of_step = table.filter(pc.equal(table["step"], step))
                    names = pc.unique(of_step["probe"]).to_pylist()
                    self.tables[step] = [of_step.filter(pc.equal(of_step["probe"], name)) for name in names]
        if 0 in self.tables:
            self.base = Measured.of(self.tables[0][0])

    def write(self) -> None:
        """Write all that was measured, by atomic rename."""
        if self.tables:
            with written_aside(self.job.dir.live_probes, flush=False) as aside:
                pq.write_table(
                    pa.concat_tables([t for step in sorted(self.tables) for t in self.tables[step]]), aside
                )

    def seen(self, base: Measured | None, tuned: Measured | None, step: int) -> list[Validation]:
        """The probe of training rows at every step that it was measured, as `engine.diagnostics` takes it:
        under the base model as of step 0, and under the model that was kept as of the `step` it is from."""
        found = {
            at: Measured.of(table)
            for at, tables in self.tables.items()
            for table in tables
            if table["probe"][0].as_py() == SEEN
        }
        found |= {at: measured for at, measured in ((0, base), (step, tuned)) if measured}
        return [
            {"step": at, "row_ids": list(m.items), "loss_sums": m.loss_sum, "tokens": m.tokens}
            for at, m in sorted(found.items())
        ]
