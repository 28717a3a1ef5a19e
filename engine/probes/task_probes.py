"""Tasks of lm-evaluation-harness as probes of a run: once training is over they are asked of the tuned model
and of the one that it is held against, and paired item by item.

The tuned model is asked first: then the items are known, by which a base model's answers are remembered. A
task that can't be asked, or that asks the second model something else, is left out with its reason, and ends
nothing: the run's result is never lost to it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from engine.diagnostics.forgetting.forgetting_words import not_asked
from engine.probes import harness
from engine.probes.base_answers import CachedProbe
from engine.probes.probes import ProbeMeasurement, spread
from engine.probes.task_items import TaskItems
from engine.worker.job import WorkerJob
from store.config.training.train_config import TrainConfig
from store.documents.tables.run import ProbeTaskFact


class NotAskedError(Exception):
    """Why a task has no items, in a sentence."""


@dataclass(frozen=True)
class TaskProbe:
    """The items of one task, as a model was asked them before. A group of tasks is one probe, of which each
    task is a category."""

    task: str
    job: WorkerJob
    tokenizer: Any
    limit: int
    items: pa.Table
    identity: str

    @property
    def name(self) -> str:
        return f"{harness.PREFIX}{self.task}"

    def __len__(self) -> int:
        return self.items.num_rows

    @property
    def tokens(self) -> int:
        return sum(len(text) // 4 for text in self.items["text"].to_pylist())

    def listing(self) -> pa.Table:
        return self.items

    def part(self, most: int) -> TaskProbe:
        return replace(self, items=self.items.take(spread(len(self), most)))

    def measure(
        self,
        model: Any,
        *,
        batch_size: int,
        device: torch.device,
        on_items: Callable[[int], None] = lambda done: None,
    ) -> ProbeMeasurement:
        """Raises NotAskedError where the task can't be asked now, or asks something else."""
        again, measured = ask(self.task, self.job, model, self.tokenizer, self.limit, batch_size)
        if again.identity != self.identity:
            raise NotAskedError(f"The task {self.task} asked the two models different items.")
        on_items(len(self))
        return measured


def ask(
    task: str, job: WorkerJob, model: Any, tokenizer: Any, limit: int, batch_size: int
) -> tuple[TaskProbe, ProbeMeasurement]:
    """One task, or all of a group. Raises NotAskedError with the reason where it can't be a probe."""
    asked = harness.AskedModel(model, tokenizer, job.device, batch_size, limit)
    outcome = harness.run(asked, [task], job.home, check=job.check_cancelled)
    if failed := next((part.failed for part in outcome.scored if part.failed and not outcome.items), ""):
        raise NotAskedError(failed)
    if outcome.silent or not outcome.items:
        silent = ", ".join(outcome.silent) or task
        raise NotAskedError(f"No figure of the task {silent} says of an item whether it is right.")
    measured, listing = _together(task, outcome.items)
    identity = " ".join(part.identity for part in outcome.items)
    return TaskProbe(task, job, tokenizer, limit, listing, identity), measured


def _together(task: str, parts: Sequence[TaskItems]) -> tuple[ProbeMeasurement, pa.Table]:
    """The items of a single task, or those of a group under its name."""
    names = [part.measured.probe for part in parts]
    rows, listed = [part.measured.table() for part in parts], [part.listing for part in parts]
    if len(parts) > 1:
        rows, listed = (list(map(_within, names, tables)) for tables in (rows, listed))
    whole = [pa.concat_tables(tables) for tables in (rows, listed)]
    name = f"{harness.PREFIX}{task}"
    table, listing = (_called(each, "probe", [name] * each.num_rows) for each in whole)
    return ProbeMeasurement.of(table), listing


def _within(probe: str, rows: pa.Table) -> pa.Table:
    """Rows of one task of a group, told apart from those of the others."""
    task = probe.removeprefix(harness.PREFIX)
    rows = _called(rows, "item", [f"{task}/{item}" for item in rows["item"].to_pylist()])
    return _called(rows, "category", [task] * rows.num_rows)


def _called(rows: pa.Table, column: str, values: list[str]) -> pa.Table:
    place = rows.column_names.index(column)
    return rows.set_column(place, rows.schema.field(column), pa.array(values, pa.string()))


@dataclass
class TaskProbes:
    """Those of one run, over both models. folder: of the base model's weights, whose answers are remembered;
    None for another model. asked: what the first model was asked; failed: why a task was not."""

    job: WorkerJob
    config: TrainConfig
    tokenizer: Any
    folder: Path | None = None
    asked: dict[str, TaskProbe] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def of_base(self, folder: Path) -> TaskProbes:
        """The same, asked of the base model."""
        return replace(self, folder=folder)

    def ask(self, model: Any, which: str) -> list[ProbeMeasurement]:
        """Every task, in order, that could be asked so far. Raises Cancelled when asked to stop."""
        names = [name for name in self.config.probe_tasks if name not in self.failed]
        measurements = []
        for done, name in enumerate(names):
            self.job.progress(done, len(names), "tasks", f"Asking {which} the task {name}")
            try:
                measurements.append(self._measure_task(name, model))
            except NotAskedError as error:
                self.failed[name] = str(error)
        return measurements

    def _measure_task(self, name: str, model: Any) -> ProbeMeasurement:
        size, device = self.config.per_device_eval_batch_size, torch.device(self.job.device)
        probe = self.asked.get(name)
        if probe is None:
            limit = self.config.probe_task_rows
            self.asked[name], measured = ask(name, self.job, model, self.tokenizer, limit, size)
            return measured
        if self.folder is None:
            return probe.measure(model, batch_size=size, device=device)
        before = CachedProbe(probe, self.job.home, self.tokenizer, self.folder, also=probe.identity)
        return before.measure(model, batch_size=size, device=device)

    @property
    def probes(self) -> list[TaskProbe]:
        """Those that both models were asked, once they were."""
        return [probe for name, probe in self.asked.items() if name not in self.failed]

    def tell(self) -> None:
        """A fact of all of them, and one alert that counts those that could not be asked."""
        facts: list[ProbeTaskFact] = [
            {
                "name": name,
                "rows": len(self.asked[name]) if name not in self.failed else 0,
                "reason": self.failed.get(name, ""),
            }
            for name in self.config.probe_tasks
        ]
        self.job.facts(probe_tasks=facts)
        for sentence in not_asked(self.failed, len(facts)):
            self.job.alert(sentence)
