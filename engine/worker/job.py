"""What a job sees of the world: its order, its folder, and a way to report.

A job function takes a `Job`, reports through it, and returns the `result` document. It asks
`job.check_cancelled()` between pieces of work; SIGTERM makes that raise `Cancelled`, which the job may
catch to leave a checkpoint before it lets it pass.
"""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path
from typing import Any, Literal

from engine.worker.phases import JobPhases
from store.contract.addresses import AddressPolicy
from store.contract.home import Home
from store.contract.jobdir import JobDir, read_json
from store.documents.tables.job_events import AlertEvent, Event, Level, RewindEvent
from store.documents.tables.job_order import JobOrder


class Cancelled(Exception):
    """The user asked this job to stop."""


class WorkerJob:
    """One job in its worker process."""

    def __init__(self, path: str | Path) -> None:
        self.dir = JobDir(path)
        self.order: JobOrder = read_json(self.dir.config)
        self.config = self.order["config"]
        self.home = Home(self.order["home"])
        self.policy = AddressPolicy.of(self.order.get("networks", ()), self.home)
        self.device: str = self.order.get("device", "cpu")
        self.phases: JobPhases | None = None  # of its kind: what is left is told of the whole by them
        self.resume: bool = bool(self.order.get("resume"))
        self.cancel_requested = threading.Event()
        self._write_lock = threading.Lock()
        _cut_torn_line(self.dir.events)
        self._events = open(self.dir.events, "ab", buffering=0)  # noqa: SIM115 (open as long as the job)

    def _append(self, event: Event) -> None:
        """Append one event in a single write, so that a kill leaves a whole line or a torn last one."""
        line = json.dumps(event, ensure_ascii=False) + "\n"
        with self._write_lock:
            self._events.write(line.encode("utf-8", "replace"))

    def status(self, status: Literal["preparing", "training", "evaluating"]) -> None:
        """Move to another state."""
        self._append({"type": "status", "at": time.time(), "status": status})

    def progress(
        self, done: float, total: float, unit: str, message: str = "", eta_seconds: float | None = None
    ) -> None:
        """How far the present phase is; call it about once a second, not at every row. eta_seconds: of this
        phase, where the caller has an estimate of its own. What is written down is that of the whole job."""
        if self.phases is not None:
            self.phases.reach(message, done / total if total else 0.0, eta_seconds)
            eta_seconds = self.phases.seconds_left()
        self._append(
            {
                "type": "progress",
                "at": time.time(),
                "done": done,
                "total": total,
                "unit": unit,
                "message": message,
                "eta_seconds": eta_seconds,
            }
        )

    def metrics(self, step: int, values: dict[str, float]) -> None:
        """Numbers measured at `step` (optimiser steps done; 0 is the base model)."""
        self._append({"type": "metrics", "at": time.time(), "step": step, "values": values})

    def rewind(self, step: int, prefix: str = "") -> None:
        """Void what was measured after `step` (-1: all), of metrics whose name has the prefix."""
        event: RewindEvent = {"type": "rewind", "at": time.time(), "step": step}
        if prefix:
            event["prefix"] = prefix
        self._append(event)

    def facts(self, **facts: Any) -> None:
        """What must be known to repeat or to judge the run: versions, counts, fingerprints."""
        self._append({"type": "facts", "at": time.time(), "facts": facts})

    def alert(
        self, message: str, level: Level = "warning", *, kind: str | None = None, step: int | None = None
    ) -> None:
        """Something that the user should know, shown on the job's page; a verdict has a kind and a step, and
        is shown on the overview too."""
        event: AlertEvent = {"type": "alert", "at": time.time(), "level": level, "message": message}
        if kind is not None:
            event |= {"kind": kind, "step": step}
        self._append(event)

    def check_cancelled(self) -> None:
        """Raise Cancelled if the user asked to stop."""
        if self.cancel_requested.is_set():
            raise Cancelled


def _cut_torn_line(events: Path) -> None:
    """Drop what follows the last newline: an earlier attempt was killed while it wrote it.

    The engine never reads past the last newline, so nothing that was taken is lost.
    """
    if not events.exists():
        return
    with open(events, "rb+") as file:
        size = file.seek(0, os.SEEK_END)
        position = size
        while position > 0:
            step = min(65_536, position)
            file.seek(position - step)
            newline = file.read(step).rfind(b"\n")
            if newline >= 0:
                position = position - step + newline + 1
                break
            position -= step
        if position != size:
            file.truncate(position)
