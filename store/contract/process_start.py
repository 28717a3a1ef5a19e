"""When a process began, such that with its pid it names one process for good."""

from __future__ import annotations

import os

import psutil

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
