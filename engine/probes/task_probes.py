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
from engine.probes.base_answers import Remembered
from engine.probes.probes import Measured, spread
from engine.probes.task_items import Items
from engine.worker.job import Job
from store.config.train_config import TrainConfig


class NotAskedError(Exception):
    """Why a task has no items, in a sentence."""


@dataclass(frozen=True)
class TaskProbe:
    """The items of one task, as a model was asked them before. A group of tasks is one probe, of which each
    task is a category."""

    task: str
    job: Job
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
    ) -> Measured:
        """Raises NotAskedError where the task can't be asked now, or asks something else."""
        again, measured = ask(self.task, self.job, model, self.tokenizer, self.limit, batch_size)
        if again.identity != self.identity:
            raise NotAskedError(f"The task {self.task} asked the two models different items.")
        on_items(len(self))
        return measured


def ask(
    task: str, job: Job, model: Any, tokenizer: Any, limit: int, batch_size: int
) -> tuple[TaskProbe, Measured]:
    """One task, or all of a group. Raises NotAskedError with the reason where it can't be a probe."""
    found = harness.run(
        model, tokenizer, [task], job.home,
        device=job.device, batch_size=batch_size, limit=limit, check=job.check_cancelled,
    )  # fmt: skip
    if failed := next((one.failed for one in found.scored if one.failed and not found.items), ""):
        raise NotAskedError(failed)
    if found.silent or not found.items:
        silent = ", ".join(found.silent) or task
        raise NotAskedError(f"No figure of the task {silent} says of an item whether it is right.")
    measured, listing = _together(task, found.items)
    identity = " ".join(one.identity for one in found.items)
    return TaskProbe(task, job, tokenizer, limit, listing, identity), measured


def _together(task: str, parts: Sequence[Items]) -> tuple[Measured, pa.Table]:
    """The items of a single task, or those of a group under its name."""
    names = [one.measured.probe for one in parts]
    rows, listed = [one.measured.table() for one in parts], [one.listing for one in parts]
    if len(parts) > 1:
        rows, listed = (list(map(_within, names, tables)) for tables in (rows, listed))
    whole = [pa.concat_tables(tables) for tables in (rows, listed)]
    name = f"{harness.PREFIX}{task}"
    table, listing = (_called(each, "probe", [name] * each.num_rows) for each in whole)
    return Measured.of(table), listing


def _within(probe: str, rows: pa.Table) -> pa.Table:
    """Rows of one task of a group, told apart from those of the others."""
    task = probe.removeprefix(harness.PREFIX)
    rows = _called(rows, "item", [f"{task}/{item}" for item in rows["item"].to_pylist()])
    return _called(rows, "category", [task] * rows.num_rows)


def _called(rows: pa.Table, column: str, values: list[str]) -> pa.Table:
    place = rows.column_names.index(column)
    return rows.set_column(place, rows.schema.field(column), pa.array(values, pa.string()))


@dataclass
class Tasks:
    """Those of one run, over both models. folder: of the base model's weights, whose answers are remembered;
    None for another model. asked: what the first model was asked; failed: why a task was not."""

    job: Job
    config: TrainConfig
    tokenizer: Any
    folder: Path | None = None
    asked: dict[str, TaskProbe] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def of_base(self, folder: Path) -> Tasks:
        """The same, asked of the base model."""
        return replace(self, folder=folder)

    def ask(self, model: Any, which: str) -> list[Measured]:
        """Every task, in order, that could be asked so far. Raises Cancelled when asked to stop."""
        names = [name for name in self.config.probe_tasks if name not in self.failed]
        found = []
        for done, name in enumerate(names):
            self.job.progress(done, len(names), "tasks", f"Asking {which} the task {name}")
            try:
                found.append(self._one(name, model))
            except NotAskedError as error:
                self.failed[name] = str(error)
        return found

    def _one(self, name: str, model: Any) -> Measured:
        size, device = self.config.per_device_eval_batch_size, torch.device(self.job.device)
        known = self.asked.get(name)
        if known is None:
            limit = self.config.probe_task_rows
            self.asked[name], measured = ask(name, self.job, model, self.tokenizer, limit, size)
            return measured
        if self.folder is None:
            return known.measure(model, batch_size=size, device=device)
        before = Remembered(known, self.job.home, self.tokenizer, self.folder, also=known.identity)
        return before.measure(model, batch_size=size, device=device)

    @property
    def probes(self) -> list[TaskProbe]:
        """Those that both models were asked, once they were."""
        return [probe for name, probe in self.asked.items() if name not in self.failed]

    def tell(self) -> None:
        """A fact of all of them, and one alert that counts those that could not be asked."""
        facts = [
            {"name": name, "rows": len(self.asked[name]) if name not in self.failed else 0}
            | {"reason": self.failed.get(name, "")}
            for name in self.config.probe_tasks
        ]
        self.job.facts(probe_tasks=facts)
        for sentence in not_asked(self.failed, len(facts)):
            self.job.alert(sentence)
