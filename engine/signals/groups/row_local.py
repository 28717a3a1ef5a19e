"""Measures a row-local group over a data set: batch by batch, in two processes where that is worth it.

A piece of work is a range of row groups of rows.parquet, read by the process that measures it, so that rows
never cross from one process to another and memory is bounded by a batch. Children are started fresh, not
forked: the worker may have threads.
"""

from __future__ import annotations

import importlib
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from engine.signals.group import Progress
from engine.worker.job import Cancelled, WorkerJob
from store.catalog.signals import GROUPS

BATCH_ROWS = 4_000
WORTH_A_PROCESS = 30_000  # rows; fewer are done before a child has imported what it needs
MOST_PROCESSES = 4
POLL_SECONDS = 0.25


class RowLocalModule(Protocol):
    """A module of a row-local group (`engine.signals.group`)."""

    READS: tuple[str, ...]

    def measure(self, batch: pa.RecordBatch, context: Any) -> dict[str, pa.Array | np.ndarray]: ...


@dataclass
class _Measuring:
    """What a process measures with."""

    module: RowLocalModule
    context: Any
    file: pq.ParquetFile


_measuring: _Measuring | None = None  # of this process
_stopped = threading.Event()  # a child was asked to stop


def measure_rows(
    job: WorkerJob, group: str, context: Any, rows_path: Path, reused: np.ndarray, progress: Progress
) -> pa.Table:
    """The group's columns, without row_id, of the rows that aren't in `reused` (ids, ascending), in order."""
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
    processes = min(MOST_PROCESSES, len(os.sched_getaffinity(0)), len(pieces))
    if not getattr(module, "PARALLEL", True) or total < WORTH_A_PROCESS or processes < 2:
        _begin(group, context, str(rows_path))
        done, tables = 0, []
        for piece in pieces:
            for table in _batches(*piece):
                tables.append(table)
                done += len(table)
                progress(done, total)
    else:
        tables = _in_processes(job, (group, context, str(rows_path)), pieces, processes, total, progress)
    return pa.concat_tables(tables) if tables else pa.table({})


def _in_processes(
    job: WorkerJob,
    measured: tuple[str, Any, str],
    pieces: list[tuple[int, np.ndarray]],
    processes: int,
    total: int,
    progress: Progress,
) -> list[pa.Table]:
    """The tables of the pieces. measured: group, its context, path of the rows."""
    pool = ProcessPoolExecutor(processes, get_context("spawn"), initializer=_begin_child, initargs=measured)
    try:
        futures = [pool.submit(_piece, *piece) for piece in pieces]
        waiting: set[Future[pa.Table]] = set(futures)
        done = 0
        while waiting:
            ended, waiting = wait(waiting, POLL_SECONDS, FIRST_COMPLETED)
            done += sum(len(future.result()) for future in ended)
            progress(done, total)
        return [future.result() for future in futures]
    except BrokenProcessPool:
        if job.cancel_requested.is_set():  # the signal reached a child that was not yet ready for it
            raise Cancelled from None
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _begin_child(group: str, context: Any, rows_path: str) -> None:
    # The signal goes to the worker's whole group: a child gives up the piece that it is at.
    signal.signal(signal.SIGTERM, lambda *_: _stopped.set())
    threading.Thread(target=_end_with_the_worker, daemon=True).start()
    pa.set_cpu_count(1)
    _begin(group, context, rows_path)


def _end_with_the_worker() -> None:
    """A worker that is killed can tell nobody: its children must not outlive it."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _begin(group: str, context: Any, rows_path: str) -> None:
    global _measuring
    module: Any = importlib.import_module(GROUPS[group].module)  # has what `engine.signals.group` says
    _measuring = _Measuring(module, context, pq.ParquetFile(rows_path))


def _piece(index: int, skip: np.ndarray) -> pa.Table:
    return pa.concat_tables(list(_batches(index, skip)))


def _batches(index: int, skip: np.ndarray) -> Iterator[pa.Table]:
    """The measured columns of one row group, in batches, without the rows to skip."""
    assert _measuring is not None, "_begin comes first"
    module, context, file = _measuring.module, _measuring.context, _measuring.file
    columns = list(dict.fromkeys(["row_id", *module.READS]))
    for batch in file.iter_batches(BATCH_ROWS, row_groups=[index], columns=columns, use_threads=False):
        if _stopped.is_set():
            raise Cancelled
        if len(skip):
            ids = batch.column("row_id").to_numpy()
            batch = batch.filter(pa.array(~np.isin(ids, skip, assume_unique=True)))
        if len(batch):
            yield pa.table(module.measure(batch, context))
