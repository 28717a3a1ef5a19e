"""One job in this process: `python -m engine.worker JOB_DIR`, the only entry point of a child process.

The worker depends on its folder alone. It takes the folder's lock (a folder is never worked on twice),
writes who it is, runs the job, and writes `result.json` last. Whatever goes wrong is in that file, as
a sentence and a traceback; a worker that dies without it is `lost`, and its run can be resumed.
"""

from __future__ import annotations

import errno
import faulthandler
import importlib
import os
import signal
import traceback
from pathlib import Path

from engine.worker.job import Cancelled, WorkerJob
from engine.worker.machine_notes import machine_start, memory_kills
from engine.worker.phases import JobPhases
from store.catalog.job_kinds import JOB_KINDS
from store.contract.errors import TunebenchError
from store.contract.jobdir import JobDir, write_json
from store.contract.process_record import hold, process_start
from store.documents.tables.job import ErrorDocument
from store.documents.tables.job_events import Outcome, WorkerRecord


def work(path: Path) -> int:
    """Do the job in the folder `path`; 0 finished, 1 failed, 2 cancelled, 3 another worker has it."""
    folder = JobDir(path)
    lock = hold(folder.lock)  # until the process ends
    if lock is None or folder.result.exists():
        return 3
    write_json(folder.worker, _own_record(folder))
    outcome: Outcome
    try:
        job = WorkerJob(path)
        signal.signal(signal.SIGTERM, lambda *_: job.cancel_requested.set())
        kind = JOB_KINDS[job.order["kind"]]
        module = importlib.import_module(kind.module)
        if kind.has_row:
            job.phases = JobPhases(module.phases(job.order))
        outcome = {"status": "finished", "result": module.run(job)}
    except Cancelled:
        outcome = {"status": "cancelled"}
    except BaseException as error:  # noqa: BLE001 (the border: nothing may leave without a result)
        traceback.print_exc()
        outcome = {"status": "failed", "error": describe(error)}
    write_json(folder.result, outcome)
    return {"finished": 0, "failed": 1, "cancelled": 2}[outcome["status"]]


def _own_record(folder: JobDir) -> WorkerRecord:
    return {
        "pid": os.getpid(),
        "started": process_start(os.getpid()),
        "boot": machine_start(),
        "memory_kills": memory_kills(),
        "log_bytes": folder.log.stat().st_size if folder.log.exists() else 0,
    }


def describe(error: BaseException) -> ErrorDocument:
    """The error as a document, with its traceback."""
    document: ErrorDocument
    if isinstance(error, TunebenchError):
        document = error.to_dict()
    elif isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        document = {
            "error": "OutOfMemory",
            "message": "The device ran out of memory.",
            # a run of training says by itself what of its config to change
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
    """Run one job in this process, its output in the job's log."""
    path = Path(argv[0])
    log = os.open(JobDir(path).log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    faulthandler.enable(file=2)  # a fault in native code leaves the line of Python that called it
    return work(path)
