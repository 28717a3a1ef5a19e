"""Runs the jobs that work on data, in this process, on a home folder of the test."""

from __future__ import annotations

import importlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from engine.data.readers.file_rows import Reader, SkippedRow
from engine.data.readers.source_reader import open_source
from engine.worker.job import JobProgress, WorkerJob
from store.core.home import Home
from store.core.job_kinds import JOB_KINDS
from store.data.config import Source


def silent(*_: Any, **__: Any) -> None:
    """Nobody is told of progress."""


def make_job(home: Home, kind: str, config: dict[str, Any]) -> WorkerJob:
    folder = home.jobs / f"{kind}-{len(list(home.jobs.iterdir()))}"
    folder.mkdir()
    order = {"job_id": folder.name, "kind": kind, "home": str(home.path), "config": config}
    (folder / "config.json").write_text(json.dumps(order))
    return WorkerJob(folder)


def ask(home: Home, kind: str, **config: Any) -> dict[str, Any]:
    module = importlib.import_module(JOB_KINDS[kind].module)
    return module.run(make_job(home, kind, config))


@dataclass
class Imported:
    """A data set as an import left it."""

    result: dict[str, Any]
    rows: list[dict[str, Any]]
    skipped: list[dict[str, Any]]
    events: list[dict[str, Any]]

    @property
    def alerts(self) -> str:
        return "\n".join(event["message"] for event in self.events if event["type"] == "alert")


def write(folder: Path, name: str, content: str | bytes) -> Path:
    """A file of this content."""
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def import_file(home: Home, path: Path, **config: Any) -> Imported:
    from engine.data import import_job

    job = make_job(home, "import", {"name": path.name, "source": {"path": str(path)}, **config})
    job.phases = JobProgress(import_job.phases(job.spec))
    result = import_job.run(job)
    rows = read(home.rows(result["fingerprint"]))
    skipped = read(home.skipped(result["fingerprint"]))
    assert (len(rows), len(skipped)) == (result["row_count"], result["skipped_count"])
    events = [json.loads(line) for line in job.dir.events.read_text().splitlines()]
    return Imported(result, rows, skipped, events)


def read(path: Path) -> list[dict[str, Any]]:
    table: pa.Table = pq.read_table(path)
    return table.to_pylist()


def open_file(home: Home, path: Path, **options: Any) -> Reader:
    return open_source(home, Source(path=str(path)), **options)


def read_all(
    home: Home, path: Path, **options: Any
) -> tuple[list[tuple[int, dict]], list[tuple[int, str]], Reader]:
    """(line, row) of what was read, (line, reason) of what was skipped, and the reader afterwards."""
    reader = open_file(home, path, **options)
    items = list(reader.rows())
    reader.close()
    good = [(line, row) for line, row in items if isinstance(row, dict)]
    bad = [(line, row.reason) for line, row in items if isinstance(row, SkippedRow)]
    return good, bad, reader


def reasons(reader: Reader) -> str:
    return "\n".join(problem.reason for problem in reader.problems)
