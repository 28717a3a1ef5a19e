"""One job in this process: `python -m engine.worker JOB_DIR`, the only entry point of a child process.

The worker depends on its folder only. It takes the folder's lock (a folder is never processed twice),
writes a record of itself and its machine, runs the job, and writes `result.json` last. Any error is in
that file, as a sentence and a traceback; a worker that dies without it is `lost`, its run can be resumed,
and the record tells the engine what happened since.
"""

from __future__ import annotations

import errno
import faulthandler
import importlib
import os
import signal
import traceback
from pathlib import Path

import psutil

from engine.worker.job import JobCancelled, JobProgress, WorkerJob
from store.core.errors import TunebenchError
from store.core.job_folder import JobDir, write_json
from store.core.job_kinds import JOB_KINDS
from store.core.processes import acquire_lock, get_process_start
from store.core.schemas import ErrorDocument
from store.jobs.schemas import OomKillCount, Outcome, WorkerRecord

_GROUPS, _MOUNT = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")
_BOOT, MACHINE_COUNTS = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/vmstat")


def read_boot_id() -> str:
    """Return the id of this boot of the machine; "" if the system has none."""
    try:
        return _BOOT.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def is_restarted(boot: str, started: float) -> bool:
    """Whether the machine or this process's container was restarted since another process began.

    boot, started: boot id and start time (`get_process_start`) that it recorded.
    """
    if boot and boot != read_boot_id():
        return True
    try:
        return get_process_start(1) > started  # only a container's first process can be newer
    except psutil.Error:
        return False


def count_memory_kills() -> OomKillCount | None:
    """Count the processes that the kernel has killed for lack of memory.

    The count is of this process's control group if available, otherwise of the machine; None if neither
    can be read.
    """
    for path in (*_list_cgroup_counts(), MACHINE_COUNTS):
        count = read_kill_count(path)
        if count is not None:
            return {"path": str(path), "count": count}
    return None


def read_kill_count(path: Path) -> int | None:
    """Return `oom_kill` from a file of kernel counters; None if missing."""
    try:
        lines = path.read_text(encoding="ascii").splitlines()
        return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), None)
    except (OSError, ValueError):
        return None


def _list_cgroup_counts() -> list[Path]:
    """Return possible paths of the counters of this process's control group, for both cgroup versions.

    A container may see its own group as the root.
    """
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


def run_job(path: Path) -> int:
    """Run the job in the folder `path`; return 0 finished, 1 failed, 2 cancelled, 3 another worker has it."""
    folder = JobDir(path)
    lock = acquire_lock(folder.lock)  # held until the process ends
    if lock is None or folder.result.exists():
        return 3
    write_json(folder.worker, _read_own_record(folder))
    outcome: Outcome
    try:
        job = WorkerJob(path)
        signal.signal(signal.SIGTERM, lambda *_: job.cancel_requested.set())
        kind = JOB_KINDS[job.spec["kind"]]
        module = importlib.import_module(kind.module)
        if kind.has_row:
            job.phases = JobProgress(module.phases(job.spec))
        outcome = {"status": "finished", "result": module.run(job)}
    except JobCancelled:
        outcome = {"status": "cancelled"}
    except BaseException as error:  # noqa: BLE001 (the border: nothing may leave without a result)
        traceback.print_exc()
        outcome = {"status": "failed", "error": describe_error(error)}
    write_json(folder.result, outcome)
    return {"finished": 0, "failed": 1, "cancelled": 2}[outcome["status"]]


def _read_own_record(folder: JobDir) -> WorkerRecord:
    return {
        "pid": os.getpid(),
        "started": get_process_start(os.getpid()),
        "boot": read_boot_id(),
        "memory_kills": count_memory_kills(),
        "log_bytes": folder.log.stat().st_size if folder.log.exists() else 0,
    }


def describe_error(error: BaseException) -> ErrorDocument:
    """Return the error as a document, with its traceback."""
    document: ErrorDocument
    if isinstance(error, TunebenchError):
        document = error.to_dict()
    elif isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        document = {
            "error": "OutOfMemory",
            "message": "The device ran out of memory.",
            # training runs suggest a config change themselves
            "fix": "End other jobs and programs, or take fewer rows or a smaller model.",
        }
    elif isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        document = {
            "error": "DiskFull",
            "message": "The disk is full.",
            "fix": "Free some space, or delete runs that are not needed, then resume.",
        }
    else:
        text = " ".join(str(error).split())[:300]
        document = {"error": type(error).__name__, "message": f"{type(error).__name__}: {text}"}
    document["traceback"] = "".join(traceback.format_exception(error))
    return document


def main(argv: list[str]) -> int:
    """Run one job in this process, with its output in the job's log."""
    path = Path(argv[0])
    log = os.open(JobDir(path).log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    faulthandler.enable(file=2)  # a crash in native code leaves a Python traceback
    return run_job(path)
