"""What a worker notes of its machine when it begins, so that whoever finds it gone can tell what happened
since: a restart of the machine or of its container, a process that the kernel killed for want of memory."""

from __future__ import annotations

from pathlib import Path

import psutil

from store.contract.process_record import process_start
from store.documents.tables.job_events import KernelCount

_GROUPS, _MOUNT = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")
_BOOT, MACHINE_COUNTS = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/vmstat")


def machine_start() -> str:
    """Names this start of the machine; "" where the system has no name for it."""
    try:
        return _BOOT.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def was_restarted(boot: str, started: float) -> bool:
    """Whether the machine, or the container that this process is in, began anew since a process that began at
    `started` (`process_start`) noted `boot`."""
    if boot and boot != machine_start():
        return True
    try:
        return process_start(1) > started  # a container's first process; a machine's is older than all others
    except psutil.Error:
        return False


def memory_kills() -> KernelCount | None:
    """How many processes the kernel has killed for want of memory, in this process's control group where that
    is counted, else on the whole machine; None where neither can be read."""
    for path in (*_counts_of_group(), MACHINE_COUNTS):
        count = count_kills(path)
        if count is not None:
            return {"path": str(path), "count": count}
    return None


def count_kills(path: Path) -> int | None:
    """The `oom_kill` of a file of the kernel's counts; None where it has none."""
    try:
        lines = path.read_text(encoding="ascii").splitlines()
        return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), None)
    except (OSError, ValueError):
        return None


def _counts_of_group() -> list[Path]:
    """Where the counts of the control group of this process may lie, of both versions of control groups; in a
    container that is shown as the root of its own."""
    paths = []
    try:
        groups = _GROUPS.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    for line in groups:
        _, controllers, group = line.split(":", 2)
        if not controllers:
            paths += [_MOUNT / group.strip("/") / "memory.events", _MOUNT / "memory.events"]
        elif "memory" in controllers.split(","):
            folder = _MOUNT / "memory"
            paths += [folder / group.strip("/") / "memory.oom_control", folder / "memory.oom_control"]
    return paths
