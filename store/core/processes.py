"""Long-lived processes on record in `engine.json` or `screens.json`: how each stands, and whether it is
still the same one; and time that holds where the clock of the machine is set back.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import psutil

from store.core.job_folder import read_json, write_json

# The long-lived process on record in `engine.json` or `screens.json`, how it stands, and what it may open.
#
# It is named by pid and start, so that another program that got the pid later is never taken for it. And it
# holds a lock of the folder that the record lies in: a copy of a home folder has the same records, but its
# locks are files that nobody holds, so that the original's processes are never taken for the copy's.

MAX_DESCRIPTORS = 65_536  # a process that is started may go through all numbers that it could have open
_STARTTIME = 19  # of /proc/PID/stat, counted from the field after the name: field 22 of proc(5)
_LOOKS, _PAUSE = 5, 0.01  # while somebody looks whether a lock is held, it can't be taken for a moment


def get_process_start(pid: int) -> float:
    """When a process began, such that with its pid it names one process for good.

    Seconds from the start of the machine to that of the process, in steps of 10 ms; elsewhere than on
    Linux seconds since 1970.

    psutil's `create_time` adds the time of the machine's start, and so moves for every process when the clock
    is set: after a suspended laptop woke, all workers would be taken for dead. A process of one start of the
    machine is taken for one of another only where both pid and hundredth of a second are the same.

    Raises psutil.NoSuchProcess.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()  # a name may hold blanks and brackets
    except FileNotFoundError:  # no such process, or no such system
        return psutil.Process(pid).create_time()
    except ProcessLookupError as error:  # it ended while it was read
        raise psutil.NoSuchProcess(pid) from error
    return int(fields[_STARTTIME]) / os.sysconf("SC_CLK_TCK")


def acquire_lock(lock: Path) -> IO[bytes] | None:
    """Hold a lock file for as long as the returned file is open; None where another process holds it."""
    file = open(lock, "ab")  # noqa: SIM115 (held until it is closed or the process ends)
    for _ in range(_LOOKS):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return file
        except BlockingIOError:
            time.sleep(_PAUSE)
    file.close()
    return None


def acquire_shared_lock(lock: Path) -> IO[bytes]:
    """Hold a lock file beside others that share it, for as long as the returned file is open."""
    file = open(lock, "a+b")  # noqa: SIM115 (see `hold`)
    fcntl.flock(file, fcntl.LOCK_SH)
    return file


def is_held(lock: Path) -> bool:
    """Whether any process holds this very file; that of a copied folder is another file."""
    try:
        with open(lock, "r+b") as file:  # to be written: by NFS only such can be held alone
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def find_live_process(pid: int, started: float, lock: Path | None) -> psutil.Process | None:
    """The process, or None where it has ended or nobody holds the lock (None: it needs none); an ended child
    that nobody waited for has."""
    try:
        if get_process_start(pid) != started:
            return None
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
    except psutil.NoSuchProcess:
        return None
    return process if lock is None or is_held(lock) else None


@dataclass(frozen=True)
class ProcessRecord:
    """Where a server answers, and its process, which holds `lock` (None: of a process of this one's own)."""

    address: str
    pid: int
    started: float
    lock: Path | None = None

    def process(self) -> psutil.Process | None:
        """The process, or None where it has ended or is that of another folder."""
        return find_live_process(self.pid, self.started, self.lock)

    def is_stopped(self) -> bool:
        """Whether the process is there but was halted by a signal (SIGSTOP, Ctrl-Z)."""
        process = self.process()
        try:
            return process is not None and process.status() == psutil.STATUS_STOPPED
        except psutil.NoSuchProcess:
            return False


def write_record(path: Path, address: str, pid: int, **more: str) -> None:
    """Put a process on record, with what else is to be known of it. Raises psutil.NoSuchProcess."""
    write_json(path, {"address": address, "pid": pid, "started": get_process_start(pid), **more})


def read_record(path: Path) -> ProcessRecord | None:
    """The process on record in NAME.json, which holds NAME.lock beside it; None where there is none.

    Raises ValueError where the file is no record.
    """
    document: Any = read_json(path)
    if document is None:
        return None
    try:
        return ProcessRecord(
            str(document["address"]),
            int(document["pid"]),
            float(document.get("started", 0)),
            path.with_suffix(".lock"),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is no record of a process") from error


def raise_descriptor_limit() -> int:
    """Let this process have as many descriptors open as the system lets it; how many that is.

    What it begins with, 1,024 as a rule, suits programs that wait by `select(2)`; a server has one or more
    for each that is connected, and one that has no more left answers nobody.
    """
    soft, hard = (_cap_limit(limit) for limit in resource.getrlimit(resource.RLIMIT_NOFILE))
    if soft < hard:
        with contextlib.suppress(ValueError, OSError):  # a system may allow fewer than it says
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
            return hard
    return soft


def _cap_limit(limit: int) -> int:
    return MAX_DESCRIPTORS if limit == resource.RLIM_INFINITY else min(limit, MAX_DESCRIPTORS)


# Time where the machine's clock may be set back: by hand, by a battery that is empty, by a virtual machine
# that was put back.
#
# What hangs on the time within one process alone (sessions, invitations, waits, quotas) is told it by a
# `SteadyClock`. What is held against times that others wrote down, or that an earlier process did, asks
# `is_recent`: a moment that lies ahead is long ago, so that nothing stands still until the clock has caught
# up.


class SteadyClock:
    """Seconds since the epoch that never go back: where `clock` does, they go on by `ticks` until it has
    caught up. May be asked by several threads."""

    def __init__(
        self, clock: Callable[[], float] = time.time, ticks: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock, self._ticks = clock, ticks
        self._lock = threading.Lock()
        self._at, self._ticked = clock(), ticks()

    def __call__(self) -> float:
        with self._lock:
            ticked = self._ticks()
            self._at = max(self._clock(), self._at + ticked - self._ticked)
            self._ticked = ticked
            return self._at


def is_recent(moment: float, now: float, seconds: float) -> bool:
    """Whether less than so many seconds have passed since. Of a moment that lies ahead nobody knows: no."""
    return 0 <= now - moment < seconds
