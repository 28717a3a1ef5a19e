"""The job `profile`: one group of signals, measured for every row of a data set.

It leaves `GROUP.parquet` in its folder, written aside and renamed, with one row for every row of the data
set in their order; cancelled, failed or killed, it leaves nothing. What a module of `engine.signals`
gives is checked here: columns, types, rows and order are what filters and recipes rest on.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from engine.rows.dataset import open_rows
from engine.signals.group import Progress
from engine.signals.groups.row_local import measure_rows
from engine.signals.groups.row_reuse import of_parent
from engine.signals.groups.signal_figures import figures
from engine.worker.job import WorkerJob
from engine.worker.phases import Phase, Phases
from engine.worker.progress import PhaseReporter
from store.catalog.signals import GROUPS, SignalGroup
from store.config.data.data_config import ProfileConfig
from store.contract.jobdir import written_aside
from store.documents.data.signal_figures import ProfileResult, SignalFigure, SignalOptions
from store.documents.tables.job_order import JobOrder

TYPES = {"flag": pa.bool_(), "category": pa.string(), "group": pa.int64()}
USUAL_ROWS = 10_000  # of a data set, where its order doesn't say


def phases(order: JobOrder) -> Phases:
    """Those of the group; what is measured row by row is one."""
    module = importlib.import_module(GROUPS[ProfileConfig.parse(order["config"]).group].module)
    if not hasattr(module, "compute"):
        return (Phase(),)
    stated: Phases = module.phases(order["dataset"].get("row_count", USUAL_ROWS))
    return stated


def run(job: WorkerJob) -> ProfileResult:
    """Measure what the job's ProfileConfig says; the result document of docs/architecture.md."""
    began = time.monotonic()
    config = ProfileConfig.parse(job.config)
    group = GROUPS[config.group]
    fingerprint = job.order["dataset"]["fingerprint"]
    row_count = open_rows(job.home, fingerprint).metadata.num_rows
    rows_path = job.home.rows(fingerprint)
    module = importlib.import_module(group.module)
    progress = PhaseReporter(job)
    if hasattr(module, "compute"):
        table, set_figures = module.compute(job, config, rows_path, progress)
        options = _chosen_options(config, module.OPTIONS)
        reused = 0
    else:
        context, options = module.prepare(job, config, rows_path)
        table, reused = _measure(job, group, (context, options), rows_path, row_count, progress)
        set_figures = {}
    table = _checked(table, group, row_count)
    measured: dict[str, SignalFigure] = {**figures(table, group.signals)}
    measured |= {f"set.{name}": figure for name, figure in set_figures.items()}
    job.check_cancelled()
    with written_aside(job.dir.path / f"{group.name}.parquet") as unfinished:
        pq.write_table(table, unfinished, compression="zstd", row_group_size=100_000)
    return {
        "options": options,
        "row_count": row_count,
        "reused_count": reused,
        "seconds": round(time.monotonic() - began, 3),
        "figures": measured,
    }


def _chosen_options(config: ProfileConfig, names: Sequence[str]) -> SignalOptions:
    """Those fields of the config that decide the values of a group."""
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
    """The columns of a row-local group for every row, and how many rows were taken over."""
    context, options = prepared
    columns = [signal.column for signal in group.signals]
    reused = of_parent(job, group.name, options, columns)
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


def _checked(table: pa.Table, group: SignalGroup, row_count: int) -> pa.Table:
    """The table with row_id and the group's columns in their order and types.

    Raises AssertionError where a module broke its promise: its values would be those of other rows.
    """
    names = ["row_id", *(signal.column for signal in group.signals)]
    assert set(table.column_names) == set(names), f"{group.name} gave {table.column_names}, not {names}"
    ids = table["row_id"].to_numpy()
    assert np.array_equal(ids, np.arange(row_count)), f"{group.name} gave {len(ids)} rows of {row_count}"
    return _cast(table.select(names), group)


def _cast(table: pa.Table, group: SignalGroup) -> pa.Table:
    fields = [("row_id", pa.int64())] if "row_id" in table.column_names else []
    for signal in group.signals:
        given = table.schema.field(signal.column).type
        if signal.type == "number":
            fields.append((signal.column, pa.float32() if pa.types.is_floating(given) else pa.int32()))
        else:
            wanted = TYPES[signal.type]
            assert given == wanted, f"{signal.column} is {given}, not {wanted}"
            fields.append((signal.column, wanted))
    return table.cast(pa.schema(fields))
