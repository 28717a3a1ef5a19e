"""What a job sees of the world: its order, its folder, a way to report, and its phases.

A kind of job declares `phases` beside its `run`, each with what its messages begin with and its usual share
of the time; one remaining time for the whole is worked out of them, whichever phase the job is in. Tests
see to it that every message belongs to a phase of its kind.
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

# The phases of a job, and one remaining time for the whole of it, whichever phase it is in.
#
# A kind of job declares `phases` beside its `run`: what it goes through by its order, each phase with what
# its messages begin with and the share of the time that it usually takes. Tests see to it that every
# message that is told belongs to a phase of its kind.

MIN_PHASE_SHARE = 0.05  # of the whole: phases that are less of it say nothing of how long it takes


@dataclass(frozen=True)
class Phase:
    """One phase. beginnings: of the messages that are told in it; where several phases have one, the longest
    counts. share: of the job's time, in any unit that is one for all of its phases; 0 where nothing relates
    its time to theirs, as that of loading a model: it is neither counted nor foreseen."""

    beginnings: str | tuple[str, ...] = ""
    share: float = 1.0

    def fit(self, message: str) -> int:
        """Characters of the longest beginning that the message has; -1 where it has none."""
        beginnings = (self.beginnings,) if isinstance(self.beginnings, str) else self.beginnings
        return max((len(each) for each in beginnings if message.startswith(each)), default=-1)


Phases = tuple[Phase, ...]


def build_fixed_phases(*phases: Phase) -> Callable[[JobSpec], Phases]:
    """The same phases whatever the order; without one, that of a job which says nothing on its way."""
    return lambda spec: phases


ONE_PHASE = build_fixed_phases(
    Phase()
)  # of a job that tells from beginning to end how much of its work is done


def find_phase(phases: Sequence[Phase], message: str) -> int | None:
    """Which of the phases the message belongs to; None for none."""
    fits = [phase.fit(message) for phase in phases]
    best = max(fits, default=-1)
    return None if best < 0 else fits.index(best)


@dataclass
class PhaseProgress:
    """How one phase goes. first: what of it was done when it was told of first, as of a run that goes on;
    fraction: what is now. seconds: spent in it in between; ends: when, by the clock and by an estimate of its
    own. again: it goes on after its end, so that nobody knows for how long."""

    share: float
    first: float | None = None
    fraction: float = 0.0
    seconds: float = 0.0
    ends: float | None = None
    again: bool = False

    @property
    def timed(self) -> float:
        """What of its share its seconds are for, once it is over; 0 before it begins."""
        return 0.0 if self.first is None else self.share * (1 - self.first)

    @property
    def seen(self) -> float:
        """What of its share was done so far, in its seconds."""
        return 0.0 if self.first is None else self.share * (self.fraction - self.first)

    def reach(self, fraction: float, now: float, ends_in: float | None) -> None:
        """So much of it is done. A pass that begins anew, or goes on beyond its own estimate, is again."""
        if ends_in is not None:
            self.ends, self.again = now + ends_in, False
        elif self.fraction >= 1 > fraction or (self.ends is not None and now >= self.ends):
            self.again = True
        self.fraction = max(self.fraction, fraction)
        if self.first is None:
            self.first = self.fraction

    def seconds_left(self, now: float, past: float, past_share: float) -> float | None:
        """Until it is over: by its own speed so far and by that of the phases before, which took `past`
        seconds for their shares. Its own counts for more the more of it is done, and the more that is beside
        what is over, so that the figure moves steadily from the one to the other. None where neither is, or
        it is done again."""
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
    """The phases of one job on its way, by what it tells.

    Those that lie before the present one and were never begun are left out: neither done nor left. One that
    is begun late, or again, is the present one all the same.
    """

    def __init__(self, phases: Sequence[Phase], clock: Callable[[], float] = time.monotonic) -> None:
        self._phases, self._clock = tuple(phases), clock
        self._courses = [PhaseProgress(phase.share) for phase in phases]
        self._present: int | None = None
        self._counted = False  # whether time goes into the present phase
        self._now = 0.0

    def reach(self, message: str, fraction: float, ends_in: float | None = None) -> None:
        """So much of the phase that the message belongs to is done; it never becomes less. ends_in: seconds
        until its end, where the job has an estimate of its own. A message of no phase goes on in the present
        one."""
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
        """Until the whole is done, as of what was told last; None before enough of it was seen. Phases to
        come go at the speed of all so far, the present one with what is left of it."""
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


# What a job sees of the world: its order, its folder, and a way to report.
#
# A job function takes a `Job`, reports through it, and returns the `result` document. It asks
# `job.check_cancelled()` between pieces of work; SIGTERM makes that raise `JobCancelled`, which the job may
# catch to leave a checkpoint before it lets it pass.


class JobCancelled(Exception):
    """The user asked this job to stop."""


class WorkerJob:
    """One job in its worker process."""

    def __init__(self, path: str | Path) -> None:
        self.dir = JobDir(path)
        self.spec = parse_document(JobSpec, read_json(self.dir.config))
        self.config = self.spec["config"]
        self.home = Home(self.spec["home"])
        self.policy = AddressPolicy.of(self.spec.get("networks", ()), self.home)
        self.device: str = self.spec.get("device", "cpu")
        self.phases: JobProgress | None = None  # of its kind: what is left is told of the whole by them
        self.resume: bool = bool(self.spec.get("resume"))
        self.cancel_requested = threading.Event()
        self._write_lock = threading.Lock()
        _truncate_partial_line(self.dir.events)
        self._events = open(self.dir.events, "ab", buffering=0)  # noqa: SIM115 (open as long as the job)

    def _append(self, event: Event) -> None:
        """Append one event in a single write, so that a kill leaves a whole line or a torn last one."""
        line = json.dumps(event, ensure_ascii=False, default=as_json) + "\n"
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
            raise JobCancelled


def _truncate_partial_line(events: Path) -> None:
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
