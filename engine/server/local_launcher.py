"""Starts workers on this machine, by a fork of the zygote, or as fresh processes where it can't.

Starting is fire and forget: the worker announces itself in `worker.json`, and from then on whoever has pid
and start time can follow it, this engine or the next one. The engine of a copied home folder has them too,
of the original's workers: only the one that holds the lock of the folder is the folder's own.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, TypedDict

import psutil

from store.core.job_folder import JobDir
from store.core.job_kinds import JOB_KINDS
from store.core.processes import find_live_process

# Where workers start. A launcher starts one for a job folder, and knows it by folder, pid and start time.
#
# Starting is fire and forget: the worker announces itself in `worker.json`, and from then on whoever has
# pid and start time can follow it, this engine or the next one. The engine of a copied home folder has them
# too, of the original's workers: only the one that holds the lock of the folder is the folder's own.


class WorkerExit(NamedTuple):
    """How a worker that this launcher started has ended. `code` is negative where a signal ended it."""

    pid: int
    code: int


class Worker(NamedTuple):
    """A process that has announced itself in its folder."""

    folder: Path
    pid: int
    started: float


class Launcher(Protocol):
    """What scheduler and asks need of a launcher."""

    def start(self, job_dir: Path, kind: str) -> None:
        """Have a worker take the job or ask of this kind in this folder; returns at once."""

    def alive(self, worker: Worker) -> bool:
        """Whether that process still works in this folder (`store.core.processes`)."""

    def halted(self, worker: Worker) -> bool:
        """Whether that process is there and halted by a signal (SIGSTOP, Ctrl-Z), so that it does nothing."""

    def stop(self, worker: Worker, force: bool = False) -> None:
        """Send SIGTERM, or SIGKILL with `force`, to the worker's process group if it is still that worker."""

    def last_exit(self, job_dir: Path) -> WorkerExit | None:
        """How the last worker of this folder ended, where this launcher saw it end."""


# Starts workers on this machine, by a fork of the zygote, or as fresh processes where it has failed.
#
# A worker is the leader of its own session and process group: it outlives the engine, and a signal to the
# group reaches whatever it started. A process is known by pid, start time and the lock of its folder, so
# that neither a pid that the system gave to someone else is taken for it nor, where the folder was copied,
# the original's worker.

log = logging.getLogger(__name__)

SHORT_LIFE = 10.0  # seconds; a zygote that dies sooner after it was ready is not started again
REMEMBERED_EXITS = 1000

WORKER = (sys.executable, "-m", "engine.worker")


class ZygoteReport(TypedDict, total=False):
    """One line of the zygote: that it is ready, that a worker started, or that one ended."""

    ready: bool
    seconds: float  # that its imports took
    problems: list[str]  # modules that could not be imported, each with its reason
    started: str  # path of the job's folder
    ended: str  # path of the job's folder
    pid: int
    code: int  # negative where a signal ended it


class LocalLauncher:
    """Workers on this machine. `preload=False` starts each as a fresh process, by `command` + its folder."""

    def __init__(self, preload: bool = True, command: Sequence[str] = WORKER) -> None:
        self.command = list(command)
        self._lock = threading.RLock()
        self._zygote: subprocess.Popen[bytes] | None = None
        self._ready = False  # the zygote has its imports done
        self._waiting: list[str] = []  # given to the zygote, not yet started by it
        self._fresh: dict[str, subprocess.Popen[bytes]] = {}
        self._exits: OrderedDict[str, WorkerExit] = OrderedDict()
        self._closed = False
        if preload:
            self._start_zygote()

    def start(self, job_dir: Path, kind: str) -> None:
        """Have a worker take the job or ask of this kind in this folder; returns at once."""
        path = str(job_dir)
        with self._lock:
            self._exits.pop(path, None)
            if self._zygote is None or (JOB_KINDS[kind].without_models and not self._ready):
                self._start_fresh(path)
                return
            self._waiting.append(path)
            self._order(path)

    def alive(self, worker: Worker) -> bool:
        """Whether the process with this pid started then and holds the folder; a zombie is not alive."""
        self._reap_fresh()
        return find_live_process(worker.pid, worker.started, JobDir(worker.folder).lock) is not None

    def halted(self, worker: Worker) -> bool:
        """Whether that process is there and halted by a signal (SIGSTOP, Ctrl-Z), so that it does nothing."""
        process = find_live_process(worker.pid, worker.started, JobDir(worker.folder).lock)
        try:
            return process is not None and process.status() == psutil.STATUS_STOPPED
        except psutil.NoSuchProcess:
            return False

    def stop(self, worker: Worker, force: bool = False) -> None:
        """SIGTERM, or SIGKILL with `force`, to the worker's group, if this pid is still that worker. One that
        is halted goes on, so that it can leave its checkpoint."""
        if not self.alive(worker):
            return
        try:
            for number in (signal.SIGKILL,) if force else (signal.SIGTERM, signal.SIGCONT):
                if os.getpgid(worker.pid) == worker.pid:
                    os.killpg(worker.pid, number)
                else:
                    os.kill(worker.pid, number)
        except ProcessLookupError:
            return  # it ended in between

    def last_exit(self, job_dir: Path) -> WorkerExit | None:
        """How the last worker of this folder ended, where this launcher saw it end."""
        self._reap_fresh()
        with self._lock:
            return self._exits.get(str(job_dir))

    def close(self) -> None:
        """End the zygote; workers go on. One that still imports, for nobody, does not import to its end."""
        with self._lock:
            self._closed = True
            zygote, idle = self._zygote, not self._ready and not self._waiting
        if zygote and zygote.stdin:
            zygote.stdin.close()
            if idle:
                zygote.kill()

    # -- the zygote ---------------------------------------------------------------------------------

    def _start_zygote(self) -> None:
        self._zygote = subprocess.Popen(
            [sys.executable, "-m", "engine.server.zygote"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=build_worker_environment(),
            start_new_session=True,  # Ctrl-C in the engine's terminal is not for it
        )
        threading.Thread(target=self._listen, args=(self._zygote,), name="zygote", daemon=True).start()

    def _order(self, path: str) -> None:
        stdin = self._zygote.stdin if self._zygote else None
        assert stdin is not None
        try:
            stdin.write(json.dumps({"path": path}).encode() + b"\n")
            stdin.flush()
        except (BrokenPipeError, ValueError):
            log.warning("The zygote is gone; %s starts once that is noticed.", path)  # by _listen

    def _listen(self, zygote: subprocess.Popen[bytes]) -> None:
        """Take what the zygote reports, until it ends; then see to the jobs that it did not start."""
        assert zygote.stdout is not None
        ready_at: float | None = None
        for line in zygote.stdout:
            document: ZygoteReport = json.loads(line)
            if "ready" in document:
                ready_at = time.monotonic()
                self._ready = True
                log.info("Workers are ready to start (imports took %s s).", document["seconds"])
                for problem in document["problems"]:
                    log.warning("Not preloaded: %s", problem)
            self._note(document)
        code = zygote.wait()
        lived = time.monotonic() - ready_at if ready_at else 0.0
        with self._lock:
            if not self._closed:
                self._replace(code, lived)

    def _note(self, document: ZygoteReport) -> None:
        with self._lock:
            if "started" in document and document["started"] in self._waiting:
                self._waiting.remove(document["started"])
            elif "ended" in document:
                self._remember(document["ended"], document["pid"], document["code"])

    def _replace(self, code: int, lived: float) -> None:
        """Another zygote, or fresh processes where it would only die again; nothing ordered is lost."""
        self._zygote, self._ready = None, False
        if lived >= SHORT_LIFE:
            log.warning("The zygote ended (exit code %s); another is started.", code)
            self._start_zygote()
            for path in self._waiting:
                self._order(path)
            return
        log.error(
            "The zygote ended (exit code %s) after %.0f s; every job now starts as a fresh process, which"
            " takes some seconds more. Its reason stands above.",
            code,
            lived,
        )
        for path in self._waiting:
            self._start_fresh(path)
        self._waiting.clear()

    # -- fresh processes ----------------------------------------------------------------------------

    def _start_fresh(self, path: str) -> None:
        self._fresh[path] = subprocess.Popen(
            [*self.command, path],
            stdin=subprocess.DEVNULL,
            env=build_worker_environment(),
            start_new_session=True,
        )

    def _reap_fresh(self) -> None:
        with self._lock:
            for path, process in list(self._fresh.items()):
                if process.poll() is not None:
                    self._remember(path, process.pid, process.returncode)
                    del self._fresh[path]

    def _remember(self, path: str, pid: int, code: int) -> None:
        self._exits[path] = WorkerExit(pid, code)
        while len(self._exits) > REMEMBERED_EXITS:
            self._exits.popitem(last=False)


def build_worker_environment() -> dict[str, str]:
    """This process's environment, with the package on the path and OpenMP told of the usable cores."""
    environment = dict(os.environ)
    root = str(Path(__file__).resolve().parents[2])
    inherited = environment.get("PYTHONPATH")
    environment["PYTHONPATH"] = root + (os.pathsep + inherited if inherited else "")
    environment.setdefault("OMP_NUM_THREADS", str(count_usable_cores()))
    # Threads that wait for each other spin. The default spins so long that any other work on the machine
    # (the screens, a browser) halves a step; a short spin costs a few per cent on a quiet one.
    environment.setdefault("GOMP_SPINCOUNT", "1000")
    return environment


def count_usable_cores() -> int:
    """Cores that this process may run on: its affinity, and the quota of its control group."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        cores = os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return cores
    return cores if quota == "max" else max(1, min(cores, round(int(quota) / int(period))))
