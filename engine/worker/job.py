"""A job's interface in its worker: specification, folder, reporting, and phases.

A kind of job declares `phases` beside its `run`, each with the prefixes of its messages and its usual
share of the time; from these one remaining time for the whole job is estimated, in whichever phase it is.
Tests check that every message belongs to a phase of its kind.

A job function takes a `WorkerJob`, reports through it, and returns the `result` document. It calls
`job.check_cancelled()` between pieces of work; after SIGTERM this raises `JobCancelled`, which the job may
catch to write a checkpoint before re-raising.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from store.core.address_policy import AddressPolicy
from store.core.documents import as_json, parse_document
from store.core.home import Home
from store.core.job_folder import JobDir, read_json
from store.jobs.schemas import AlertEvent, Event, JobSpec, Level, RewindEvent

MIN_PHASE_SHARE = 0.05  # minimum share of the whole seen before its time is estimated


@dataclass(frozen=True)
class Phase:
    """One phase of a job.

    beginnings: prefixes of its messages; if several phases match, the longest prefix wins. share: of the
    job's time, in a unit common to all of its phases; 0 if its time is unrelated to theirs, as for loading
    a model: it is then neither counted nor predicted.
    """

    beginnings: str | tuple[str, ...] = ""
    share: float = 1.0

    def fit(self, message: str) -> int:
        """Return the length of the longest matching prefix; -1 if none matches."""
        beginnings = (self.beginnings,) if isinstance(self.beginnings, str) else self.beginnings
        return max((len(each) for each in beginnings if message.startswith(each)), default=-1)


Phases = tuple[Phase, ...]


def build_fixed_phases(*phases: Phase) -> Callable[[JobSpec], Phases]:
    """Return a function that gives the same phases for any specification; none for a job without messages."""
    return lambda spec: phases


ONE_PHASE = build_fixed_phases(Phase())  # for a job that reports its progress from beginning to end


def find_phase(phases: Sequence[Phase], message: str) -> int | None:
    """Return the index of the phase that the message belongs to, or None."""
    fits = [phase.fit(message) for phase in phases]
    best = max(fits, default=-1)
    return None if best < 0 else fits.index(best)


@dataclass
class PhaseProgress:
    """Progress of one phase.

    first: fraction done at its first report, for example of a resumed run; fraction: done now. seconds:
    spent in it since; ends: time of its end, by an estimate of its own. again: it continues after its end,
    so that its remaining time is unknown.
    """

    share: float
    first: float | None = None
    fraction: float = 0.0
    seconds: float = 0.0
    ends: float | None = None
    again: bool = False

    @property
    def timed(self) -> float:
        """Return the part of its share that its seconds cover once it has ended; 0 before it begins."""
        return 0.0 if self.first is None else self.share * (1 - self.first)

    @property
    def seen(self) -> float:
        """Return the part of its share done so far in its seconds."""
        return 0.0 if self.first is None else self.share * (self.fraction - self.first)

    def reach(self, fraction: float, now: float, ends_in: float | None) -> None:
        """Record the fraction done.

        A pass that begins again, or continues beyond its own estimate, sets `again`.
        """
        if ends_in is not None:
            self.ends, self.again = now + ends_in, False
        elif self.fraction >= 1 > fraction or (self.ends is not None and now >= self.ends):
            self.again = True
        self.fraction = max(self.fraction, fraction)
        if self.first is None:
            self.first = self.fraction

    def seconds_left(self, now: float, past: float, past_share: float) -> float | None:
        """Estimate the seconds until it ends, from its own speed and that of earlier phases.

        past, past_share: seconds and shares of the earlier phases. Its own speed has more weight the more
        of it is done, and the larger it is compared with the ended phases, so that the estimate moves
        smoothly from the one to the other. None without either, or if it is done again.
        """
        if self.again:
            return None
        if self.ends is not None:
            return max(0.0, self.ends - now)
        seen = self.seen
        if not seen + past_share:
            return None
        if not seen:
            return (1 - self.fraction) * self.share * past / past_share
        trust = 1 - (1 - seen / self.timed) ** 2 * past_share / (seen + past_share)
        foreseen = past / past_share if past_share else 0.0
        return (1 - self.fraction) * self.share * (trust * self.seconds / seen + (1 - trust) * foreseen)


class JobProgress:
    """Progress of a job through its phases, from its messages.

    Earlier phases that never began are left out: neither done nor remaining. One that begins late, or
    again, still becomes the current one.
    """

    def __init__(self, phases: Sequence[Phase], clock: Callable[[], float] = time.monotonic) -> None:
        self._phases, self._clock = tuple(phases), clock
        self._courses = [PhaseProgress(phase.share) for phase in phases]
        self._present: int | None = None
        self._counted = False  # whether time counts for the current phase
        self._now = 0.0

    def reach(self, message: str, fraction: float, ends_in: float | None = None) -> None:
        """Record the fraction done of the message's phase, which never decreases.

        ends_in: seconds until its end, if the job has an estimate of its own. A message of no phase
        continues the current one.
        """
        now = self._clock()
        if self._present is not None and self._counted:
            self._courses[self._present].seconds += now - self._now
        self._now = now
        place = find_phase(self._phases, message)
        if place is None:
            return
        course = self._courses[place]
        self._counted = course.share > 0
        if not self._counted:
            return
        self._present = place
        course.reach(min(1.0, fraction), now, ends_in)

    def seconds_left(self) -> float | None:
        """Estimate the seconds until the job ends, as of the last report; None before enough was seen.

        Later phases are assumed to go at the speed of all so far, including what is left of the current
        one.
        """
        if self._present is None:
            return None
        here = self._courses[self._present]
        over = [course for course in self._courses if course.timed and course is not here]
        past, past_share = sum(each.seconds for each in over), sum(each.timed for each in over)
        coming = sum(each.share for each in self._courses[self._present + 1 :] if each.first is None)
        left = here.seconds_left(self._now, past, past_share)
        seen = past_share + (here.share if here.seen or here.ends is not None else 0.0)
        if left is None or seen < MIN_PHASE_SHARE * (past_share + here.share + coming):
            return None
        timed = past_share + here.timed
        return left + coming * (past + here.seconds + left) / timed if timed else left


class JobCancelled(Exception):
    """Raised when the user asked this job to stop."""


class WorkerJob:
    """One job in its worker process."""

    def __init__(self, path: str | Path) -> None:
        self.dir = JobDir(path)
        self.spec = parse_document(JobSpec, read_json(self.dir.config))
        self.config = self.spec["config"]
        self.home = Home(self.spec["home"])
        self.policy = AddressPolicy.of(self.spec.get("networks", ()), self.home)
        self.device: str = self.spec.get("device", "cpu")
        self.phases: JobProgress | None = None  # phases of its kind, for the remaining time of the whole job
        self.resume: bool = bool(self.spec.get("resume"))
        self.cancel_requested = threading.Event()
        self._write_lock = threading.Lock()
        _truncate_partial_line(self.dir.events)
        self._events = open(self.dir.events, "ab", buffering=0)  # noqa: SIM115 (open as long as the job)

    def _append(self, event: Event) -> None:
        """Append one event in a single write, so that a kill leaves a whole line or a partial last one."""
        line = json.dumps(event, ensure_ascii=False, default=as_json) + "\n"
        with self._write_lock:
            self._events.write(line.encode("utf-8", "replace"))

    def status(self, status: Literal["preparing", "training", "evaluating"]) -> None:
        """Change the status."""
        self._append({"type": "status", "at": time.time(), "status": status})

    def progress(
        self, done: float, total: float, unit: str, message: str = "", eta_seconds: float | None = None
    ) -> None:
        """Report the progress of the current phase; call it about once a second, not for every row.

        eta_seconds: of this phase, if the caller has an estimate of its own. The estimate of the whole job
        is written.
        """
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
        """Report values measured at `step` (optimiser steps done; 0 is the base model)."""
        self._append({"type": "metrics", "at": time.time(), "step": step, "values": values})

    def rewind(self, step: int, prefix: str = "") -> None:
        """Discard metrics after `step` (-1: all) whose name has the prefix."""
        event: RewindEvent = {"type": "rewind", "at": time.time(), "step": step}
        if prefix:
            event["prefix"] = prefix
        self._append(event)

    def facts(self, **facts: Any) -> None:
        """Report facts needed to reproduce or to judge the run: versions, counts, fingerprints."""
        self._append({"type": "facts", "at": time.time(), "facts": facts})

    def alert(
        self, message: str, level: Level = "warning", *, kind: str | None = None, step: int | None = None
    ) -> None:
        """Report something that the user should know, shown on the job's page.

        An alarm of a run has a kind and a step, and is shown on the overview too.
        """
        event: AlertEvent = {"type": "alert", "at": time.time(), "level": level, "message": message}
        if kind is not None:
            event |= {"kind": kind, "step": step}
        self._append(event)

    def check_cancelled(self) -> None:
        """Raise JobCancelled if the user asked to stop."""
        if self.cancel_requested.is_set():
            raise JobCancelled


def _truncate_partial_line(events: Path) -> None:
    """Remove text after the last newline, from an earlier attempt that was killed while writing.

    The engine never reads past the last newline, so nothing that it read is lost.
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
