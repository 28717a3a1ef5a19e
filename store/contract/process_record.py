"""The long-lived process on record in `engine.json` or `screens.json`, how it stands, and what it may open.

It is named by pid and start (`store.contract.process_record`), so that another program that got the pid later
is never taken for it.

When a process began, such that with its pid it names one process for good.
"""

from __future__ import annotations

import contextlib
import os
import resource
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from store.contract.jobdir import read_json, write_json

MAX_DESCRIPTORS = 65_536  # a process that is started may go through all numbers that it could have open
_STARTTIME = 19  # of /proc/PID/stat, counted from the field after the name: field 22 of proc(5)


def process_start(pid: int) -> float:
    """Seconds from the start of the machine to that of the process, in steps of 10 ms; elsewhere than on
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


@dataclass(frozen=True)
class ProcessRecord:
    """Where a server answers, and its process."""

    address: str
    pid: int
    started: float

    def process(self) -> psutil.Process | None:
        """The process, or None where it has ended; an ended child that nobody waited for has."""
        try:
            if process_start(self.pid) != self.started:
                return None
            process = psutil.Process(self.pid)
            return None if process.status() == psutil.STATUS_ZOMBIE else process
        except psutil.NoSuchProcess:
            return None

    def is_stopped(self) -> bool:
        """Whether the process is there but was halted by a signal (SIGSTOP, Ctrl-Z)."""
        process = self.process()
        try:
            return process is not None and process.status() == psutil.STATUS_STOPPED
        except psutil.NoSuchProcess:
            return False


def write_record(path: Path, address: str, pid: int, **more: str) -> None:
    """Put a process on record, with what else is to be known of it. Raises psutil.NoSuchProcess."""
    write_json(path, {"address": address, "pid": pid, "started": process_start(pid), **more})


def read_record(path: Path) -> ProcessRecord | None:
    """The process on record; None where there is none. Raises ValueError where the file is no record."""
    document: Any = read_json(path)
    if document is None:
        return None
    try:
        return ProcessRecord(
            str(document["address"]), int(document["pid"]), float(document.get("started", 0))
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is no record of a process") from error


def raise_descriptor_limit() -> int:
    """Let this process have as many descriptors open as the system lets it; how many that is.

    What it begins with, 1,024 as a rule, suits programs that wait by `select(2)`; a server has one or more
    for each that is connected, and one that has no more left answers nobody.
    """
    soft, hard = (_bounded(limit) for limit in resource.getrlimit(resource.RLIMIT_NOFILE))
    if soft < hard:
        with contextlib.suppress(ValueError, OSError):  # a system may allow fewer than it says
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
            return hard
    return soft


def _bounded(limit: int) -> int:
    return MAX_DESCRIPTORS if limit == resource.RLIM_INFINITY else min(limit, MAX_DESCRIPTORS)
