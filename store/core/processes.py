"""Long-lived processes recorded in `engine.json` or `screens.json`: their state, and whether a process is
still the recorded one; and time that is robust against the machine's clock being set back.
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

# Recorded processes.
#
# A process is identified by pid and start time, so that another program that gets the pid later is never
# mistaken for it. It also holds a lock in the folder of its record: a copied home folder has the same
# records, but its locks are files that nobody holds, so that the original's processes are never mistaken for
# the copy's.

MAX_DESCRIPTORS = 65_536  # a child process may iterate over all possible descriptors
_STARTTIME = 19  # index in /proc/PID/stat, from the field after the name: field 22 of proc(5)
_LOOKS, _PAUSE = 5, 0.01  # `is_held` of another process blocks a lock for a moment


def get_process_start(pid: int) -> float:
    """Return the start time of a process, which together with its pid identifies the process permanently.

    Seconds from boot to the start of the process, in steps of 10 ms; on systems other than Linux, seconds
    since 1970.

    psutil's `create_time` adds the boot time, and so changes for every process when the clock is set: after a
    laptop wakes from suspend, all workers would be considered dead. A process from one boot is only mistaken
    for one from another boot if both pid and hundredth of a second are equal.

    Raises psutil.NoSuchProcess.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()  # a name may contain blanks and brackets
    except FileNotFoundError:  # no such process, or not Linux
        return psutil.Process(pid).create_time()
    except ProcessLookupError as error:  # it ended during reading
        raise psutil.NoSuchProcess(pid) from error
    return int(fields[_STARTTIME]) / os.sysconf("SC_CLK_TCK")


def acquire_lock(lock: Path) -> IO[bytes] | None:
    """Hold an exclusive file lock while the returned file is open; None if another process holds it."""
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
    """Hold a shared file lock for as long as the returned file is open."""
    file = open(lock, "a+b")  # noqa: SIM115 (held until it is closed or the process ends)
    fcntl.flock(file, fcntl.LOCK_SH)
    return file


def is_held(lock: Path) -> bool:
    """Return whether any process holds the lock of this very file; that of a copied folder is a different
    file.
    """
    try:
        with open(lock, "r+b") as file:  # writable: NFS requires it for exclusive locks
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def find_live_process(pid: int, started: float, lock: Path | None) -> psutil.Process | None:
    """Return the process, or None if it has ended (zombies included) or if nobody holds `lock`; a lock of
    None is not checked.
    """
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
    """Address of a server and its process, which holds `lock` (None for a child process of this one)."""

    address: str
    pid: int
    started: float
    lock: Path | None = None

    def process(self) -> psutil.Process | None:
        """Return the process, or None if it has ended or belongs to another folder."""
        return find_live_process(self.pid, self.started, self.lock)

    def is_stopped(self) -> bool:
        """Return whether the process exists but was stopped by a signal (SIGSTOP, Ctrl-Z)."""
        process = self.process()
        try:
            return process is not None and process.status() == psutil.STATUS_STOPPED
        except psutil.NoSuchProcess:
            return False


def write_record(path: Path, address: str, pid: int, **more: str) -> None:
    """Record a process with additional fields. Raises psutil.NoSuchProcess."""
    write_json(path, {"address": address, "pid": pid, "started": get_process_start(pid), **more})


def read_record(path: Path) -> ProcessRecord | None:
    """Return the process recorded in NAME.json, which holds NAME.lock next to it; None if there is none.

    Raises ValueError if the file is not a record.
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
    """Raise this process's limit of open descriptors as far as the system allows, and return it.

    The initial limit, usually 1,024, suits programs that wait with `select(2)`; a server needs one or more
    per connection, and without any left it responds to nobody.
    """
    soft, hard = (
        MAX_DESCRIPTORS if limit == resource.RLIM_INFINITY else min(limit, MAX_DESCRIPTORS)
        for limit in resource.getrlimit(resource.RLIMIT_NOFILE)
    )
    if soft < hard:
        with contextlib.suppress(ValueError, OSError):  # a system may allow fewer than it reports
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
            return hard
    return soft


# The machine's clock may be set back: manually, by an empty battery, or by a restored virtual machine.
#
# Time within one process only (sessions, invitations, waits, quotas) comes from a `SteadyClock`. Comparisons
# with times written by others or by an earlier process use `is_recent`: a moment in the future counts as long
# ago, so that nothing stalls until the clock has caught up.


class SteadyClock:
    """Seconds since the epoch that never go backwards: if `clock` does, time advances with `ticks` until it
    has caught up. Thread-safe.
    """

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
    """Return whether `moment` is less than `seconds` ago. False for a moment in the future."""
    return 0 <= now - moment < seconds
