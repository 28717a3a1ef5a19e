"""Measurements of a transfer matrix, and its results.

Measured are the losses of models on rows and the weight changes of runs. Each measurement is a file named
by its content in the job's folder; one that any job of the home folder has made before, even if cancelled
later, is linked instead of measured again. The results pair each run with its base model, and include the
distances between data sets and between runs, and backward transfer of sequences.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from engine.data import training_rows
from engine.data.signals.embeddings import load_row_vectors
from engine.evaluation.weight_change import (
    MatrixSource,
    UnknownWeightChange,
    list_adapter_matrices,
    list_folder_matrices,
)
from engine.models import hardware, loading
from engine.models.losses import compute_row_losses
from engine.models.saved_models import EarlierRun
from engine.models.tokenization.rendering import TokenRows
from engine.models.tokenization.tokenized_rows import (
    TokenisationRequest,
    compute_tokenizer_key,
    tokenise_rows,
)
from engine.transfer import effects as diagnosis
from engine.transfer.effects import (
    WIDTH,
    CellRows,
    Sketch,
    Task,
    compute_backward_transfer,
    compute_embedding_distance,
    compute_sketch,
    compute_weight_cosine,
)
from engine.transfer.models import ExcludedRows, Subject, TransferColumn
from engine.worker.job import WorkerJob
from engine.worker.progress import JobProgressReporter
from store.core.formatting import plural
from store.core.job_folder import write_atomically
from store.data import dataset_files
from store.transfer.config import TransferConfig
from store.transfer.schemas import (
    DatasetDistance,
    TransferCell,
    TransferRun,
    TransferSequence,
    WeightSimilarity,
)


class CellFiles:
    """Measurement files by name, in this job's folder and in those of other jobs."""

    def __init__(self, job: WorkerJob) -> None:
        self.folder = job.dir.cells
        self.folder.mkdir(exist_ok=True)
        self.elsewhere = {path.name: path for path in job.home.jobs.glob("*/cells/*.parquet")}

    def path(self, name: str) -> Path:
        """Return the path of the file, whether it exists or not."""
        return self.folder / name

    def has(self, name: str) -> bool:
        """Return whether the measurement exists; if so, it is linked into this folder."""
        if self.path(name).exists():
            return True
        measured = self.elsewhere.get(name)
        if measured is None:
            return False
        try:
            os.link(measured, self.path(name))
        except FileNotFoundError:  # deleted in the meantime
            return False
        except OSError:
            shutil.copy2(measured, self.path(name))
        return True


def build_cell_name(
    model: str, tokenizer: Any, column: TransferColumn, config: TransferConfig, positions: int | None
) -> str:
    """Return the file name of a model's results on the rows of a column."""
    rows = hashlib.sha256(column.row_ids.tobytes()).hexdigest()
    parts = [
        model,
        compute_tokenizer_key(tokenizer),
        column.fingerprint,
        rows,
        _find_max_length(config, positions),
    ]
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:40] + ".parquet"


def _find_max_length(config: TransferConfig, positions: int | None) -> int | None:
    return min((limit for limit in (config.max_length, positions) if limit), default=None)


def tokenize_column(
    job: WorkerJob, tokenizer: Any, column: TransferColumn, config: TransferConfig, most: int | None
) -> training_rows.TokenisedPart:
    """Return the tokenized rows of a column for a model, without rows that have no trained token."""
    column_dataset = column.data["dataset"]
    rows = tokenise_rows(
        job.home,
        tokenizer,
        TokenisationRequest(
            fingerprint=column.fingerprint,
            row_count=dataset_files.open_rows(job.home, column.fingerprint).metadata.num_rows,
            row_ids=column.row_ids,
            completion_only=True,
            load=training_rows.make_loader(job.home, column.fingerprint, column_dataset["kind"]),
        ),
        on_rows=lambda *_: job.check_cancelled(),
    )
    limit = _find_max_length(config, most) or int(rows.lengths.max(initial=1))
    return training_rows.truncate_rows(rows, limit)


class ProgressReporter(JobProgressReporter):
    """Report once a second the cells done, and the remaining time, estimated from the remaining tokens."""

    def __init__(self, job: WorkerJob, cells: int, tokens: int) -> None:
        super().__init__(job)
        self.cells, self.tokens = cells, tokens
        self.done_cells, self.done_tokens, self.seconds = 0, 0, 0.0

    def within(self, message: str, tokens: float = 0, seconds: float = 0) -> None:
        """Report progress within a cell: tokens done and seconds spent in it. Raises JobCancelled."""
        done, spent = self.done_tokens + tokens, self.seconds + seconds
        left = spent / done * (self.tokens - done) if done else None
        self.report(self.done_cells, self.cells, "cells", message, lambda: left)

    def cell(self, tokens: int, seconds: float) -> None:
        """Record that a cell is done."""
        self.done_cells, self.done_tokens = self.done_cells + 1, self.done_tokens + tokens
        self.seconds += seconds


class PendingCell(NamedTuple):
    """A model to measure on the rows of a column.

    run: whose precision is used. path: the file of the cell. what: the progress message.
    """

    model: Any
    rows: TokenRows
    run: EarlierRun
    path: Path
    what: str


def measure_cell(job: WorkerJob, cell: PendingCell, config: TransferConfig, pace: ProgressReporter) -> None:
    """Compute the losses of the rows under the model and write them to the file of the cell."""
    device, began, rows = torch.device(job.device), time.perf_counter(), cell.rows
    share = len(rows.ids) / max(1, len(rows))

    def on_batch(done: int) -> None:
        hardware.guard_memory(cell.run.config, device)
        pace.within(cell.what, done * share, time.perf_counter() - began)

    size = config.per_device_eval_batch_size
    losses = compute_row_losses(cell.model, rows, batch_size=size, device=device, on_batch=on_batch)
    columns = {"row_id": losses.row_ids, "loss_sum": losses.loss_sum}
    columns |= {"tokens": losses.tokens, "correct": losses.correct}
    with write_atomically(cell.path) as aside:
        pq.write_table(pa.table(columns), aside)
    pace.cell(len(rows.ids), time.perf_counter() - began)


def list_weight_sources(run: EarlierRun, model: Any, base: str) -> list[MatrixSource]:
    """List every matrix that the run changed; base: the model that the run started from."""
    folder = loading.find_weights_folder(base)
    return (
        list_adapter_matrices(model, folder)
        if run.adapter
        else list_folder_matrices(folder, run.folder.model)
    )


def write_change(sources: list[MatrixSource], path: Path, check: Callable[[], None]) -> None:
    """Write the sketch of a run's weight change to `path`; matrices with an unknown change are left out."""
    rows = []
    for source in sources:
        check()
        try:
            change = source.read()[1].cpu().numpy()
        except UnknownWeightChange:
            continue
        if np.isfinite(change).all():
            layer = next((int(part) for part in source.name.split(".") if part.isdigit()), -1)
            values = compute_sketch(change, zlib.crc32(source.name.encode()))
            rows.append((source.name, layer, float(np.linalg.norm(change)), values))
    columns = list(zip(*rows, strict=True)) if rows else [(), (), (), ()]
    schema = pa.schema(
        [
            ("name", pa.string()),
            ("layer", pa.int32()),
            ("norm", pa.float64()),
            ("values", pa.list_(pa.float32(), WIDTH)),
        ]
    )
    arrays = [pa.array(list(c), f.type) for c, f in zip(columns, schema, strict=True)]
    with write_atomically(path) as aside:
        pq.write_table(pa.table(arrays, schema=schema), aside)


def read_change(path: Path) -> Sketch:
    """Read a sketch written by `write_change`."""
    table = pq.read_table(path)
    values = table["values"].combine_chunks().flatten().to_numpy().reshape(-1, WIDTH)
    names, layers, norms = (table[name].to_pylist() for name in ("name", "layer", "norm"))
    return Sketch(names, layers, norms, values)


class PairedRows(NamedTuple):
    """Rows of a cell under one model: their ids, and its results."""

    row_ids: np.ndarray
    rows: CellRows


@dataclass
class Member:
    """A run that can be measured: its keys, its tokens of each column, and the files of its cells."""

    config: TransferConfig
    of: Subject
    run: EarlierRun
    lineage: list[EarlierRun]
    tokenizer: Any
    base_key: str
    tuned_key: str
    positions: int | None
    tokens: dict[str, training_rows.TokenisedPart] = field(default_factory=dict)
    left_out: dict[str, ExcludedRows] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

    def file(self, column: TransferColumn, *, base: bool) -> str:
        """Return the file name of a cell."""
        key = self.base_key if base else self.tuned_key
        return build_cell_name(key, self.tokenizer, column, self.config, self.positions)

    @property
    def change_file(self) -> str:
        """File name of its weight change."""
        return f"change-{self.tuned_key}.parquet"

    def open_columns(self, columns: Sequence[TransferColumn]) -> list[TransferColumn]:
        """Return the columns that the run can be measured on."""
        return [column for column in columns if column.dataset_id in self.tokens]


@dataclass(frozen=True)
class TransferMatrix:
    """A measured matrix; `members` are the subjects that could be measured, by run id."""

    job: WorkerJob
    config: TransferConfig
    shelf: CellFiles
    subjects: Sequence[Subject]
    columns: Sequence[TransferColumn]
    members: Mapping[str, Member]

    def run_document(self, subject: Subject) -> TransferRun:
        """Return a run as in the result."""
        run: TransferRun = {
            "run_id": subject.run_id, "name": subject.name, "reason": subject.reason, "trained": [],
        }  # fmt: skip
        if subject.run is None:
            return run
        member = self.members.get(subject.run_id)
        lineage = member.lineage if member else [subject.run]
        run["trained"] = list(dict.fromkeys(earlier.fingerprint for earlier in lineage))
        run["init_from"] = subject.run.config.init_from
        run["base"] = member.base_key if member else None
        return run

    def table(self, member: Member, column: TransferColumn, *, base: bool) -> PairedRows:
        """Return the rows of a cell, without those that the run has seen."""
        table = pq.read_table(self.shelf.path(member.file(column, base=base)))
        kept = self.unseen(member, column, table)
        row_ids, loss, tokens, correct = (
            table[name].to_numpy()[kept] for name in ("row_id", "loss_sum", "tokens", "correct")
        )
        return PairedRows(row_ids, CellRows(loss, tokens, correct == tokens))

    def unseen(self, member: Member, column: TransferColumn, table: pa.Table) -> np.ndarray:
        away = column.row_ids[member.left_out[column.dataset_id].rows]
        return ~np.isin(table["row_id"].to_numpy(), away)

    def cells(self) -> list[TransferCell]:
        """Return the base model's cells, with an empty run_id, and those of every run."""
        cells = self.base_cells()
        whole = (len(self.subjects) + 1) * len(self.columns)  # plus the row of the base model
        for subject in self.subjects:
            for column in self.columns:
                self.job.check_cancelled()
                self.job.progress(len(cells), whole, "cells", "Computing confidence intervals")
                cell: TransferCell = {
                    "run_id": subject.run_id, "dataset_id": column.dataset_id, "reason": subject.reason,
                }  # fmt: skip
                if not subject.reason:
                    self.fill_in(cell, self.members[subject.run_id], column)
                cells.append(cell)
        return cells

    def base_cells(self) -> list[TransferCell]:
        """Return the cells of the base model, from the first run that could be measured, on all rows."""
        return [self.base_cell(column) for column in self.columns]

    def base_cell(self, column: TransferColumn) -> TransferCell:
        cell: TransferCell = {"run_id": "", "dataset_id": column.dataset_id, "reason": column.reason}
        member = next((m for m in self.members.values() if column.dataset_id in m.tokens), None)
        if member is None:
            cell["reason"] = column.reason or "No run could be evaluated."
            return cell
        file = member.file(column, base=True)
        table = pq.read_table(self.shelf.path(file))
        loss, tokens, correct = (table[n].to_numpy() for n in ("loss_sum", "tokens", "correct"))
        if not np.isfinite(loss).all():
            cell["reason"] = "Non-finite loss."
            return cell
        level = diagnosis.compute_level(CellRows(loss, tokens, correct == tokens))
        cell["file"], cell["base"], cell["n"] = file, level, level["n"]
        return cell

    def fill_in(self, cell: TransferCell, member: Member, column: TransferColumn) -> None:
        """Add the figures of a run on a data set to its cell, or the reason why there are none."""
        key = column.dataset_id
        cell["left_out"] = member.left_out[key].document() if key in member.left_out else {}
        if key in member.reasons:
            cell["reason"] = member.reasons[key]
            return
        base, tuned = (self.table(member, column, base=side) for side in (True, False))
        if not len(base.row_ids):
            drawn = plural(len(column.row_ids), "row")
            cell["reason"] = f"None of {drawn} left: all were seen in training or repeat a training question."
            return
        try:
            figures = diagnosis.compare(base.rows, tuned.rows)
        except ValueError as error:
            cell["reason"] = f"Inconclusive: {error}."
            return
        cell["cut"] = member.tokens[key].truncated
        cell["base_file"] = member.file(column, base=True)
        cell["file"] = member.file(column, base=False)
        cell.update(figures)


def compute_distances(of: TransferMatrix) -> list[DatasetDistance]:
    """Compute the distances of all pairs of data sets that are trained on or measured."""
    prints = [column.fingerprint for column in of.columns]
    prints += [run.fingerprint for member in of.members.values() for run in member.lineage[:1]]
    vectors: dict[str, np.ndarray] = {}
    for fingerprint in dict.fromkeys(prints):
        path = of.job.home.rows(fingerprint)
        if path.exists():
            vectors[fingerprint] = load_row_vectors(of.job.home, path, lambda *_: of.job.check_cancelled())
    names = list(vectors)
    return [
        {"first": a, "second": b, **compute_embedding_distance(vectors[a], vectors[b])}
        for place, a in enumerate(names)
        for b in names[place + 1 :]
    ]


def compute_weight_similarities(of: TransferMatrix) -> list[WeightSimilarity]:
    """Compute the similarities of all pairs of runs whose weight change is known."""
    files = {m.of.run_id: m.change_file for m in of.members.values()}
    sketches = {i: read_change(of.shelf.path(f)) for i, f in files.items() if of.shelf.has(f)}
    names = [run_id for run_id, sketch in sketches.items() if len(sketch.names)]
    return [
        {"first": a, "second": b, **compute_weight_cosine(sketches[a], sketches[b])}
        for place, a in enumerate(names)
        for b in names[place + 1 :]
    ]


def compute_sequences(of: TransferMatrix) -> list[TransferSequence]:
    """Compute the backward transfer of every longest chain of runs that continued from one another."""
    before = {m.of.run_id: m.run.config.init_from for m in of.members.values()}
    last = [run_id for run_id in before if run_id not in before.values()]
    chains = []
    for run_id in last:
        chain = [run_id]
        while before.get(chain[0]) in before:
            chain.insert(0, before[chain[0]])
        if len(chain) > 1:
            chains.append(compute_sequence(of, [of.members[i] for i in chain]))
    return chains


def compute_sequence(of: TransferMatrix, chain: list[Member]) -> TransferSequence:
    """Compute the effect of a chain's runs on what earlier runs of the chain had learned."""
    columns = {column.fingerprint: column for column in of.columns}
    end, tasks, names = chain[-1], [], []
    later = [member.run.fingerprint for member in chain]
    for place, member in enumerate(chain[:-1]):
        column = columns.get(member.run.fingerprint)
        if column is None or member.run.fingerprint in later[place + 1 :]:
            continue
        task = _build_earlier_task(of, member, end, column)
        if task:
            tasks.append(task)
            names.append(column.dataset_id)
    document = TransferSequence(
        runs=[member.of.run_id for member in chain], datasets=names, transfer=None, reason="",
    )  # fmt: skip
    if tasks:
        document.transfer = compute_backward_transfer(tasks)
    else:
        document.reason = "None of its earlier data sets is selected, or all were trained on again."
    return document


def _build_earlier_task(
    of: TransferMatrix, member: Member, end: Member, column: TransferColumn
) -> Task | None:
    """Return the losses on an earlier data set under base model, own run and last run of the chain.

    None if they can't be paired.
    """
    key = column.dataset_id
    if key not in member.tokens or key not in end.tokens or member.base_key != end.base_key:
        return None
    kept = [of.table(m, column, base=b) for m, b in ((end, True), (member, False), (end, False))]
    shared = np.intersect1d(kept[0].row_ids, kept[1].row_ids)
    sides = [np.asarray(table.rows.loss)[np.isin(table.row_ids, shared)] for table in kept]
    if not len(shared) or not all(np.isfinite(side).all() for side in sides):
        return None
    return Task(column.data["dataset"]["name"], *sides)
