"""Scheduling of jobs, as one function of the time: `Scheduler.step(now)`.

A step reads what workers have reported, ends jobs whose worker has ended, stops cancelled ones, and starts
what can start. It never waits. All its state is in the store and in the job folders, so that the next engine
continues where this one was killed: a live worker is followed by folder, pid and start time, an ended one is
judged by its folder, and a claimed job whose worker never started is started again (the folder's lock makes a
second worker harmless).

Invariant: a job is ended only after its events.jsonl was read to the end.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from datetime import datetime

import psutil

from engine.server.file_removal import remove_noted
from engine.server.job_handling import JobHandlers
from engine.server.job_outcomes import (
    Ending,
    build_ending,
    build_external_stop_error,
    build_lost_ending,
    clear_logged,
    clear_partial_files,
    clear_unfinished_output,
)
from engine.server.local_launcher import Launcher, Worker
from engine.worker.process import describe_error
from store.core.errors import TunebenchError
from store.core.home import Home
from store.core.job_folder import MAX_READ, JobDir, read_events, read_json
from store.core.job_kinds import ACTIVE, JOB_KINDS, PROCESSOR
from store.core.processes import is_recent
from store.core.schemas import ErrorDocument, Job, JobState, WaitingJob
from store.db.database import Database, Queryable, Transaction
from store.http.machine import GIB
from store.jobs import job_queue
from store.jobs.event_ingest import EventBatch, ingest, ingest_many
from store.jobs.schemas import Outcome, WorkerRecord
from store.runs import runs

log = logging.getLogger(__name__)

ANNOUNCE_SECONDS = 180.0  # time for a worker to announce itself, including imports on a busy machine
CANCEL_SECONDS = 60.0  # from SIGTERM to SIGKILL, to write a checkpoint

DRAINED = 4  # maximum reads of one ended job's events per step, so that others get their turn
BUSY_SECONDS = 0.5  # between steps while there are jobs
IDLE_SECONDS = 10.0  # between steps without jobs; a command wakes the scheduler anyway

MIN_FREE_MEMORY_SHARE = 0.5  # share of the machine's memory, for jobs beside a training


class Scheduler:
    """Claim, follow and end jobs. `devices`: for jobs of the device lane, one at a time each."""

    def __init__(
        self,
        database: Database,
        launcher: Launcher,
        home: Home,
        devices: Sequence[str],
        handlers: JobHandlers,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.database = database
        self.launcher = launcher
        self.home = home
        self.devices = list(devices)
        self.handlers = handlers
        self.clock = clock
        self._launched: dict[str, float] = {}  # job -> time when this engine started its worker
        self._terminated: dict[str, float] = {}  # job -> time when this engine asked its worker to stop
        self._troubled: dict[str, str] = {}  # job -> error of the last step
        self._halted: dict[str, str | None] = {}  # job with a stopped worker -> its last progress message
        self._behind: set[str] = set()  # jobs with more events than the last step read

    def step(self, now: float | None = None) -> float:
        """Synchronize store and workers; return the maximum seconds until the next step."""
        at = self.clock() if now is None else now
        active = job_queue.with_status(self.database, ACTIVE)
        self._forget({job.job_id for job in active})
        self._behind = self._take_events(active)
        for job in active:
            self._guarded(self._follow, job, at)
        waiting = job_queue.list_waiting(self.database)
        if waiting:
            for job in self._claim(at):
                self._guarded(self._launch, job, at)
        return 0.0 if self._behind else BUSY_SECONDS if active or waiting else IDLE_SECONDS

    def _guarded(self, act: Callable[[Job, float], None], job: Job, at: float) -> None:
        """Handle one job; its errors must not affect the others."""
        try:
            act(job, at)
        except Exception as error:  # noqa: BLE001 (one of the three borders)
            self._note_trouble(job, error)

    def _note_trouble(self, job: Job, error: Exception) -> None:
        if self._troubled.get(job.job_id) != repr(error):  # log once, not twice a second
            log.error("%s (%s) could not be handled", job.title, job.job_id, exc_info=error)
        self._troubled[job.job_id] = repr(error)

    def _forget(self, active: set[str]) -> None:
        self._launched = {job: at for job, at in self._launched.items() if job in active}
        self._terminated = {job: at for job, at in self._terminated.items() if job in active}
        self._halted = {job: message for job, message in self._halted.items() if job in active}
        self._troubled = {job: error for job, error in self._troubled.items() if job in active}

    # -- reports of workers -------------------------------------------------------------------------

    def _folder(self, job: Job) -> JobDir:
        return JobDir(self.home.jobs / job.job_id)

    def _worker_of(self, job: Job) -> Worker:
        """Return the job's worker, which has announced itself."""
        pid, started = job.pid, job.process_started
        assert pid is not None
        assert started is not None  # written together
        return Worker(self._folder(job).path, pid, started)

    def _take_events(self, active: list[Job]) -> set[str]:
        """Read new events of every active folder once; return the jobs that have more."""
        batches, behind = [], set()
        for job in active:
            old = job.event_offset
            try:
                events, new = read_events(self._folder(job).events, old)
            except OSError as error:
                self._note_trouble(job, error)
                continue
            if new > old:
                batches.append(EventBatch(job.job_id, events, new, old))
                if new - old > MAX_READ // 2:
                    behind.add(job.job_id)
        if batches:
            ingest_many(self.database, batches)
        return behind

    def _drain(self, job: Job) -> bool:
        """Read the remaining events of an ended worker's folder; return whether these were all."""
        offset = job_queue.get_job(self.database, job.job_id).event_offset
        for _ in range(DRAINED):
            events, new = read_events(self._folder(job).events, offset)
            if new == offset:
                return True
            ingest(self.database, job.job_id, events, new, offset)
            offset = new
        self._behind.add(job.job_id)
        return False

    def _follow(self, job: Job, at: float) -> None:
        """Follow one active job: end it with its worker, and stop it if cancelled."""
        folder = self._folder(job)
        if (outcome := read_json(folder.result)) is not None:
            self._end(job, at, _build_ending(job, folder, outcome))
            return
        if job.pid is None and not self._notice(job, folder):
            self._await_worker(job, folder, at)
            return
        if self.launcher.alive(self._worker_of(job)):
            if job.cancel_requested_at:
                self._stop(job, job.cancel_requested_at, at)
            else:
                self._note_halt(job)
            return
        outcome = read_json(folder.result)  # may have been written between the two checks
        if outcome is not None:
            self._end(job, at, _build_ending(job, folder, outcome))
        else:
            self._end(job, at, build_lost_ending(job, folder, self._last_exit(job)))

    def _note_halt(self, job: Job) -> None:
        """Report that a worker is stopped by a signal, until it continues."""
        job_id, message = job.job_id, job.progress_message
        halted = self.launcher.halted(self._worker_of(job))
        if halted == (message == _describe_halt(job)):  # an earlier engine may have reported it
            return
        if halted:
            self._halted[job_id], message = message, _describe_halt(job)
        else:
            message = self._halted.pop(job_id, None)
        with self.database.transaction() as tx:
            job_queue.update(tx, job_id, progress_message=message, eta_seconds=None)

    def _notice(self, job: Job, folder: JobDir) -> bool:
        """Record the worker's pid and start time once it has announced itself."""
        worker: WorkerRecord | None = read_json(folder.worker)
        if worker is None:
            return False
        job.pid, job.process_started = worker["pid"], worker["started"]
        with self.database.transaction() as tx:
            job_queue.announce(tx, job.job_id, worker["pid"], worker["started"])
        return True

    def _await_worker(self, job: Job, folder: JobDir, at: float) -> None:
        """Handle a claimed job without a worker: start it once per engine; in the end it is lost."""
        launched = self._launched.get(job.job_id)
        if launched is None:
            if job.cancel_requested_at:
                self._end(job, at, Ending("cancelled"))
            else:
                self._launch(job, at)
            return
        if self._last_exit(job) is None and is_recent(launched, at, ANNOUNCE_SECONDS):
            return
        if folder.worker.exists() or folder.result.exists():  # written between the two checks
            return
        self._end(job, at, build_lost_ending(job, folder, self._last_exit(job)))

    def _last_exit(self, job: Job) -> int | None:
        """Return the exit code of the job's own worker, if known.

        Code 3 of a worker that has not announced itself is ignored: another worker has the folder.
        """
        seen = self.launcher.last_exit(self._folder(job).path)
        if seen is None or job.pid not in (None, seen.pid) or (job.pid is None and seen.code == 3):
            return None
        return seen.code

    def _stop(self, job: Job, requested_at: datetime, at: float) -> None:
        """Send SIGTERM once, and SIGKILL when the grace period is over."""
        asked_at = self._terminated.get(job.job_id)
        over = at - job_queue.to_epoch(requested_at) >= CANCEL_SECONDS
        over = over or (asked_at is not None and not is_recent(asked_at, at, CANCEL_SECONDS))
        if over or job.job_id not in self._terminated:
            self.launcher.stop(self._worker_of(job), over)
            self._terminated.setdefault(job.job_id, at)

    def _end(self, job: Job, at: float, ending: Ending) -> None:
        """End a job: read its remaining events, then store status, error and result in one transaction.

        If there are more events than a step reads, the next step continues.
        """
        if not self._drain(job):
            return
        if ending.status == "lost" and job.cancel_requested_at:
            ending = Ending("cancelled")  # killed because the user cancelled it
        clear_partial_files(self.home, job)
        clear_logged(self.home, job)
        if ending.status == "finished":
            try:
                with self.database.transaction() as tx:
                    job_queue.finish(tx, job.job_id, "finished", at, result=ending.result)
                    self.handlers.store_result(tx, self.home, job, ending.result or {}, at)
                    # A resume may need these until the result is stored.
                    needed = (self._folder(job).checkpoints, self._folder(job).held)
                    job_queue.note_removals(tx, self.home, [path for path in needed if path.exists()])
            except Exception as error:
                log.exception("The result of %s can't be stored", job.job_id)
                ending = Ending("failed", error=describe_error(error))
            else:
                remove_noted(self.database, self.home)
                return
        clear_unfinished_output(self.database, self.home, job)
        with self.database.transaction() as tx:
            job_queue.finish(tx, job.job_id, ending.status, at, error=ending.error)

    # -- starting jobs ------------------------------------------------------------------------------

    def _claim(self, at: float) -> list[Job]:
        """Claim queued jobs, oldest first, for every free lane; jobs that can never run fail.

        Measuring data may take long and nobody waits for it: in the light lane it starts last, and does not
        block later jobs while it runs. An export is read back in a lane beside the others: it uses a free
        device, otherwise the processor, so that no training waits for it, and only if it leaves the memory
        that a training is about to need.
        """
        claimed: list[Job] = []
        with self.database.transaction() as tx:
            active = job_queue.with_status(tx, ACTIVE)
            busy = {job.device for job in active if holds_device(job)}
            free = [device for device in self.devices if device not in busy]
            light = not any(job.lane == "light" and not _is_in_background(job) for job in active)
            spare = not any(job.lane == "light" for job in active)  # for measuring
            beside = not any(job.lane == "beside" for job in active)
            # lanes and kinds that give way come last
            ready = sorted(
                self._ready(tx, at), key=lambda job: (job.lane == "beside", _is_in_background(job))
            )
            for job in ready:
                if job.lane == "device" and free:
                    device = free.pop(0)
                elif job.lane == "beside" and beside:
                    accelerators = [name for name in free if name != PROCESSOR]
                    if not accelerators and not _has_room(tx, [*active, *claimed]):
                        continue
                    device, beside = (accelerators or [PROCESSOR])[0], False
                elif job.lane == "light" and _is_in_background(job) and spare:
                    device, spare = "cpu", False
                elif job.lane == "light" and not _is_in_background(job) and light:
                    device, light, spare = "cpu", False, False
                else:
                    continue
                job_queue.claim(tx, job.job_id, device, at)
                claimed.append(job_queue.get_job(tx, job.job_id))
        return claimed

    def _ready(self, tx: Transaction, at: float) -> list[WaitingJob]:
        """Return queued jobs whose dependencies have finished; fail those whose dependencies can't finish."""
        waiting = job_queue.list_waiting(tx)
        others = {name for job in waiting if not job.ready for name in job.after_jobs}
        before = job_queue.statuses(tx, others)
        for job in waiting:
            for job_id in () if job.ready else job.after_jobs:
                other = before.get(job_id)
                if other is None or other.status in ("failed", "cancelled", "lost"):
                    error = _build_blocked_error(other, job_id)
                    job_queue.finish(tx, job.job_id, "failed", at, error=error)
                    if own := before.get(job.job_id):  # others may depend on it in turn
                        own.status, own.error = "failed", error
                    break
        return [job for job in waiting if job.ready]

    def _launch(self, job: Job, at: float) -> None:
        """Write the job specification and start a worker, which is not yet known to be alive."""
        try:
            folder = self.handlers.write_spec(self.database, self.home, job)
            self.launcher.start(folder.path, job.kind)
        except (OSError, TunebenchError) as error:  # a full disk, a deleted data set
            self._end(job, at, Ending("failed", error=describe_error(error)))
        self._launched[job.job_id] = at


def _build_ending(job: Job, folder: JobDir, outcome: Outcome) -> Ending:
    """Return the worker's own ending; if it stopped although nobody cancelled the job, with the cause."""
    ending = build_ending(outcome)
    if ending.status == "cancelled" and not ending.error and not job.cancel_requested_at:
        return Ending("cancelled", error=build_external_stop_error(job, folder))
    return ending


def _describe_halt(job: Job) -> str:
    return f"Its process is halted (SIGSTOP); `kill -CONT {job.pid}` lets it go on"


def holds_device(job: Job) -> bool:
    """Whether the job has its device for itself; the processor is shared with jobs of the lane beside."""
    return job.lane == "device" or (job.lane == "beside" and job.device != PROCESSOR)


def measure_memory(pid: int | None) -> int:
    """Return the resident memory of a process in bytes; 0 if there is none."""
    if pid is None:
        return 0
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


def _has_room(db: Queryable, active: Sequence[Job]) -> bool:
    """Whether another job may load models on the processor beside these.

    The memory that these may still allocate, by their estimates, must leave MIN_FREE_MEMORY_SHARE of the
    machine's memory available.
    """
    if not active:
        return True
    most = [(runs.get_max_memory_gib(db, job.job_id) or 0.0) * GIB for job in active]
    yet = sum(max(0.0, gib - measure_memory(job.pid)) for gib, job in zip(most, active, strict=True))
    memory = psutil.virtual_memory()
    return bool(memory.available - yet >= MIN_FREE_MEMORY_SHARE * memory.total)


def _is_in_background(job: Job | WaitingJob) -> bool:
    return JOB_KINDS[job.kind].in_background


def _build_blocked_error(other: JobState | None, job_id: str) -> ErrorDocument:
    title = other.title if other else job_id
    what = other.status if other else "deleted"
    because = f" {other.error['message']}" if other and other.error else ""
    return {
        "error": "StateError",
        "message": f"It waited for “{title}”, which was {what}.{because}".replace("was failed", "failed"),
        "fix": "Fix that, then resume this.",
        "field": "",
    }
