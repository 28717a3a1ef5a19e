"""How a job ended: by its `result.json`, or without one because its worker is gone, and what is tidied up
then.

Of a lost worker it is said what is known of its end and what to do. Invariant: tidying is done before the
end is recorded, so that an engine which is killed in between finds the job alive and does it again.
"""

from __future__ import annotations

import re
import shutil
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from engine.models.memory_advice import ConfigChange, advise_change
from engine.server.features import is_path_named
from engine.worker.process import MACHINE_COUNTS, is_restarted, read_kill_count
from store.core.errors import ConfigError
from store.core.home import Home
from store.core.job_folder import JobDir, read_events, read_json
from store.core.job_kinds import JOB_KINDS
from store.core.processes import find_live_process
from store.core.schemas import ErrorDocument, Job
from store.data import datasets
from store.db.database import Queryable
from store.jobs.job_queue import to_epoch
from store.jobs.schemas import Outcome, WorkerRecord
from store.training.train_config import TrainConfig

# How a job ended by its `result.json` or without one, and what is tidied up then.
#
# That is done before the end is recorded: an engine that is killed in between finds the job alive and does it
# again.


@dataclass(frozen=True)
class Ending:
    """The status that a job ends with, and its result or its error document."""

    status: Literal["finished", "failed", "cancelled", "lost"]
    result: dict[str, object] | None = None  # as its kind's `keep` reads it
    error: ErrorDocument | None = None


def build_ending(outcome: Outcome) -> Ending:
    """What the worker itself wrote last."""
    return Ending(outcome["status"], outcome.get("result"), outcome.get("error"))


def clear_partial_files(home: Home, job: Job) -> None:
    """Remove what the worker of a job that has ended left half-made, here or in the cache: one that was
    killed could not do so itself."""
    folder = JobDir(home.jobs / job.job_id)
    shutil.rmtree(folder.temporary, ignore_errors=True)
    if (
        job.pid is not None
    ):  # files that are written aside are named by it (`store.core.job_folder.written_aside`)
        for place in (folder.path, home.cache):
            for left in place.rglob(f".*.{job.pid}"):
                left.unlink(missing_ok=True)


def clear_logged(home: Home, job: Job) -> None:
    """Remove texts of a log that the job was given: it gets them again where it is resumed."""
    if name := JOB_KINDS[job.kind].logged_texts:
        (home.jobs / job.job_id / name).unlink(missing_ok=True)


def clear_logged_requests(home: Home, job: Job) -> None:
    """Remove the logged requests that a round would have asked about, which is not made. It can't be resumed
    then."""
    if is_from_request_log(job):
        shutil.rmtree(JobDir(home.jobs / job.job_id).held, ignore_errors=True)


def is_from_request_log(job: Job) -> bool:
    """Whether it is a round of requests that an endpoint has logged."""
    return job.kind == "round" and bool(job.config.get("round", {}).get("requests"))


def clear_unfinished_output(db: Queryable, home: Home, job: Job) -> None:
    """Remove what a job made whole that has not finished: the store will never name it."""
    folder = JobDir(home.jobs / job.job_id)
    if JOB_KINDS[job.kind].leaves_columns:
        for sidecar in folder.path.glob("*.parquet"):
            sidecar.unlink(missing_ok=True)
    published = read_json(folder.published)
    fingerprint = published.get("fingerprint") if published else None
    if fingerprint and not datasets.is_named(db, fingerprint):
        shutil.rmtree(home.datasets / fingerprint, ignore_errors=True)
    for name in published.get("exports", ()) if published else ():
        if not is_path_named(db, f"{home.exports.name}/{name}"):
            shutil.rmtree(home.exports / name, ignore_errors=True)
            if (home.exports / name).is_file():
                (home.exports / name).unlink()
    folder.published.unlink(missing_ok=True)
    shutil.rmtree(folder.version, ignore_errors=True)
    clear_logged_requests(home, job)


# A worker that is gone and left no result: what is known of its end, and what to do.
#
# Known are its exit code or signal where this engine saw its end, what the kernel has counted since it began,
# when it last wrote an event and at which step, its last checkpoint, and what the interpreter wrote into the
# log as it crashed. Of the log nothing else is quoted: its last lines are of whatever came before.

TRAIN = "train"  # the kind of job that leaves checkpoints
TAIL_BYTES = 65_536  # of events and log that are looked at
MAX_REPORT_LINES = 60
MAX_LINES_BETWEEN = 5  # between what C++ says of an abort and what the interpreter says of it
MAX_MOMENT = datetime.max.replace(tzinfo=UTC).timestamp() - 1  # of an event; what is later was never written
MAX_STEPS = 10**15  # no run has as many
END_OTHERS = "End other jobs and programs, or give it less to hold."
FAULTS = ("SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE", "SIGABRT", "SIGTRAP", "SIGSYS")
STOPS = ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT")

_CRASH = re.compile(r"^(Fatal Python error: |terminate called )", re.MULTILINE)
_CHECKPOINT = re.compile(r"step-([0-9]{8,18})")
_TRACEBACK = "Traceback (most recent call last):"
_RAISED = re.compile(r"[\w.]+(: .*)?")  # the line that ends a traceback


@dataclass(frozen=True)
class _Cause:
    """Why the worker is gone, as a sentence; what to do beside resuming, and as fields of a run's config."""

    text: str
    before: str = ""
    change: ConfigChange | None = None


def build_lost_ending(job: Job, folder: JobDir, exit_code: int | None) -> Ending:
    """The end of a job whose worker is gone; `exit_code` where its end was seen, negative for a signal."""
    record: WorkerRecord | None = read_json(folder.worker)
    report = find_crash_report(folder, record)
    cause = _find_cause(job, folder, record, exit_code)
    step = find_checkpoint_step(folder)
    error: ErrorDocument = {
        "error": "WorkerLost",
        "message": " ".join(
            filter(None, (cause.text, _describe_last_event(job, folder), _describe_checkpoint(job, step)))
        ),
        "fix": f"{cause.before} {_describe_resume(job, step)}".strip(),
        "field": "",
        "traceback": report,
    }
    if cause.change:
        error["change"] = dict(cause.change)
    return Ending("lost", error=error)


def build_external_stop_error(job: Job, folder: JobDir) -> ErrorDocument:
    """A worker that stopped as it is asked to by SIGTERM, though nobody has cancelled its job."""
    step = find_checkpoint_step(folder)
    return {
        "error": "WorkerStopped",
        "message": "Its worker was asked to stop by SIGTERM, and not by Tunebench: by a shutdown of the"
        f" machine, or by `kill`. {_describe_checkpoint(job, step)}".strip(),
        "fix": _describe_resume(job, step),
        "field": "",
    }


# -- why it is gone ---------------------------------------------------------------------------------


def _find_cause(job: Job, folder: JobDir, record: WorkerRecord | None, exit_code: int | None) -> _Cause:
    pid = job.pid
    if record is None or pid is None:
        return _explain_never_started(exit_code)
    worker = f"Its worker (process {pid})"
    if exit_code is None:
        return _explain_unseen_exit(worker, folder, record)
    if exit_code >= 0:
        return _Cause(
            f"{worker} ended with exit code {exit_code} and without a result.",
            "Something in it ended the process; its log may name it.",
        )
    name = _get_signal_name(-exit_code)
    if name == "SIGKILL":
        return _explain_kill(worker, job, record)
    if name in FAULTS:
        return _Cause(
            f"{worker} crashed in native code ({name}).",
            "If it happens again at the same place, look for an update of the library that its report names.",
        )
    by = ": by a shutdown of the machine, or by `kill`" if name in STOPS else ""
    return _Cause(f"{worker} was ended by {name}{by}.")


def _get_signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # those for real-time uses have none
        return f"signal {number}"


def _explain_never_started(exit_code: int | None) -> _Cause:
    if exit_code is None:
        return _Cause("No worker came to take the job.", "The machine may be too busy to start one.")
    end = f"exit code {exit_code}" if exit_code >= 0 else _get_signal_name(-exit_code)
    return _Cause(f"Its worker ended ({end}) before it could begin.", "Its log may tell why.")


def _explain_kill(worker: str, job: Job, record: WorkerRecord) -> _Cause:
    """By SIGKILL, which the kernel sends where memory runs out, and so may anybody."""
    kills = _count_kills_since(record)
    text = f"{worker} was killed by SIGKILL"
    if kills is None:
        return _Cause(f"{text}: the machine may have run out of memory, or somebody killed it.")
    if kills == 0:
        return _Cause(
            f"{text}. The kernel has killed no process for want of memory since it began; a memory daemon may"
            " have, which kills earlier, or a person.",
            "Find out what kills processes here: systemd-oomd or earlyoom, a batch system, or a person.",
        )
    fix, change = END_OTHERS, None
    if job.kind == TRAIN:
        fix, change = _propose_smaller_config(job.config, job.device or "cpu")
    if (noted := record.get("memory_kills")) and noted["path"] == str(MACHINE_COUNTS):
        count = f"since it began the kernel has killed {kills:,} {'process' if kills == 1 else 'processes'}"
        return _Cause(
            f"{text}, perhaps because memory ran out: {count} of this machine for that.", fix, change
        )
    others = "" if kills == 1 else f" (the kernel has killed {kills} processes for it since it began)"
    return _Cause(f"{text} because memory ran out{others}.", fix, change)


def _propose_smaller_config(document: Mapping[str, object], device: str) -> tuple[str, ConfigChange | None]:
    """What would take less memory. A smaller micro-batch isn't proposed: where rows are dealt by tokens it
    changes nothing."""
    try:
        config = TrainConfig.of_past(document)
    except ConfigError:  # of another version: the worker is lost all the same
        return END_OTHERS, None
    fix, _, change = advise_change(config, device.partition(":")[0], dealt=True)
    return f"{fix} Or end other jobs and programs.", change


def _explain_unseen_exit(worker: str, folder: JobDir, record: WorkerRecord) -> _Cause:
    """Not a child of this engine, so that nobody could be told its exit code."""
    if is_restarted(record.get("boot", ""), record["started"]):
        return _Cause(
            f"{worker} is gone: the machine or its container was restarted since it began, or this home"
            " folder was brought here from another one."
        )
    if find_live_process(record["pid"], record["started"], None):
        return _Cause(
            f"{worker} works in another folder: this home folder is a copy of the one that it belongs to.",
            "Resume it here only if both are to be worked on.",
        )
    kills = _count_kills_since(record)
    text = f"{worker} is gone without a result, and it ended while no engine was there to see how"
    if kills:
        return _Cause(f"{text}. Memory ran out in the meantime: the kernel killed {kills} for it.")
    counted = ". The kernel has killed no process for want of memory in the meantime" if kills == 0 else ""
    return _Cause(f"{text}: it was killed, or it crashed{counted}.")


def _count_kills_since(record: WorkerRecord) -> int | None:
    """How many processes the kernel has killed for want of memory since the worker began."""
    noted = record.get("memory_kills")
    count = read_kill_count(Path(noted["path"])) if noted else None
    return None if noted is None or count is None else max(0, count - noted["count"])


# -- how far it was ---------------------------------------------------------------------------------


def _describe_last_event(job: Job, folder: JobDir) -> str:
    """When this attempt last wrote an event, and what it was at."""
    at, step, total = None, None, None
    for event in _read_newest_events(folder):
        moment = event.get("at")
        if not isinstance(moment, int | float) or not 0 <= moment < MAX_MOMENT or _is_older(moment, job):
            continue
        at = moment
        if event.get("type") == "metrics":
            step = event.get("step")
        elif event.get("type") == "progress":
            total = event.get("total") if event.get("unit") == "steps" else None
    if at is None:
        return "It was never heard from." if job.pid is not None else ""
    of = f" of {total:,.0f}" if isinstance(total, int | float) and 0 < total < MAX_STEPS else ""
    where = f", at step {step:,}{of}" if isinstance(step, int) else ""
    return f"It was last heard from on {datetime.fromtimestamp(at, UTC):%Y-%m-%d at %H:%M:%S} UTC{where}."


def _is_older(moment: float, job: Job) -> bool:
    """Whether it is of an attempt before; both times are of this machine's clock, a second apart at most."""
    return job.started_at is not None and moment < to_epoch(job.started_at) - 1


def _read_newest_events(folder: JobDir) -> list[Mapping[str, object]]:
    if not folder.events.exists():
        return []
    return read_events(folder.events, max(0, folder.events.stat().st_size - TAIL_BYTES), TAIL_BYTES)[0]


def find_checkpoint_step(folder: JobDir) -> int | None:
    """The step of the newest whole checkpoint (`engine.models.training_state`), told without torch."""
    steps = [
        int(name[1])
        for path in folder.checkpoints.glob("step-*")
        if (name := _CHECKPOINT.fullmatch(path.name)) and (path / "state.json").exists()
    ]
    return max(steps, default=None)


def _describe_checkpoint(job: Job, step: int | None) -> str:
    if job.kind != TRAIN:
        return ""
    return "It left no checkpoint." if step is None else f"Its last checkpoint is of step {step:,}."


def _describe_resume(job: Job, step: int | None) -> str:
    return f"Resume it: it goes on from {'its start' if step is None else f'step {step:,}'}."


# -- what it wrote as it crashed --------------------------------------------------------------------


def find_crash_report(folder: JobDir, record: WorkerRecord | None) -> str:
    """What this attempt's log ends with where that is a report of its crash: of the interpreter at a fatal
    signal, or a traceback after which nothing more was written. Else empty."""
    text = _read_tail(folder, record.get("log_bytes", 0) if record else 0)
    crashes = list(_CRASH.finditer(text))
    if crashes:
        last = crashes[-1].start()
        begin = min(at.start() for at in crashes if text.count("\n", at.start(), last) < MAX_LINES_BETWEEN)
        return "\n".join(text[begin:].strip().splitlines()[:MAX_REPORT_LINES])
    lines = text.rstrip().splitlines()
    if _TRACEBACK not in lines:
        return ""
    begin = len(lines) - 1 - lines[::-1].index(_TRACEBACK)
    inner = [line for line in lines[begin + 1 :] if not line.startswith(" ")]
    closed = len(inner) == 1 and lines[-1] == inner[0] and _RAISED.fullmatch(inner[0])
    return "\n".join(lines[begin:][-MAX_REPORT_LINES:]) if closed else ""


def _read_tail(folder: JobDir, begin: int) -> str:
    try:
        with open(folder.log, "rb") as file:
            file.seek(max(begin, file.seek(0, 2) - TAIL_BYTES))
            return file.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return ""
