"""Probes that a run's config names: data sets of the user's, and tasks of lm-evaluation-harness.

Every run draws the same rows of a data set, without what the run trains on. Tasks are asked once training is
over, of the tuned model first. What can't be asked is left out with its reason, and ends nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from engine.data import training_rows
from engine.data.split import leakage
from engine.evaluation.probes import harness
from engine.evaluation.probes.harness import TaskItems
from engine.evaluation.probes.probe_sets import (
    ITEM_SCHEMA,
    CachedProbe,
    Probe,
    ProbeMeasurement,
    TextProbe,
    select_evenly,
)
from engine.evaluation.verdicts.forgetting_text import describe_skipped_tasks
from engine.models import classification
from engine.models.forward import answer_likelihood
from engine.models.forward.answer_likelihood import MAX_LABELS, count_label_tokens
from engine.models.tokenization.rendering import render
from engine.worker.job import WorkerJob
from store.core.formatting import plural
from store.data import dataset_files
from store.jobs.schemas import NamedDataset
from store.runs.schemas import ProbeDatasetFact, ProbeTaskFact
from store.training.train_config import TrainConfig

# Data sets of the user's as probes: what a model makes of rows that have nothing to do with its training.
#
# A row whose answer is its label is a choice among all labels of its data set, scored as one; of any other
# row the loss on its answer counts, of a plain text that on all of it. Every run draws the same rows of a
# data set, so that runs are compared on them. What the run trains on, or asks the same, is left out: that
# would measure learning. A data set of which nothing can be measured is told of and left out; it never ends
# a run.

PREFIX = "data/"
SEED = [0, 13]  # never the run's: every run is asked the same
FEW_LABELS = 30  # up to so many are categories of their own
LIGHT_TOKENS = 2_500  # that pass through the model while a run trains, about
MAX_ROW_TOKENS = 1_024  # tokens of a row; in every run the same, whatever its max_length


@dataclass(frozen=True)
class LabelChoices:
    """Rows whose answers are labels: which of all labels the model finds likeliest."""

    name: str
    asked: answer_likelihood.LabelQuestions
    texts: Sequence[str]
    labels: Sequence[str]
    right: np.ndarray

    def __len__(self) -> int:
        return len(self.right)

    @property
    def tokens(self) -> int:
        return sum(map(len, self.asked.prompts)) + len(self) * sum(map(len, self.asked.labels))

    @property
    def items(self) -> list[str]:
        return [str(row_id) for row_id in self.asked.row_ids.tolist()]

    @property
    def categories(self) -> list[str]:
        """The label of each row, where that makes groups of rows."""
        few = len(self.labels) <= FEW_LABELS
        return [self.labels[place] if few else "" for place in self.right.tolist()]

    def measure(
        self,
        model: Any,
        *,
        batch_size: int,
        device: torch.device,
        on_items: Callable[[int], None] = lambda done: None,
    ) -> ProbeMeasurement:
        logs = answer_likelihood.score_labels(
            model, self.asked, device, batch_size=batch_size, on_rows=on_items
        )
        chosen = logs.argmax(axis=1).astype(np.int32)
        count = len(self)
        return ProbeMeasurement(
            self.name,
            self.items,
            self.categories,
            -logs[np.arange(count), self.right],
            np.ones(count, np.int64),
            (chosen == self.right).astype(np.int64),
            np.full(count, len(self.labels), np.int32),
            chosen,
        )

    def listing(self) -> pa.Table:
        count = len(self)
        options = [list(self.labels)] * count
        columns = [[self.name] * count, self.items, self.categories, list(self.texts), options]
        return pa.table([*columns, self.right.astype(np.int32)], schema=ITEM_SCHEMA)

    def part(self, most: int) -> LabelChoices:
        some = select_evenly(len(self), most)
        asked = answer_likelihood.LabelQuestions(
            self.asked.row_ids[some], [self.asked.prompts[i] for i in some], self.asked.labels
        )
        return LabelChoices(self.name, asked, [self.texts[i] for i in some], self.labels, self.right[some])


@dataclass
class DatasetProbe:
    """A data set as a probe, None where nothing can be measured, and what became of its rows: `of` all,
    `drawn`, `trained` (left out, as the run trains on them), `reasons` (why a row has nothing to measure)."""

    source: NamedDataset
    of: int
    drawn: int = 0
    trained: int = 0
    cut: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    probe: Probe | None = None

    def fact(self) -> ProbeDatasetFact:
        return {
            "name": self.source["name"],
            "kind": "labels" if isinstance(self.probe, LabelChoices) else "texts",
            "rows": len(self.probe) if self.probe else 0,
            "of": self.of,
            "trained": self.trained,
            "cut": self.cut,
            "reasons": self.reasons,
        }


def load_dataset_probes(
    job: WorkerJob,
    config: TrainConfig,
    tokenizer: Any,
    positions: int | None,
    sources: Sequence[NamedDataset],
    trained: tuple[str, np.ndarray] | None = None,
) -> list[DatasetProbe]:
    """Each of the data sets `sources` ({name, kind, fingerprint}) as a probe. trained: fingerprint and ids of
    the rows that the run trains on."""
    return [_load_dataset_probe(job, config, tokenizer, positions, source, trained) for source in sources]


def _load_dataset_probe(
    job: WorkerJob,
    config: TrainConfig,
    tokenizer: Any,
    positions: int | None,
    source: NamedDataset,
    trained: tuple[str, np.ndarray] | None,
) -> DatasetProbe:
    home, fingerprint = job.home, source["fingerprint"]
    if not home.rows(fingerprint).exists():
        return DatasetProbe(source, 0, reasons={"its rows are gone from the home folder": 1})
    total = dataset_files.open_rows(home, fingerprint).metadata.num_rows
    # as many rows again are drawn, should some of them be trained on
    ids = np.random.default_rng(SEED).permutation(total)[: 2 * config.probe_rows]
    same = np.zeros(len(ids), bool)
    if trained is not None and len(ids):
        same = leakage.find_shared_rows(home, *trained, fingerprint, ids)
    probed = DatasetProbe(source, total, trained=int(same.sum()))
    ids = np.sort(ids[~same][: config.probe_rows])
    probed.drawn = len(ids)
    if not len(ids):
        if total:
            probed.reasons = {"the run trains on the same rows": int(same.sum())}
        return probed
    name = f"{PREFIX}{source['name']}"
    if not _add_label_probe(job, tokenizer, positions, probed, name, ids):
        _add_text_probe(job, tokenizer, positions, probed, name, ids)
    return probed


def _add_label_probe(
    job: WorkerJob, tokenizer: Any, positions: int | None, probed: DatasetProbe, name: str, ids: np.ndarray
) -> bool:
    """Whether the answers of the rows are their labels; then the probe is a choice among them."""
    home, fingerprint = job.home, probed.source["fingerprint"]
    if probed.source["kind"] != "chat":
        return False
    table = dataset_files.load_rows(home, fingerprint, columns=["label", "messages"], row_ids=ids)
    own, rows = table["label"].to_pylist(), table["messages"].to_pylist()
    labelled_places = [place for place, label in enumerate(own) if label]
    if not labelled_places or any(rows[place][-1]["content"] != own[place] for place in labelled_places):
        return False
    every = dataset_files.load_rows(home, fingerprint, columns=["label"])["label"].unique().to_pylist()
    labels = sorted(label for label in every if label)
    if not 2 <= len(labels) <= MAX_LABELS:
        return False
    size = count_label_tokens(tokenizer, labels)
    some = answer_likelihood.select_affordable_rows(
        ids[labelled_places], size, torch.device(job.device).type, 0
    )
    at = {row_id: place for place, row_id in enumerate(ids.tolist())}
    places = [at[row_id] for row_id in some.tolist()]
    asked = answer_likelihood.build_label_questions(
        tokenizer, some, [rows[place] for place in places], labels, positions
    )
    if asked is None:
        return False
    probed.drawn = len(some)
    unasked = len(some) - len(asked.row_ids)
    gone = {"the row has no label": len(ids) - len(labelled_places), "the row has no prompt": unasked}
    probed.reasons = {why: rows for why, rows in gone.items() if rows}
    kept = [at[row_id] for row_id in asked.row_ids.tolist()]
    index = {label: place for place, label in enumerate(labels)}
    right = np.array([index[own[place]] for place in kept], np.int64)
    texts = [classification.join_prompt_turns(rows[place]) for place in kept]
    probed.probe = LabelChoices(name, asked, texts, labels, right)
    return True


def _add_text_probe(
    job: WorkerJob, tokenizer: Any, positions: int | None, probed: DatasetProbe, name: str, ids: np.ndarray
) -> None:
    """The loss on the answers, or on whole texts."""
    home, source = job.home, probed.source
    fingerprint, kind = source["fingerprint"], "text" if source["kind"] == "text" else "chat"
    rows = render(tokenizer, ids, training_rows.make_loader(home, fingerprint, kind)(ids))
    part = training_rows.truncate_rows(rows, min(positions or MAX_ROW_TOKENS, MAX_ROW_TOKENS))
    probed.cut, probed.reasons = part.truncated, part.whole.reason_counts
    if not len(part.rows):
        return
    kept = part.rows.row_ids
    texts = dataset_files.load_rows(home, fingerprint, columns=["text"], row_ids=kept)["text"].to_pylist()
    names = [str(row_id) for row_id in kept.tolist()]
    probed.probe = TextProbe(name, names, [""] * len(names), texts, part.rows)


def subsample_probe(probe: Probe) -> Probe:
    """As much of it as is measured while a run trains."""
    each = max(1.0, probe.tokens / max(1, len(probe)))
    return probe.part(max(2, round(LIGHT_TOKENS / each)))


def report_dataset_probes(job: WorkerJob, probed: Sequence[DatasetProbe]) -> None:
    """A fact of all of them, and an alert for each of which rows are missing."""
    job.facts(probe_datasets=[data_set.fact() for data_set in probed])
    for data_set in probed:
        name, why = data_set.source["name"], ", ".join(data_set.reasons) or "it has no row"
        if data_set.probe is None:
            job.alert(f"Nothing can be measured of the data set {name}: {why}. It is no probe of this run.")
            continue
        if data_set.trained:
            rows = plural(data_set.trained, "row")
            job.alert(
                f"{rows} of {name} are not asked: this run trains on the same, or asks the same.", "info"
            )
        if data_set.reasons:
            missing = ", ".join(f"{rows:,} ({reason})" for reason, rows in data_set.reasons.items())
            job.alert(f"Rows of {name} with nothing to measure: {missing}.", "info")
        if len(data_set.probe) == 1:
            job.alert(f"One row of {name} is measured: it gives no interval. Take a larger data set.")


def count_tokens(probed: Sequence[DatasetProbe]) -> np.ndarray:
    """Tokens of one measurement of them all, and those of which the model says how likely they are."""
    whole = np.zeros(2)
    for data_set in probed:
        if isinstance(data_set.probe, LabelChoices):
            whole += data_set.probe.tokens, len(data_set.probe) * sum(map(len, data_set.probe.asked.labels))
        elif isinstance(data_set.probe, TextProbe):
            whole += data_set.probe.tokens, int(data_set.probe.rows.trained.sum())
    return whole


# Tasks of lm-evaluation-harness as probes of a run: once training is over they are asked of the tuned model
# and of the one that it is held against, and paired item by item.
#
# The tuned model is asked first: then the items are known, by which a base model's answers are remembered.
# A task that can't be asked, or that asks the second model something else, is left out with its reason, and
# ends nothing: the run's result is never lost to it.


class TaskSkippedError(Exception):
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
        return int(self.items.num_rows)

    @property
    def tokens(self) -> int:
        return sum(len(text) // 4 for text in self.items["text"].to_pylist())

    def listing(self) -> pa.Table:
        return self.items

    def part(self, most: int) -> TaskProbe:
        return replace(self, items=self.items.take(select_evenly(len(self), most)))

    def measure(
        self,
        model: Any,
        *,
        batch_size: int,
        device: torch.device,
        on_items: Callable[[int], None] = lambda done: None,
    ) -> ProbeMeasurement:
        """Raises NotAskedError where the task can't be asked now, or asks something else."""
        again, measured = measure_task(self.task, self.job, model, self.tokenizer, self.limit, batch_size)
        if again.identity != self.identity:
            raise TaskSkippedError(f"The task {self.task} asked the two models different items.")
        on_items(len(self))
        return measured


def measure_task(
    task: str, job: WorkerJob, model: Any, tokenizer: Any, limit: int, batch_size: int
) -> tuple[TaskProbe, ProbeMeasurement]:
    """One task, or all of a group. Raises NotAskedError with the reason where it can't be a probe."""
    asked = harness.HarnessModel(model, tokenizer, job.device, batch_size, limit)
    outcome = harness.run_tasks(asked, [task], job.home, check=job.check_cancelled)
    if failed := next((part.failed for part in outcome.scored if part.failed and not outcome.items), ""):
        raise TaskSkippedError(failed)
    if outcome.silent or not outcome.items:
        silent = ", ".join(outcome.silent) or task
        raise TaskSkippedError(f"No figure of the task {silent} says of an item whether it is right.")
    measured, listing = _merge_group(task, outcome.items)
    identity = " ".join(part.identity for part in outcome.items)
    return TaskProbe(task, job, tokenizer, limit, listing, identity), measured


def _merge_group(task: str, parts: Sequence[TaskItems]) -> tuple[ProbeMeasurement, pa.Table]:
    """The items of a single task, or those of a group under its name."""
    names = [part.measured.probe for part in parts]
    rows, listed = [part.measured.table() for part in parts], [part.listing for part in parts]
    if len(parts) > 1:
        rows, listed = (list(map(_prefix_task, names, tables)) for tables in (rows, listed))
    whole = [pa.concat_tables(tables) for tables in (rows, listed)]
    name = f"{harness.PREFIX}{task}"
    table, listing = (_replace_column(each, "probe", [name] * each.num_rows) for each in whole)
    return ProbeMeasurement.of(table), listing


def _prefix_task(probe: str, rows: pa.Table) -> pa.Table:
    """Rows of one task of a group, told apart from those of the others."""
    task = probe.removeprefix(harness.PREFIX)
    rows = _replace_column(rows, "item", [f"{task}/{item}" for item in rows["item"].to_pylist()])
    return _replace_column(rows, "category", [task] * rows.num_rows)


def _replace_column(rows: pa.Table, column: str, values: list[str]) -> pa.Table:
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
            except TaskSkippedError as error:
                self.failed[name] = str(error)
        return measurements

    def _measure_task(self, name: str, model: Any) -> ProbeMeasurement:
        size, device = self.config.per_device_eval_batch_size, torch.device(self.job.device)
        probe = self.asked.get(name)
        if probe is None:
            limit = self.config.probe_task_rows
            self.asked[name], measured = measure_task(name, self.job, model, self.tokenizer, limit, size)
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
        for sentence in describe_skipped_tasks(self.failed, len(facts)):
            self.job.alert(sentence)
