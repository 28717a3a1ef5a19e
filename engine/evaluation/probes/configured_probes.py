"""Probes named by a run's config: the user's data sets, and tasks of lm-evaluation-harness.

Every run draws the same rows of a data set, except those the run trains on. Tasks are run after training, on
the tuned model first. What can't be measured is skipped with a reason and never ends the run.
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

# The user's data sets as probes: rows that are unrelated to the model's training.
#
# A row whose answer is its label is scored as a choice among all labels of its data set; any other row by the
# loss on its answer, a plain text by the loss on all of it. Every run draws the same rows of a data set, so
# that runs can be compared on them. Rows that the run trains on, or that have the same prompt, are left out:
# they would measure learning. A data set without measurable rows is reported and skipped; it never ends a
# run.

PREFIX = "data/"
SEED = [0, 13]  # not the run's seed: every run uses the same rows
FEW_LABELS = 30  # maximum number of labels used as categories
LIGHT_TOKENS = 2_500  # approximate tokens processed per measurement during training
MAX_ROW_TOKENS = 1_024  # tokens per row; the same in every run, whatever its max_length


@dataclass(frozen=True)
class LabelChoices:
    """Probe of rows whose answers are labels: which of all labels the model finds most likely."""

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
        """Label of each row, if the labels are few enough to form groups of rows."""
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
    """A data set as a probe (None if nothing can be measured), and the counts of its rows: `of` all, `drawn`,
    `trained` (skipped, as the run trains on them), `reasons` (why rows have nothing to measure).
    """

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
    """Load each of the data sets `sources` ({name, kind, fingerprint}) as a probe. trained: fingerprint and
    IDs of the rows that the run trains on.
    """
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
        return DatasetProbe(source, 0, reasons={"its rows no longer exist in the home folder": 1})
    total = dataset_files.open_rows(home, fingerprint).metadata.num_rows
    # twice the rows are drawn, in case some of them are trained on
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
    """Return whether the rows' answers are their labels; if so, set a probe that chooses among the labels."""
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
    """Set a probe of the loss on the answers, or on whole texts."""
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
    """Return the part of the probe that is measured during training."""
    each = max(1.0, probe.tokens / max(1, len(probe)))
    return probe.part(max(2, round(LIGHT_TOKENS / each)))


def report_dataset_probes(job: WorkerJob, probed: Sequence[DatasetProbe]) -> None:
    """Report a fact about all of them, and an alert for each with missing rows."""
    job.facts(probe_datasets=[data_set.fact() for data_set in probed])
    for data_set in probed:
        name, why = data_set.source["name"], ", ".join(data_set.reasons) or "it has no row"
        if data_set.probe is None:
            job.alert(
                f"Nothing can be measured of the data set {name}: {why}. It is not used as a probe of this"
                " run."
            )
            continue
        if data_set.trained:
            rows = plural(data_set.trained, "row")
            job.alert(
                f"{rows} of {name} are excluded: this run trains on the same rows, or on the same prompts.",
                "info",
            )
        if data_set.reasons:
            missing = ", ".join(f"{rows:,} ({reason})" for reason, rows in data_set.reasons.items())
            job.alert(f"Rows of {name} with nothing to measure: {missing}.", "info")
        if len(data_set.probe) == 1:
            job.alert(f"Only one row of {name} is measured, which gives no interval. Use a larger data set.")


def count_tokens(probed: Sequence[DatasetProbe]) -> np.ndarray:
    """Return the tokens of one measurement of all of them, and how many of these are scored."""
    whole = np.zeros(2)
    for data_set in probed:
        if isinstance(data_set.probe, LabelChoices):
            whole += data_set.probe.tokens, len(data_set.probe) * sum(map(len, data_set.probe.asked.labels))
        elif isinstance(data_set.probe, TextProbe):
            whole += data_set.probe.tokens, int(data_set.probe.rows.trained.sum())
    return whole


# Tasks of lm-evaluation-harness as probes of a run: after training they are run on the tuned model and on the
# one it is compared with, and paired item by item.
#
# The tuned model comes first: after that the items are known, which are the cache key of a base model's
# results. A task that can't be run, or whose items differ on the second model, is skipped with its reason:
# the run's result is never lost because of it.


class TaskSkippedError(Exception):
    """The reason why a task has no items, in a sentence."""


@dataclass(frozen=True)
class TaskProbe:
    """Items of one task, as presented to a model before. A group of tasks is one probe, with each task as a
    category.
    """

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
        """Measure the task again. Raises TaskSkippedError if it can't be run now, or if its items differ."""
        again, measured = measure_task(self.task, self.job, model, self.tokenizer, self.limit, batch_size)
        if again.identity != self.identity:
            raise TaskSkippedError(f"The task {self.task} used different items for the two models.")
        on_items(len(self))
        return measured


def measure_task(
    task: str, job: WorkerJob, model: Any, tokenizer: Any, limit: int, batch_size: int
) -> tuple[TaskProbe, ProbeMeasurement]:
    """Measure one task, or all tasks of a group. Raises TaskSkippedError with the reason if it can't be a
    probe.
    """
    asked = harness.HarnessModel(model, tokenizer, job.device, batch_size, limit)
    outcome = harness.run_tasks(asked, [task], job.home, check=job.check_cancelled)
    if failed := next((part.failed for part in outcome.scored if part.failed and not outcome.items), ""):
        raise TaskSkippedError(failed)
    if outcome.silent or not outcome.items:
        silent = ", ".join(outcome.silent) or task
        raise TaskSkippedError(f"No metric of the task {silent} scores single items as right or wrong.")
    measured, listing = _merge_group(task, outcome.items)
    identity = " ".join(part.identity for part in outcome.items)
    return TaskProbe(task, job, tokenizer, limit, listing, identity), measured


def _merge_group(task: str, parts: Sequence[TaskItems]) -> tuple[ProbeMeasurement, pa.Table]:
    """Return the items of a single task, or those of a group under its name."""
    names = [part.measured.probe for part in parts]
    rows, listed = [part.measured.table() for part in parts], [part.listing for part in parts]
    if len(parts) > 1:
        rows, listed = (list(map(_prefix_task, names, tables)) for tables in (rows, listed))
    whole = [pa.concat_tables(tables) for tables in (rows, listed)]
    name = f"{harness.PREFIX}{task}"
    table, listing = (_replace_column(each, "probe", [name] * each.num_rows) for each in whole)
    return ProbeMeasurement.of(table), listing


def _prefix_task(probe: str, rows: pa.Table) -> pa.Table:
    """Prefix the items of one task of a group with its name, to distinguish them from those of the others."""
    task = probe.removeprefix(harness.PREFIX)
    rows = _replace_column(rows, "item", [f"{task}/{item}" for item in rows["item"].to_pylist()])
    return _replace_column(rows, "category", [task] * rows.num_rows)


def _replace_column(rows: pa.Table, column: str, values: list[str]) -> pa.Table:
    place = rows.column_names.index(column)
    return rows.set_column(place, rows.schema.field(column), pa.array(values, pa.string()))


@dataclass
class TaskProbes:
    """Task probes of one run, over both models. folder: the base model's weights, whose results are cached;
    None for another model. asked: tasks as run on the first model; failed: why a task was skipped.
    """

    job: WorkerJob
    config: TrainConfig
    tokenizer: Any
    folder: Path | None = None
    asked: dict[str, TaskProbe] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def of_base(self, folder: Path) -> TaskProbes:
        """Return the same probes for the base model."""
        return replace(self, folder=folder)

    def ask(self, model: Any, which: str) -> list[ProbeMeasurement]:
        """Run every task that has not failed, in order. Raises JobCancelled."""
        names = [name for name in self.config.probe_tasks if name not in self.failed]
        measurements = []
        for done, name in enumerate(names):
            self.job.progress(done, len(names), "tasks", f"Running the task {name} on {which}")
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
        """Tasks that did not fail on either model, once both were measured."""
        return [probe for name, probe in self.asked.items() if name not in self.failed]

    def tell(self) -> None:
        """Report a fact about all of them, and one alert that counts the skipped ones."""
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
