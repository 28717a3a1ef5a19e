"""Measurements between steps: losses of every validation row, the task's metric, and probes.

Validations are stored row by row, so that an increase can be tested for significance. Each kind of probe
waits until its share of the training time covers it. No random numbers are drawn here: training is the same
with or without probes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch

from engine.evaluation.live_answers import LiveAnswers
from engine.evaluation.probes.probe_sets import (
    ITEM_SCHEMA,
    TRAINED_ROWS,
    CachedProbe,
    Probe,
    ProbeMeasurement,
    select_evenly,
)
from engine.evaluation.statistics.intervals import ratio_interval
from engine.evaluation.training_curve import run_curve
from engine.evaluation.training_curve.run_curve import MetricCurve, MetricKind, Validation
from engine.evaluation.verdicts.paired_measurements import PROSE
from engine.models.losses import Objective, RowLosses
from engine.models.saved_models import starts_at_base
from engine.models.tokenization.rendering import TokenRows
from engine.models.tuning_methods import use_base_model
from engine.worker.job import WorkerJob
from store.core.job_folder import write_atomically
from store.training.train_config import TrainConfig


class ValidationHistory:
    """Validations of one run, in memory and, after `write`, in its folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.done: list[tuple[int, RowLosses]] = []

    def add(self, step: int, losses: RowLosses) -> None:
        """Add the losses measured at `step`."""
        self.done.append((step, losses))

    def rewind(self, steps: set[int]) -> None:
        """Read the file of an earlier attempt, keeping only these steps."""
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
        """Write all validations, by atomic rename."""
        if not self.done:
            return
        columns = {
            "step": np.concatenate([np.full(len(r.row_ids), s, np.int64) for s, r in self.done]),
            "row_id": np.concatenate([r.row_ids for _, r in self.done]),
            "loss_sum": np.concatenate([r.loss_sum for _, r in self.done]),
            "tokens": np.concatenate([r.tokens for _, r in self.done]),
            "correct": np.concatenate([r.correct for _, r in self.done]),
        }
        with write_atomically(self.path, flush=False) as aside:
            pq.write_table(pa.table(columns), aside)

    def for_verdict(self) -> list[Validation]:
        """Return the validations in the form that the verdicts take."""
        return [
            Validation(step=step, row_ids=r.row_ids, loss_sums=r.loss_sum, tokens=r.tokens)
            for step, r in self.done
        ]


class TaskMetric:
    """Metric of the task beside the loss; `kind` is one of `engine.evaluation.training_curve.run_curve`."""

    def __init__(self, kind: MetricKind = "tokens", answers: LiveAnswers | None = None) -> None:
        self.kind, self.answers = kind, answers

    def metrics(self, losses: RowLosses) -> dict[str, float]:
        """Return the metrics for the store that this metric adds to a validation."""
        if self.kind != "label":
            return {}
        return {"eval/label_accuracy": float((losses.correct == losses.tokens).mean())}

    def course(self, validations: ValidationHistory) -> MetricCurve:
        """Return the name of the metric and its values by step.

        These are the values of generated responses if there were any at the last validation and before it, as
        a reader reads responses.
        """
        last = validations.done[-1][0] if validations.done else 0
        answered = self.answers.values_by_step() if self.answers else []
        if self.answers and len(answered) > 1 and answered[-1].step == last:
            return MetricCurve(f"{self.answers.words} of answers", answered)
        values = [
            run_curve.build_metric_values(self.kind, step, rows.row_ids, rows.correct, rows.tokens)
            for step, rows in validations.done
            if step or self.kind != "pairs"  # every pair is a tie before training
        ]
        return MetricCurve(run_curve.METRIC_WORDS[self.kind], values)


class TrainedRowsProbe:
    """Training rows as a probe: `most` of them, spread evenly over the data set, under the objective."""

    name = TRAINED_ROWS

    def __init__(self, rows: TokenRows, objective: Objective, most: int) -> None:
        own = np.flatnonzero(rows.row_ids >= 0)  # canaries are not part of the data set
        self.rows, self.objective = rows.take(own[select_evenly(len(own), most)]), objective

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
    ) -> ProbeMeasurement:
        """Measure the losses of the rows without dropout, as for validation rows."""
        losses = self.objective.measure(
            model, self.rows, batch_size=batch_size, device=device, on_batch=on_items
        )
        return self.as_measured(losses)

    def as_measured(self, losses: RowLosses) -> ProbeMeasurement:
        """Convert losses of its rows to a probe measurement."""
        none = np.zeros(len(self), np.int32)
        names = [str(row_id) for row_id in losses.row_ids]
        return ProbeMeasurement(
            TRAINED_ROWS,
            names,
            [""] * len(self),
            losses.loss_sum,
            losses.tokens,
            losses.correct,
            none,
            none - 1,
            losses,
        )

    def listing(self) -> pa.Table:
        """Return an empty table: the rows are the data set's own."""
        return ITEM_SCHEMA.empty_table()

    def part(self, most: int) -> TrainedRowsProbe:
        return TrainedRowsProbe(self.rows, self.objective, most)


class TimeBudget:
    """Seconds available for an activity: a share of the seconds of training."""

    def __init__(self, share: float, spent: float = 0.0) -> None:
        self.share, self.spent = share, spent
        self.last: float | None = None  # seconds of the last time

    def allows(self, trained: float, expected: float, times: int = 1) -> bool:
        """Whether the budget covers the activity `times` more times.

        expected: its seconds before the first time.
        """
        cost = times * (expected if self.last is None else self.last)
        return self.share > 0 and self.spent + cost <= self.share * trained

    def spend(self, seconds: float, times: int = 1) -> None:
        """Record the seconds spent on `times` repetitions."""
        self.spent, self.last = self.spent + seconds, seconds / times


class TrainingProbes:
    """Probes of one run between steps: losses of training rows, general knowledge, and generated responses.

    kinds: each is a list of probes measured together; of_base: maps a kind to its probes of the base model,
    which may be cached. Each kind has its own share of the training time so far and waits until that covers
    it, so that probes never exceed the run's `probe_share`, however short the run or slow the machine. Their
    cost is recorded. General probes are relative to the base model, so it is measured too, as step 0, the
    first time the budget covers it.
    """

    def __init__(
        self,
        job: WorkerJob,
        config: TrainConfig,
        kinds: Sequence[Sequence[Probe]],
        answers: LiveAnswers | None = None,
        of_base: Callable[[Sequence[Probe]], Sequence[Probe]] = lambda probes: probes,
    ) -> None:
        self.job, self.config, self.device = job, config, torch.device(job.device)
        self.of_base = of_base
        self.kinds = [list(kind) for kind in kinds if kind]
        self.answers = answers
        parts = [1.0] * len(self.kinds) + ([answers.weight] if answers else [])
        self.budgets = [TimeBudget(config.probe_share * part / sum(parts)) for part in parts]
        self.tables: dict[int, list[pa.Table]] = {}
        self.base: ProbeMeasurement | None = None  # prose under the base model

    @property
    def seconds(self) -> list[float]:
        """Return the seconds spent on each kind."""
        return [budget.spent for budget in self.budgets]

    def measure(
        self, step: int, model: Any, trained: float, pace: float, tell: Callable[[str], None]
    ) -> list[ProbeMeasurement]:
        """Measure, at `step` and after `trained` seconds of training, the kinds that their budgets cover.

        `pace`: seconds per token of a validation; `tell`: reports the current activity.
        """
        measured: list[ProbeMeasurement] = []
        for kind, budget in zip(self.kinds, self.budgets, strict=False):
            expected = pace * sum(probe.tokens for probe in kind)
            if not budget.allows(trained, expected):
                continue
            times, began = 1, time.perf_counter()
            if 0 not in self.tables and _is_general(kind) and starts_at_base(self.config):
                times += self._ask_base(kind, model, tell, budget.allows(trained, expected, 2))
            measured += [self._measure(probe, model, tell) for probe in kind]
            budget.spend(time.perf_counter() - began, times)
        self._keep(step, measured)
        answered = self._answer(step, model, trained, pace, tell)
        if measured or answered:
            self.job.facts(probe_seconds=sum(self.seconds))
        return measured

    def _ask_base(
        self, kind: Sequence[Probe], model: Any, tell: Callable[[str], None], affordable: bool
    ) -> int:
        """Measure the base model if it is cached or the budget covers it; otherwise this is done at the end.

        Returns the number of passes charged to the budget, 0 or 1.
        """
        probes = self.of_base(kind)
        with use_base_model(model) as base:
            answered = all(
                isinstance(probe, CachedProbe) and probe.is_cached(base, *self._how) for probe in probes
            )
            if answered or affordable:
                self._begin(probes, base, tell)
        return int(affordable and not answered)

    @property
    def _how(self) -> tuple[int, torch.device]:
        return self.config.per_device_eval_batch_size, self.device

    def _answer(
        self, step: int, model: Any, trained: float, pace: float, tell: Callable[[str], None]
    ) -> bool:
        answers = self.answers
        if answers is None or not self.budgets[-1].allows(trained, pace * answers.tokens):
            return False
        began = time.perf_counter()
        answers.measure(step, model, tell)
        self.budgets[-1].spend(time.perf_counter() - began)
        return True

    def start(self, model: Any, tell: Callable[[str], None]) -> None:
        """Measure the base model first if the run stops on forgetting, which is relative to it.

        The time is charged to the probes' budget, so that later probes wait for it.
        """
        for kind, budget in zip(self.kinds, self.budgets, strict=False):
            if self.config.max_forgetting is not None and _is_general(kind):
                began = time.perf_counter()
                self._begin(self.of_base(kind), model, tell)
                budget.spend(time.perf_counter() - began)

    def _begin(self, kind: Sequence[Probe], base: Any, tell: Callable[[str], None]) -> None:
        measured = [self._measure(probe, base, tell) for probe in kind]
        self.base = _find_prose(measured)
        self._keep(0, measured)

    def forgot(self, measured: Sequence[ProbeMeasurement]) -> bool:
        """Whether the loss on prose rose significantly (95%, over passages) by more than `max_forgetting`."""
        prose = _find_prose(measured)
        if prose is None or self.base is None or self.config.max_forgetting is None:
            return False
        lost = ratio_interval(prose.loss_sum - self.base.loss_sum, prose.tokens)
        return lost.low is not None and lost.low > self.config.max_forgetting

    def prose_at(self, step: int) -> tuple[ProbeMeasurement, ProbeMeasurement] | None:
        """Return the prose probe of the base model and of `step`, if both were measured."""
        there = _find_prose([ProbeMeasurement.of(table) for table in self.tables.get(step, ())])
        return (self.base, there) if self.base and there else None

    def _keep(self, step: int, measured: Sequence[ProbeMeasurement]) -> None:
        for probe in measured:
            self.tables.setdefault(step, []).append(probe.table(step=step))
        if measured:
            self.write()  # written before the metrics, so that whoever sees those can read the items
        for probe in measured:
            self.job.metrics(step, probe.metrics)

    def _measure(self, probe: Probe, model: Any, tell: Callable[[str], None]) -> ProbeMeasurement:
        def on_items(done: int) -> None:
            tell(f"Measuring {probe.name.replace('_', ' ')} ({done} of {len(probe)})")

        batch_size, device = self._how
        return probe.measure(model, batch_size=batch_size, device=device, on_items=on_items)

    def rewind(self, last: int, seconds: Sequence[float]) -> None:
        """Read an earlier attempt's measurements up to step `last`, when each kind had taken `seconds`."""
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
        self.base = _find_prose([ProbeMeasurement.of(table) for table in self.tables.get(0, ())])
        if self.answers:
            self.answers.rewind(last)

    def write(self) -> None:
        """Write all measurements, by atomic rename."""
        if self.tables:
            with write_atomically(self.job.dir.live_probes, flush=False) as aside:
                pq.write_table(
                    pa.concat_tables([t for step in sorted(self.tables) for t in self.tables[step]]), aside
                )

    def course(self, probe: str) -> dict[int, pa.Table]:
        """Return the rows of one probe at every step at which it was measured."""
        return {
            step: table
            for step, tables in self.tables.items()
            for table in tables
            if table["probe"][0].as_py() == probe
        }

    def seen(
        self, base: ProbeMeasurement | None, tuned: ProbeMeasurement | None, step: int
    ) -> list[Validation]:
        """Return the training-row probe at every measured step, in the form that the verdicts take.

        The base model counts as step 0, the restored model as `step`.
        """
        measured = {
            at: ProbeMeasurement.of(table)
            for at, tables in self.tables.items()
            for table in tables
            if table["probe"][0].as_py() == TRAINED_ROWS
        }
        measured |= {at: probe for at, probe in ((0, base), (step, tuned)) if probe}
        return [
            Validation(step=at, row_ids=list(m.items), loss_sums=m.loss_sum, tokens=m.tokens)
            for at, m in sorted(measured.items())
        ]


def _is_general(kind: Sequence[Probe]) -> bool:
    return any(probe.name == PROSE for probe in kind)


def _find_prose(measured: Sequence[ProbeMeasurement]) -> ProbeMeasurement | None:
    return next((probe for probe in measured if probe.probe == PROSE), None)
