"""What has the machine while somebody talks, how much memory it leaves, and how much talking slows it.

A run says what it will take at most before it starts; what it doesn't hold yet of that is still its own. So
models may stand beside a run that has not reached its peak, and never take what it is about to need. Of other
jobs nobody knows what they will take: models wait for their end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import psutil

from engine.server.scheduling.scheduler import holds_device, memory_of
from store.contract.states import ACTIVE
from store.db.database import Queryable
from store.documents.tables.job import Job
from store.http.machine import GIB, read_gpus
from store.queries import jobs
from store.queries.runs import runs

RESERVE = GIB // 2  # that is left to everything else
MIN_STEPS = 5  # of a run with answers, and without, before their times are compared


@dataclass(frozen=True)
class MachineUse:
    """A job that has the machine, or is about to. `seconds_left`: by its own count, None where it has none;
    `spare`: bytes beyond what it may still take, None where nobody knows what that is."""

    job_id: str
    title: str
    seconds_left: float | None
    spare: int | None
    steps: float | None = None  # that it has trained


def machine_use(db: Queryable, devices: Sequence[str], held: int, gpu_held: int) -> MachineUse | None:
    """The job that models share the machine with or give way to: one that has a device or may begin, while
    none is free beside it. held: bytes of the models' process, which count as spare; gpu_held: of the GPU.
    """
    active = [job for job in jobs.with_status(db, ACTIVE) if holds_device(job)]
    ready = [job for job in jobs.waiting(db) if job["lane"] == "device" and job["ready"]]
    if len(active) + len(ready) < len(devices):
        return None
    own = devices[-1]
    job = next((job for job in active if job["device"] == own), active[0] if active else None)
    if job is None:
        job = jobs.get_job(db, ready[0]["job_id"])
    spare = _spare(db, job, own, gpu_held if own.startswith("cuda") else held)
    training = job["progress_unit"] == "steps" and job["progress_message"] == "Training"
    return MachineUse(
        job["job_id"], job["title"], job["eta_seconds"], spare, job["progress_done"] if training else None
    )


def _spare(db: Queryable, job: Job, device: str, held: int) -> int | None:
    most = runs.most_memory_gib(db, job["job_id"])
    if most is None:
        return None
    if device.startswith("cuda"):
        gpu = next((gpu for gpu in read_gpus() if gpu["index"] == int(device.partition(":")[2] or 0)), None)
        if gpu is None or gpu["memory_used_gib"] is None or gpu["memory_total_gib"] is None:
            return None
        used = int(gpu["memory_used_gib"] * GIB) - held
        free, taken = int(gpu["memory_total_gib"] * GIB) - used, used
    else:
        free, taken = int(psutil.virtual_memory().available) + held, memory_of(job["pid"])
    return int(free - max(0, most * GIB - taken) - RESERVE)


class Slowdown:
    """How many times longer a step of one run takes while models answer, by the run's own steps."""

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        self._last: tuple[float, float, bool] | None = None  # time, steps, whether models answered
        self._seen = {True: (0.0, 0.0), False: (0.0, 0.0)}  # seconds and steps, with answers and without

    def note(self, at: float, steps: float | None, answering: bool) -> None:
        """Take in how many steps the run has trained now, None while it does something else. What lies
        between two looks counts where both found models answering, or both found them silent."""
        if steps is None:
            self._last = None
            return
        before = self._last
        if before is None or before[2] != answering:
            self._last = (at, steps, answering)
        elif steps > before[1]:
            seconds, seen = self._seen[answering]
            self._seen[answering] = seconds + at - before[0], seen + steps - before[1]
            self._last = (at, steps, answering)

    @property
    def times(self) -> float | None:
        """None until enough steps were seen with answers and without."""
        (with_seconds, with_steps), (seconds, steps) = self._seen[True], self._seen[False]
        if min(with_steps, steps) < MIN_STEPS or seconds <= 0:
            return None
        return (with_seconds / with_steps) / (seconds / steps)
