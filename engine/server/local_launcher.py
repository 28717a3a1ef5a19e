"""Launcher of workers on this machine, by forks of the zygote, or as new processes if that fails.

Starting doesn't wait: the worker announces itself in `worker.json`, and from then on this engine or the next
one can follow it by pid and start time. The engine of a copied home folder has these too, of the original's
workers: only the process that holds the lock of the folder is the folder's own.
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


class WorkerExit(NamedTuple):
    """Exit of a worker that this launcher started; `code` is negative for a signal."""

    pid: int
    code: int


class Worker(NamedTuple):
    """A worker process that has announced itself in its folder."""

    folder: Path
    pid: int
    started: float


class Launcher(Protocol):
    """Interface of a launcher for the scheduler and queries."""

    def start(self, job_dir: Path, kind: str) -> None:
        """Start a worker for the job or query of this kind in this folder; returns at once."""

    def alive(self, worker: Worker) -> bool:
        """Whether the process still works in this folder (`store.core.processes`)."""

    def halted(self, worker: Worker) -> bool:
        """Whether the process exists but is stopped by a signal (SIGSTOP, Ctrl-Z)."""

    def stop(self, worker: Worker, force: bool = False) -> None:
        """Send SIGTERM, or SIGKILL with `force`, to the worker's group, if the pid is still that worker."""

    def last_exit(self, job_dir: Path) -> WorkerExit | None:
        """Return the exit of this folder's last worker, if this launcher saw it."""


log = logging.getLogger(__name__)

SHORT_LIFE = 10.0  # seconds; a zygote that ends sooner after being ready is not restarted
REMEMBERED_EXITS = 1000

WORKER = (sys.executable, "-m", "engine.worker")


class ZygoteReport(TypedDict, total=False):
    """One line of the zygote's output: it is ready, a worker started, or a worker ended."""

    ready: bool
    seconds: float  # seconds of its imports
    problems: list[str]  # modules that could not be imported, each with its reason
    started: str  # path of the job's folder
    ended: str  # path of the job's folder
    pid: int
    code: int  # negative for a signal


class LocalLauncher:
    """Launcher of workers on this machine.

    With `preload=False` each is a new process, started by `command` and its folder. A worker leads its own
    session and process group: it outlives the engine, and a signal to the group reaches its child processes.
    It is identified by pid, start time and the lock of its folder, so that neither a reused pid nor, in a
    copied folder, the original's worker is mistaken for it.
    """

    def __init__(self, preload: bool = True, command: Sequence[str] = WORKER) -> None:
        self.command = list(command)
        self._lock = threading.RLock()
        self._zygote: subprocess.Popen[bytes] | None = None
        self._ready = False  # the zygote has finished its imports
        self._waiting: list[str] = []  # sent to the zygote, not yet started
        self._fresh: dict[str, subprocess.Popen[bytes]] = {}
        self._exits: OrderedDict[str, WorkerExit] = OrderedDict()
        self._closed = False
        if preload:
            self._start_zygote()

    def start(self, job_dir: Path, kind: str) -> None:
        """Start a worker for the job or query of this kind in this folder; returns at once."""
        path = str(job_dir)
        with self._lock:
            self._exits.pop(path, None)
            if self._zygote is None or (JOB_KINDS[kind].without_models and not self._ready):
                self._start_fresh(path)
                return
            self._waiting.append(path)
            self._order(path)

    def alive(self, worker: Worker) -> bool:
        """Whether the process with this pid and start time holds the folder; a zombie is not alive."""
        self._reap_fresh()
        return find_live_process(worker.pid, worker.started, JobDir(worker.folder).lock) is not None

    def halted(self, worker: Worker) -> bool:
        """Whether the process exists but is stopped by a signal (SIGSTOP, Ctrl-Z)."""
        process = find_live_process(worker.pid, worker.started, JobDir(worker.folder).lock)
        try:
            return process is not None and process.status() == psutil.STATUS_STOPPED
        except psutil.NoSuchProcess:
            return False

    def stop(self, worker: Worker, force: bool = False) -> None:
        """Send SIGTERM, or SIGKILL with `force`, to the worker's group, if the pid is still that worker.

        A stopped process is continued, so that it can write its checkpoint.
        """
        if not self.alive(worker):
            return
        try:
            for number in (signal.SIGKILL,) if force else (signal.SIGTERM, signal.SIGCONT):
                if os.getpgid(worker.pid) == worker.pid:
                    os.killpg(worker.pid, number)
                else:
                    os.kill(worker.pid, number)
        except ProcessLookupError:
            return  # it has ended since

    def last_exit(self, job_dir: Path) -> WorkerExit | None:
        """Return the exit of this folder's last worker, if this launcher saw it."""
        self._reap_fresh()
        with self._lock:
            return self._exits.get(str(job_dir))

    def close(self) -> None:
        """End the zygote; workers continue. A zygote still importing, with no worker waiting, is killed."""
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
            start_new_session=True,  # protects it from Ctrl-C in the engine's terminal
        )
        threading.Thread(target=self._listen, args=(self._zygote,), name="zygote", daemon=True).start()

    def _order(self, path: str) -> None:
        stdin = self._zygote.stdin if self._zygote else None
        assert stdin is not None
        try:
            stdin.write(json.dumps({"path": path}).encode() + b"\n")
            stdin.flush()
        except (BrokenPipeError, ValueError):
            log.warning("The zygote is gone; %s starts once this is detected.", path)  # noticed by _listen

    def _listen(self, zygote: subprocess.Popen[bytes]) -> None:
        """Process the zygote's reports until it ends, then start the jobs that it did not start."""
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
        """Start another zygote, or new processes if it would only fail again; no ordered job is lost."""
        self._zygote, self._ready = None, False
        if lived >= SHORT_LIFE:
            log.warning("The zygote ended (exit code %s); another is started.", code)
            self._start_zygote()
            for path in self._waiting:
                self._order(path)
            return
        log.error(
            "The zygote ended (exit code %s) after %.0f s; every job now starts as a new process, which"
            " takes some seconds longer. See above for the reason.",
            code,
            lived,
        )
        for path in self._waiting:
            self._start_fresh(path)
        self._waiting.clear()

    # -- new processes ------------------------------------------------------------------------------

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
    """Return this process's environment, with the package on the path and OpenMP limited to usable cores."""
    environment = dict(os.environ)
    root = str(Path(__file__).resolve().parents[2])
    inherited = environment.get("PYTHONPATH")
    environment["PYTHONPATH"] = root + (os.pathsep + inherited if inherited else "")
    environment.setdefault("OMP_NUM_THREADS", str(count_usable_cores()))
    # Waiting threads spin. The default spins so long that any other work on the machine (the screens, a
    # browser) halves the speed of a step; a short spin costs a few per cent on a quiet machine.
    environment.setdefault("GOMP_SPINCOUNT", "1000")
    return environment


def count_usable_cores() -> int:
    """Return the number of cores this process may use, by its affinity and the quota of its control group."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        cores = os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return cores
    return cores if quota == "max" else max(1, min(cores, round(int(quota) / int(period))))
