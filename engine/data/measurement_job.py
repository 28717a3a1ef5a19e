"""The job `profile`: measure one group of signals for every row of a data set into `GROUP.parquet`.

A row-local group is measured in batches, in several processes if that is faster, and rows that are unchanged
from the parent version reuse its values. A work item is a range of row groups of rows.parquet, read by the
process that measures it, so that rows never cross process boundaries and memory is bounded by a batch. Child
processes are spawned, not forked, because the worker may have threads.

The sidecar is written atomically, with one row for every row of the data set, in order; a cancelled, failed
or killed job leaves nothing. Columns, types, rows and order of the measured table are checked, because
filters and recipes rely on them.
"""

from __future__ import annotations

import importlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from engine.data.signals.protocol import Progress
from engine.worker.job import JobCancelled, Phase, Phases, WorkerJob
from engine.worker.progress import PhaseReporter
from store.core.job_folder import write_atomically
from store.core.row_schemas import (
    CategoryFigure,
    ColumnFigure,
    FlagFigure,
    GroupFigure,
    NumberFigure,
    ProfileResult,
    SignalFigure,
    SignalOptions,
)
from store.data.config import ProfileConfig
from store.data.dataset_files import open_rows
from store.data.signals import GROUPS, Signal, SignalGroup, Type
from store.jobs.schemas import JobSpec

BATCH_ROWS = 4_000
PARALLEL_ROWS = 30_000  # rows; fewer take less time than the imports of a child process
MAX_PROCESSES = 4
POLL_SECONDS = 0.25


class RowLocalModule(Protocol):
    """Interface of a module of a row-local group (`engine.data.signals.protocol`)."""

    READS: tuple[str, ...]

    def measure(self, batch: pa.RecordBatch, context: Any) -> dict[str, pa.Array | np.ndarray]: ...


@dataclass
class _MeasurementState:
    """State of a measuring process."""

    module: RowLocalModule
    context: Any
    file: pq.ParquetFile


_measuring: _MeasurementState | None = None  # state of this process
_stopped = threading.Event()  # set when a child process has to stop


def measure_rows(
    job: WorkerJob, group: str, context: Any, rows_path: Path, reused: np.ndarray, progress: Progress
) -> pa.Table:
    """Return the group's columns, without row_id, of the rows not in `reused` (ascending ids), in order."""
    module = importlib.import_module(GROUPS[group].module)
    file = pq.ParquetFile(rows_path)
    sizes = [file.metadata.row_group(index).num_rows for index in range(file.metadata.num_row_groups)]
    firsts = np.concatenate([[0], np.cumsum(sizes)]).tolist()
    pieces = [
        (index, reused[np.searchsorted(reused, firsts[index]) : np.searchsorted(reused, firsts[index + 1])])
        for index in range(len(sizes))
    ]
    pieces = [(index, skip) for index, skip in pieces if len(skip) < sizes[index]]
    total = firsts[-1] - len(reused)
    progress(0, total)
    processes = min(MAX_PROCESSES, len(os.sched_getaffinity(0)), len(pieces))
    if not getattr(module, "PARALLEL", True) or total < PARALLEL_ROWS or processes < 2:
        _init_measurement(group, context, str(rows_path))
        done, tables = 0, []
        for piece in pieces:
            for table in _measure_batches(*piece):
                tables.append(table)
                done += len(table)
                progress(done, total)
    else:
        tables = _measure_in_processes(
            job, (group, context, str(rows_path)), pieces, processes, total, progress
        )
    return pa.concat_tables(tables) if tables else pa.table({})


def _measure_in_processes(
    job: WorkerJob,
    measured: tuple[str, Any, str],
    pieces: list[tuple[int, np.ndarray]],
    processes: int,
    total: int,
    progress: Progress,
) -> list[pa.Table]:
    """Return the tables of the pieces. measured: group, its context, path of the rows."""
    pool = ProcessPoolExecutor(processes, get_context("spawn"), initializer=_init_child, initargs=measured)
    try:
        futures = [pool.submit(_measure_piece, *piece) for piece in pieces]
        waiting: set[Future[pa.Table]] = set(futures)
        done = 0
        while waiting:
            ended, waiting = wait(waiting, POLL_SECONDS, FIRST_COMPLETED)
            done += sum(len(future.result()) for future in ended)
            progress(done, total)
        return [future.result() for future in futures]
    except BrokenProcessPool:
        if job.cancel_requested.is_set():  # a child got the signal before its handler was set
            raise JobCancelled from None
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _init_child(group: str, context: Any, rows_path: str) -> None:
    # The signal is sent to the worker's whole process group; a child then abandons its current piece.
    signal.signal(signal.SIGTERM, lambda *_: _stopped.set())
    threading.Thread(target=_exit_with_worker, daemon=True).start()
    pa.set_cpu_count(1)
    _init_measurement(group, context, rows_path)


def _exit_with_worker() -> None:
    """Exit when the worker ends: a killed worker can't stop its children."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _init_measurement(group: str, context: Any, rows_path: str) -> None:
    global _measuring
    module: Any = importlib.import_module(GROUPS[group].module)  # implements `engine.data.signals.protocol`
    _measuring = _MeasurementState(module, context, pq.ParquetFile(rows_path))


def _measure_piece(index: int, skip: np.ndarray) -> pa.Table:
    return pa.concat_tables(list(_measure_batches(index, skip)))


def _measure_batches(index: int, skip: np.ndarray) -> Iterator[pa.Table]:
    """Yield the measured columns of one row group in batches, without the rows to skip."""
    assert _measuring is not None, "_init_measurement comes first"
    module, context, file = _measuring.module, _measuring.context, _measuring.file
    columns = list(dict.fromkeys(["row_id", *module.READS]))
    for batch in file.iter_batches(BATCH_ROWS, row_groups=[index], columns=columns, use_threads=False):
        if _stopped.is_set():
            raise JobCancelled
        if len(skip):
            ids = batch.column("row_id").to_numpy()
            batch = batch.filter(pa.array(~np.isin(ids, skip, assume_unique=True)))
        if len(batch):
            yield pa.table(module.measure(batch, context))


# Values of unchanged rows are copied from the parent's sidecar if that was measured with the same options by
# the same version of the group (the job spec lists no others), so that after a cleaning that changes a few
# rows only these are measured.

FATES = ["parent_row_id", "row_id", "fate"]


@dataclass
class ReusedRows:
    """Values reused from the parent version.

    rows: int64 [k], ascending ids in the new version. table [k]: the group's columns of these rows.
    """

    rows: np.ndarray
    table: pa.Table


def read_reused_rows(
    job: WorkerJob, group: str, options: SignalOptions, columns: list[str]
) -> ReusedRows | None:
    """Return the parent's values of the unchanged rows, or None if there are none to reuse."""
    dataset, parent = job.spec["dataset"], job.spec.get("parent")
    if not parent or parent["signals"].get(group) != options:
        return None
    fates_path = job.home.fates(dataset["fingerprint"])
    sidecar = job.home.signals(parent["fingerprint"], group)
    if not (fates_path.exists() and sidecar.exists()):
        return None
    fates = pq.read_table(fates_path, columns=FATES)
    kept = fates.filter(pc.equal(fates["fate"], "kept")).sort_by("row_id")
    rows = kept["row_id"].to_numpy()
    before = pq.read_table(sidecar, columns=["row_id", *columns])
    places = kept["parent_row_id"].to_numpy()  # row ids are positions
    return ReusedRows(rows, before.select(columns).take(pa.array(places)))


MAX_FREQUENT = 20


def compute_column_figures(table: pa.Table, signals: tuple[Signal, ...]) -> dict[str, ColumnFigure]:
    """Return column -> figures for every signal of a group."""
    makers: dict[Type, Callable[[pa.ChunkedArray], ColumnFigure]] = {
        "number": _summarise_numbers,
        "flag": _summarise_flags,
        "category": _summarise_categories,
        "group": _summarise_groups,
    }
    return {signal.column: makers[signal.type](table[signal.column]) for signal in signals}


def _summarise_numbers(column: pa.ChunkedArray) -> NumberFigure:
    values = column.drop_null().to_numpy().astype(np.float64)
    values = values[np.isfinite(values)]
    if not len(values):
        return {
            "n": 0,
            "min": None,
            "mean": None,
            "median": None,
            "p95": None,
            "max": None,
            "positive": 0,
        }
    median, p95 = np.percentile(values, [50, 95])
    return {
        "n": len(values),
        "min": float(values.min()),
        "mean": float(values.mean()),
        "median": float(median),
        "p95": float(p95),
        "max": float(values.max()),
        "positive": int((values > 0).sum()),
    }


def _summarise_flags(column: pa.ChunkedArray) -> FlagFigure:
    measured = column.drop_null()
    return {"n": len(measured), "flagged": int(pc.sum(measured).as_py() or 0)}


def _summarise_categories(column: pa.ChunkedArray) -> CategoryFigure:
    measured = column.drop_null()
    counts = [(row["values"], row["counts"]) for row in pc.value_counts(measured).to_pylist()]
    counts.sort(key=lambda pair: (-pair[1], pair[0]))
    return {"n": len(measured), "distinct": len(counts), "values": dict(counts[:MAX_FREQUENT])}


def _summarise_groups(column: pa.ChunkedArray) -> GroupFigure:
    """Summarize groups. `n` is the number of all rows, because null means that a row is in no group."""
    together = column.drop_null().to_numpy()
    groups = len(np.unique(together))
    return {"n": len(column), "groups": groups, "rows": len(together), "extra": len(together) - groups}


TYPES = {"flag": pa.bool_(), "category": pa.string(), "group": pa.int64()}
DEFAULT_ROWS = 10_000  # assumed size of a data set if the job spec gives none


def phases(spec: JobSpec) -> Phases:
    """Return the phases of the group; a row-local group has one."""
    module = importlib.import_module(GROUPS[ProfileConfig.parse(spec["config"]).group].module)
    if not hasattr(module, "compute"):
        return (Phase(),)
    stated: Phases = module.phases(spec["dataset"].get("row_count", DEFAULT_ROWS))
    return stated


def run(job: WorkerJob) -> ProfileResult:
    """Measure the group of the job's ProfileConfig and return the result document (docs/rows.md)."""
    began = time.monotonic()
    config = ProfileConfig.parse(job.config)
    group = GROUPS[config.group]
    fingerprint = job.spec["dataset"]["fingerprint"]
    row_count = open_rows(job.home, fingerprint).metadata.num_rows
    rows_path = job.home.rows(fingerprint)
    module = importlib.import_module(group.module)
    progress = PhaseReporter(job)
    if hasattr(module, "compute"):
        table, set_figures = module.compute(job, config, rows_path, progress)
        options = _select_options(config, module.OPTIONS)
        reused = 0
    else:
        context, options = module.prepare(job, config, rows_path)
        table, reused = _measure(job, group, (context, options), rows_path, row_count, progress)
        set_figures = {}
    table = _check_table(table, group, row_count)
    measured: dict[str, SignalFigure] = {**compute_column_figures(table, group.signals)}
    measured |= {f"set.{name}": figure for name, figure in set_figures.items()}
    job.check_cancelled()
    with write_atomically(job.dir.path / f"{group.name}.parquet") as unfinished:
        pq.write_table(table, unfinished, compression="zstd", row_group_size=100_000)
    return {
        "options": options,
        "row_count": row_count,
        "reused_count": reused,
        "seconds": round(time.monotonic() - began, 3),
        "figures": measured,
    }


def _select_options(config: ProfileConfig, names: Sequence[str]) -> SignalOptions:
    """Return the fields of the config that determine the values of a group."""
    options: SignalOptions = {}
    if "threshold" in names:
        options["threshold"] = config.threshold
    if "model" in names:
        options["model"] = config.model
    if "sample" in names:
        options["sample"] = config.sample
    return options


def _measure(
    job: WorkerJob,
    group: SignalGroup,
    prepared: tuple[Any, SignalOptions],
    rows_path: Path,
    rows: int,
    tell: Progress,
) -> tuple[pa.Table, int]:
    """Return the columns of a row-local group for every row, and the number of reused rows."""
    context, options = prepared
    columns = [signal.column for signal in group.signals]
    reused = read_reused_rows(job, group.name, options, columns)
    kept_rows = reused.rows if reused else np.zeros(0, np.int64)
    table = measure_rows(job, group.name, context, rows_path, kept_rows, tell)
    if reused is not None:
        if len(kept_rows) == rows:
            table = reused.table
        else:
            new = np.setdiff1d(np.arange(rows), kept_rows, assume_unique=True)
            measured = _cast(table.select(columns), group)
            both = pa.concat_tables([_cast(reused.table, group), measured])
            table = both.take(pa.array(np.argsort(np.concatenate([kept_rows, new]))))
    ids = pa.array(np.arange(rows, dtype=np.int64))
    return table.add_column(0, "row_id", ids) if len(table) == rows else table, len(kept_rows)


def _check_table(table: pa.Table, group: SignalGroup, row_count: int) -> pa.Table:
    """Return the table with row_id and the group's columns in their order and types.

    Raises AssertionError if the module violates its contract, because values would be assigned to wrong rows.
    """
    names = ["row_id", *(signal.column for signal in group.signals)]
    assert set(table.column_names) == set(names), f"{group.name} gave {table.column_names}, not {names}"
    ids = table["row_id"].to_numpy()
    assert np.array_equal(ids, np.arange(row_count)), f"{group.name} gave {len(ids)} rows of {row_count}"
    return _cast(table.select(names), group)


def _cast(table: pa.Table, group: SignalGroup) -> pa.Table:
    fields = [("row_id", pa.int64())] if "row_id" in table.column_names else []
    for measured in group.signals:
        given = table.schema.field(measured.column).type
        if measured.type == "number":
            fields.append((measured.column, pa.float32() if pa.types.is_floating(given) else pa.int32()))
        else:
            wanted = TYPES[measured.type]
            assert given == wanted, f"{measured.column} is {given}, not {wanted}"
            fields.append((measured.column, wanted))
    return table.cast(pa.schema(fields))
