"""What is measured between steps: losses of every validation row, the task's metric, and probes.

Validations are kept row by row, so that a rise can be tested. Each kind of probe waits until its share of
the training time pays for it. Nothing here draws a random number: with probes or without, training is the
same.
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
        with write_atomically(self.path, flush=False) as aside:
            pq.write_table(pa.table(columns), aside)

    def for_verdict(self) -> list[Validation]:
        """Them as the verdicts take them."""
        return [
            Validation(step=step, row_ids=r.row_ids, loss_sums=r.loss_sum, tokens=r.tokens)
            for step, r in self.done
        ]


class TaskMetric:
    """`kind` is one of `engine.evaluation.training_curve.run_curve`."""

    def __init__(self, kind: MetricKind = "tokens", answers: LiveAnswers | None = None) -> None:
        self.kind, self.answers = kind, answers

    def metrics(self, losses: RowLosses) -> dict[str, float]:
        """What a validation says of it and of nothing else, for the store."""
        if self.kind != "label":
            return {}
        return {"eval/label_accuracy": float((losses.correct == losses.tokens).mean())}

    def course(self, validations: ValidationHistory) -> MetricCurve:
        """What it is called, and its values by step: those of answers where they were given at the last
        validation and before, as somebody reads answers."""
        last = validations.done[-1][0] if validations.done else 0
        answered = self.answers.values_by_step() if self.answers else []
        if self.answers and len(answered) > 1 and answered[-1].step == last:
            return MetricCurve(f"{self.answers.words} of answers", answered)
        values = [
            run_curve.build_metric_values(self.kind, step, rows.row_ids, rows.correct, rows.tokens)
            for step, rows in validations.done
            if step or self.kind != "pairs"  # before training every pair is a tie
        ]
        return MetricCurve(run_curve.METRIC_WORDS[self.kind], values)


# Probes between steps: what training rows lose beside validation rows, what the model still knows, and how
# it answers.
#
# Each kind has its own share of the time that training took so far and waits until that pays for it, so
# that probes never take more than the run's `probe_share`, however short the run or slow the machine. What
# they cost is written down. General probes are measured on the base model too, as step 0, the first time
# that they can be paid for, as they say something against it alone. Nothing here draws a random number:
# with probes or without, training is the same.


class TrainedRowsProbe:
    """Rows that are trained on, as a probe: `most` of them, spread over the data set, under the objective."""

    name = TRAINED_ROWS

    def __init__(self, rows: TokenRows, objective: Objective, most: int) -> None:
        own = np.flatnonzero(rows.row_ids >= 0)  # planted ones are none of the data set
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
        """Their losses without dropout, as those of validation rows."""
        losses = self.objective.measure(
            model, self.rows, batch_size=batch_size, device=device, on_batch=on_items
        )
        return self.as_measured(losses)

    def as_measured(self, losses: RowLosses) -> ProbeMeasurement:
        """Losses of its rows as those of a probe."""
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
        """None: the rows are the data set's own."""
        return ITEM_SCHEMA.empty_table()

    def part(self, most: int) -> TrainedRowsProbe:
        return TrainedRowsProbe(self.rows, self.objective, most)


class TimeBudget:
    """Seconds that may go into something: a share of the seconds of training."""

    def __init__(self, share: float, spent: float = 0.0) -> None:
        self.share, self.spent = share, spent
        self.last: float | None = None  # what it took the last time

    def allows(self, trained: float, expected: float, times: int = 1) -> bool:
        """Whether it can be paid for once more, or so many `times`; `expected` seconds where it was not done
        yet."""
        cost = times * (expected if self.last is None else self.last)
        return self.share > 0 and self.spent + cost <= self.share * trained

    def spend(self, seconds: float, times: int = 1) -> None:
        """It took so long, for so many `times`."""
        self.spent, self.last = self.spent + seconds, seconds / times


class TrainingProbes:
    """The probes of one run: `kinds`, each a list of probes that are measured together, and answers. of_base:
    a kind as the base model is asked it, which may be known already."""

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
        """What each kind took."""
        return [budget.spent for budget in self.budgets]

    def measure(
        self, step: int, model: Any, trained: float, pace: float, tell: Callable[[str], None]
    ) -> list[ProbeMeasurement]:
        """At `step`, after `trained` seconds of training, whatever can be paid for. `pace`: seconds a token
        of a validation; `tell`: what is going on."""
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
        """Measure the base model where it is known or can be paid for (else it is at the end); how often it
        was asked for that, 0 or 1."""
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
        """Measure the base model, where a run is to stop for what it forgets: that is against it. It counts
        into what probes may take, so that later ones wait for it."""
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
        """Whether prose has surely (95%, over passages) lost more than the run may forget."""
        prose = _find_prose(measured)
        if prose is None or self.base is None or self.config.max_forgetting is None:
            return False
        lost = ratio_interval(prose.loss_sum - self.base.loss_sum, prose.tokens)
        return lost.low is not None and lost.low > self.config.max_forgetting

    def prose_at(self, step: int) -> tuple[ProbeMeasurement, ProbeMeasurement] | None:
        """Prose under the base model and as it was measured at `step`, where both were."""
        there = _find_prose([ProbeMeasurement.of(table) for table in self.tables.get(step, ())])
        return (self.base, there) if self.base and there else None

    def _keep(self, step: int, measured: Sequence[ProbeMeasurement]) -> None:
        for probe in measured:
            self.tables.setdefault(step, []).append(probe.table(step=step))
        if measured:
            self.write()  # before the numbers: who sees them can read the items
        for probe in measured:
            self.job.metrics(step, probe.metrics)

    def _measure(self, probe: Probe, model: Any, tell: Callable[[str], None]) -> ProbeMeasurement:
        def on_items(done: int) -> None:
            tell(f"Measuring {probe.name.replace('_', ' ')} ({done} of {len(probe)})")

        batch_size, device = self._how
        return probe.measure(model, batch_size=batch_size, device=device, on_items=on_items)

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
        self.base = _find_prose([ProbeMeasurement.of(table) for table in self.tables.get(0, ())])
        if self.answers:
            self.answers.rewind(last)

    def write(self) -> None:
        """Write all that was measured, by atomic rename."""
        if self.tables:
            with write_atomically(self.job.dir.live_probes, flush=False) as aside:
                pq.write_table(
                    pa.concat_tables([t for step in sorted(self.tables) for t in self.tables[step]]), aside
                )

    def course(self, probe: str) -> dict[int, pa.Table]:
        """Rows of one probe at every step that it was measured at."""
        return {
            step: table
            for step, tables in self.tables.items()
            for table in tables
            if table["probe"][0].as_py() == probe
        }

    def seen(
        self, base: ProbeMeasurement | None, tuned: ProbeMeasurement | None, step: int
    ) -> list[Validation]:
        """The probe of training rows at every step that it was measured, as the verdicts take it:
        under the base model as of step 0, and under the model that was kept as of the `step` it is from."""
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
