"""What is measured for a matrix of transfer and kept: a model on rows, and how far a run moved the weights.

Each is a file named by its content in the job's folder. One that any job of the home folder has measured
before, be it cancelled since, is linked into this job's folder and never measured again.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from engine.diagnostics.transfer.transfer import WIDTH, Sketch, sketch
from engine.evidence.weights import MatrixSource, NotKnown, from_adapter, from_folders
from engine.forward.losses import row_losses
from engine.models import memory, models
from engine.models.continued import EarlierRun
from engine.prepare import prepare
from engine.rows import dataset
from engine.rows.render import TokenRows
from engine.rows.tokens import RowsToTokenise, tokenised, tokenizer_key
from engine.transfer.transfer_models import TransferColumn
from engine.worker.job import WorkerJob
from engine.worker.progress import ProgressTeller
from store.config.judging.transfer_config import TransferConfig
from store.contract.jobdir import written_aside


class CellFiles:
    """Files by name, in this job's folder and in those of all others."""

    def __init__(self, job: WorkerJob) -> None:
        self.folder = job.dir.cells
        self.folder.mkdir(exist_ok=True)
        self.elsewhere = {path.name: path for path in job.home.jobs.glob("*/cells/*.parquet")}

    def path(self, name: str) -> Path:
        """Where the file is, or is to be."""
        return self.folder / name

    def has(self, name: str) -> bool:
        """Whether it was measured; it is in this folder then."""
        if self.path(name).exists():
            return True
        measured = self.elsewhere.get(name)
        if measured is None:
            return False
        try:
            os.link(measured, self.path(name))
        except FileNotFoundError:  # deleted meanwhile
            return False
        except OSError:
            shutil.copy2(measured, self.path(name))
        return True


def cell_name(
    model: str, tokenizer: Any, column: TransferColumn, config: TransferConfig, positions: int | None
) -> str:
    """The name of the file of a model on the rows of a column."""
    rows = hashlib.sha256(column.row_ids.tobytes()).hexdigest()
    parts = [model, tokenizer_key(tokenizer), column.fingerprint, rows, _longest(config, positions)]
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:40] + ".parquet"


def _longest(config: TransferConfig, positions: int | None) -> int | None:
    return min((limit for limit in (config.max_length, positions) if limit), default=None)


def tokens_of(
    job: WorkerJob, tokenizer: Any, column: TransferColumn, config: TransferConfig, most: int | None
) -> prepare.TokenisedPart:
    """The rows of a column as a model sees them; those without a trained token are gone."""
    column_dataset = column.data["dataset"]
    rows = tokenised(
        job.home,
        tokenizer,
        RowsToTokenise(
            fingerprint=column.fingerprint,
            row_count=dataset.open_rows(job.home, column.fingerprint).metadata.num_rows,
            row_ids=column.row_ids,
            completion_only=True,
            load=prepare.loader(job.home, column.fingerprint, column_dataset["kind"]),
        ),
        on_rows=lambda *_: job.check_cancelled(),
    )
    limit = _longest(config, most) or int(rows.lengths.max(initial=1))
    return prepare.cut(rows, limit)


class MeasuringPace(ProgressTeller):
    """Tells once a second how many cells are done and, by the tokens that are left, how long they will
    take."""

    def __init__(self, job: WorkerJob, cells: int, tokens: int) -> None:
        super().__init__(job)
        self.cells, self.tokens = cells, tokens
        self.done_cells, self.done_tokens, self.seconds = 0, 0, 0.0

    def within(self, message: str, tokens: float = 0, seconds: float = 0) -> None:
        """Within a cell: so many of its tokens are done in so many seconds. Raises Cancelled."""
        done, spent = self.done_tokens + tokens, self.seconds + seconds
        left = spent / done * (self.tokens - done) if done else None
        self.tell(self.done_cells, self.cells, "cells", message, lambda: left)

    def cell(self, tokens: int, seconds: float) -> None:
        """A cell is done."""
        self.done_cells, self.done_tokens = self.done_cells + 1, self.done_tokens + tokens
        self.seconds += seconds


class CellToMeasure(NamedTuple):
    """A model on the rows of a column. run: whose precision it is measured in; path: the file of the cell;
    what: the message while it is."""

    model: Any
    rows: TokenRows
    run: EarlierRun
    path: Path
    what: str


def measure(job: WorkerJob, cell: CellToMeasure, config: TransferConfig, pace: MeasuringPace) -> None:
    """The losses of the rows under the model, into the file of the cell."""
    device, began, rows = torch.device(job.device), time.perf_counter(), cell.rows
    share = len(rows.ids) / max(1, len(rows))

    def on_batch(done: int) -> None:
        memory.guard(cell.run.config, device)
        pace.within(cell.what, done * share, time.perf_counter() - began)

    size = config.per_device_eval_batch_size
    losses = row_losses(cell.model, rows, batch_size=size, device=device, on_batch=on_batch)
    columns = {"row_id": losses.row_ids, "loss_sum": losses.loss_sum}
    columns |= {"tokens": losses.tokens, "correct": losses.correct}
    with written_aside(cell.path) as aside:
        pq.write_table(pa.table(columns), aside)
    pace.cell(len(rows.ids), time.perf_counter() - began)


def weight_sources(run: EarlierRun, model: Any, base: str) -> list[MatrixSource]:
    """Every matrix that the run changed; base: what the run stands on."""
    folder = models.weights_folder(base)
    return from_adapter(model, folder) if run.adapter else from_folders(folder, run.folder.model)


def write_change(sources: list[MatrixSource], path: Path, check: Callable[[], None]) -> None:
    """The sketch of a run's weight change, into the file `path`; what is not known of a matrix is left
    out."""
    rows = []
    for source in sources:
        check()
        try:
            change = source.read()[1].cpu().numpy()
        except NotKnown:
            continue
        if np.isfinite(change).all():
            layer = next((int(part) for part in source.name.split(".") if part.isdigit()), -1)
            values = sketch(change, zlib.crc32(source.name.encode()))
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
    with written_aside(path) as aside:
        pq.write_table(pa.table(arrays, schema=schema), aside)


def read_change(path: Path) -> Sketch:
    """The sketch that `write_change` left."""
    table = pq.read_table(path)
    values = table["values"].combine_chunks().flatten().to_numpy().reshape(-1, WIDTH)
    names, layers, norms = (table[name].to_pylist() for name in ("name", "layer", "norm"))
    return Sketch(names, layers, norms, values)
