"""What jobs told while tests ran, held against the phases that their kinds declare."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from pathlib import Path

from engine.worker.job import find_phase
from store.core.job_folder import JobDir
from store.core.job_kinds import JOB_KINDS


def messages_without_a_phase(folder: Path) -> list[str]:
    """A line for each, with the job's folder; of all jobs anywhere in `folder` that have a row."""
    return [
        f"{kind}: {message!r} ({path})"
        for events in sorted(folder.rglob(JobDir(folder).events.name))
        if events.is_file()  # a test may have put something else in its place
        for path, kind, message in _strangers(events.parent)
    ]


def _strangers(path: Path) -> Iterator[tuple[Path, str, str]]:
    job = JobDir(path)
    order = json.loads(job.config.read_bytes()) if job.config.exists() else {}
    kind = JOB_KINDS.get(order.get("kind", ""))
    messages = _messages(job.events)
    if kind is None or not kind.has_row or not messages:
        return
    # a test may have given a job its data set in memory alone
    phases = importlib.import_module(kind.module).phases({"dataset": {}} | order)
    yield from ((path, kind.name, each) for each in messages if find_phase(phases, each) is None)


def _messages(events: Path) -> list[str]:
    """Each once; the last line may be torn, as of a worker that was killed."""
    lines = [line for line in events.read_bytes().splitlines(keepends=True) if b'"progress"' in line]
    documents = [json.loads(line) for line in lines if line.endswith(b"\n")]
    return list(dict.fromkeys(event["message"] for event in documents if event["type"] == "progress"))
