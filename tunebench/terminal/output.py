"""Output of the command line: one JSON document, or tables and progress for people.

Results go to stdout, everything else (progress, notices) to stderr, so that `--json` and `--format` can be
piped. Each kind of error has its own exit code, so that scripts can tell them apart.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.parquet
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from store.core.documents import as_json
from store.core.errors import (
    ConfigError,
    DataError,
    EngineSilent,
    EngineUnavailable,
    ForbiddenError,
    ModelError,
    NotFoundError,
    QueryError,
    SignedOutError,
    StateError,
    TooLargeError,
    TunebenchError,
    from_dict,
)
from store.core.formatting import plural
from store.core.job_kinds import ALIVE
from store.core.schemas import Job
from store.core.table_values import convert_times_to_text, write_csv

OK, FAILED, USAGE, NOT_FOUND, UNAVAILABLE, NOT_ALLOWED, STOPPED, CONDITION = range(8)
EXIT_CODES = {
    ConfigError: USAGE,
    DataError: USAGE,
    ModelError: USAGE,
    QueryError: USAGE,
    NotFoundError: NOT_FOUND,
    EngineUnavailable: UNAVAILABLE,
    EngineSilent: UNAVAILABLE,
    TooLargeError: USAGE,
    StateError: NOT_ALLOWED,
    ForbiddenError: NOT_ALLOWED,
    SignedOutError: NOT_ALLOWED,
}

out = Console(highlight=False, emoji=False)  # ":red_heart:" in a name stays text
err = Console(stderr=True, highlight=False, emoji=False)


def to_json_value(value: Any) -> Any:
    """Convert `value` for JSON: rows to dicts, times to ISO 8601 in UTC, non-finite numbers to null."""
    if dataclasses.is_dataclass(value):
        value = as_json(value)
    if isinstance(value, dict):
        return {str(key): to_json_value(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json_value(item) for item in value]
    if isinstance(value, datetime.datetime):
        return value.isoformat() + ("" if value.tzinfo else "Z")
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    return str(value)


def print_json(document: Any) -> None:
    """Print one JSON document to stdout."""
    sys.stdout.write(json.dumps(to_json_value(document), ensure_ascii=False, indent=2) + "\n")


@contextmanager
def report_errors(as_json: bool = False) -> Iterator[None]:
    """Turn a TunebenchError into its message on stderr (and a document on stdout) and its exit code."""
    try:
        yield
    except TunebenchError as error:
        if as_json:
            print_json(error.to_dict())
        err.print(f"[bold red]Error:[/] {_escape(str(error))}", soft_wrap=True)
        raise SystemExit(EXIT_CODES.get(type(error), FAILED)) from None


def _escape(text: str) -> str:
    return text.replace("[", r"\[")


def print_notice(text: str) -> None:
    """Print a notice to stderr."""
    err.print(_escape(text), soft_wrap=True)


def print_rows(columns: list[str], rows: list[list[Any]], footer: str = "") -> None:
    """Print a table to stdout, at full width if stdout is not a terminal."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*("" if cell is None else _escape(str(cell)) for cell in row))
    console = out if sys.stdout.isatty() else Console(width=100_000, highlight=False, emoji=False)
    console.print(table)
    if footer:
        print_notice(footer)


def _make_unique(names: list[str]) -> list[str]:
    """Make repeated column names of a query unique: a, a become a, a_2."""
    distinct: list[str] = []
    for name in names:
        number, free = 1, name
        while free in distinct or (number > 1 and free in names):
            number += 1
            free = f"{name}_{number}"
        distinct.append(free)
    return distinct


def print_table(table: pa.Table, form: str) -> None:
    """Print a query's result to stdout as `table`, `csv`, `json` or `parquet` (bytes).

    Repeated column names are made unique, as keys of JSON would overwrite each other. Raises ConfigError
    if Parquet would be written to a terminal.
    """
    table = table.rename_columns(_make_unique(table.column_names))
    if form != "parquet":  # Parquet can represent all times
        table = convert_times_to_text(table)
    if form == "json":
        print_json(table.to_pylist())
    elif form == "csv":
        write_csv(table, sys.stdout.buffer)
    elif form == "parquet":
        if sys.stdout.isatty():
            raise ConfigError(
                "Parquet output can't be printed to a terminal.",
                fix="Redirect it to a file: > result.parquet",
                field="format",
            )
        pyarrow.parquet.write_table(table, pa.PythonFile(sys.stdout.buffer, mode="w"))
    else:
        rows = [list(row.values()) for row in table.to_pylist()]
        print_rows(table.column_names, rows, plural(table.num_rows, "row"))


def watch_job(get_job: Callable[[], Job], label: str, every: float = 0.5) -> Job:
    """Wait until a job has ended, with a progress bar on stderr; return the job."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Progress(*columns, TimeElapsedColumn(), console=err, transient=True) as progress:
        task = progress.add_task(label, total=None, note="")
        while (job := get_job()).status in ALIVE:
            note: str = job.status
            if job.progress_total:
                done, total = job.progress_done or 0, job.progress_total
                note = f"{done:,.0f} of {total:,.0f} {job.progress_unit}"
            if job.eta_seconds:
                note += f", {datetime.timedelta(seconds=round(job.eta_seconds))} left"
            progress.update(task, completed=job.progress_done, total=job.progress_total, note=note)
            time.sleep(every)
    return job


def require_finished(job: Job, what: str) -> None:
    """Raise the error that ended the job, or exit with a notice, unless it has finished."""
    if job.status == "finished":
        return
    if job.error:
        raise from_dict(job.error)
    print_notice(f"{what} {job.status}.")
    raise SystemExit(FAILED if job.status == "failed" else STOPPED)
