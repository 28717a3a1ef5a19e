"""Endings of jobs: by `result.json`, or without one because the worker is gone, and the cleanup afterwards.

For a lost worker the known facts about its end are reported, with a suggested fix. Invariant: cleanup is done
before the end is recorded, so that if the engine is killed in between, the job still counts as alive and it
is repeated.
"""

from __future__ import annotations

import re
import shutil
import signal
from collections.abc import Mapping, Sequence
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


@dataclass(frozen=True)
class Ending:
    """Final status of a job, with its result or error document."""

    status: Literal["finished", "failed", "cancelled", "lost"]
    result: dict[str, object] | None = None  # as its handler's `store_result` reads it
    error: ErrorDocument | None = None


def build_ending(outcome: Outcome) -> Ending:
    """Return the ending that the worker itself wrote."""
    return Ending(outcome["status"], outcome.get("result"), outcome.get("error"))


def clear_partial_files(home: Home, job: Job) -> None:
    """Remove unfinished files of an ended job, here or in the cache, as a killed worker can't do so."""
    folder = JobDir(home.jobs / job.job_id)
    shutil.rmtree(folder.temporary, ignore_errors=True)
    if job.pid is not None:  # temporary files of `write_atomically` end with it
        for place in (folder.path, home.cache):
            for left in place.rglob(f".*.{job.pid}"):
                left.unlink(missing_ok=True)


def clear_logged(home: Home, job: Job) -> None:
    """Remove logged texts given to the job; they are written again if it is resumed."""
    if name := JOB_KINDS[job.kind].logged_texts:
        (home.jobs / job.job_id / name).unlink(missing_ok=True)


def clear_logged_requests(home: Home, job: Job) -> None:
    """Remove the logged requests of a round that ended without finishing. It can't be resumed afterwards."""
    if is_from_request_log(job):
        shutil.rmtree(JobDir(home.jobs / job.job_id).held, ignore_errors=True)


def is_from_request_log(job: Job) -> bool:
    """Whether the job creates a round from requests that an endpoint has logged."""
    return job.kind == "round" and bool(job.config.get("round", {}).get("requests"))


def clear_unfinished_output(db: Queryable, home: Home, job: Job) -> None:
    """Remove the complete output of a job that has not finished: the store will never refer to it."""
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


# Facts about a lost worker: its exit code or signal if this engine saw its end, the kernel's count of kills
# since it began, its last event and step, its last checkpoint, and the interpreter's crash report in the log.
# Nothing else of the log is quoted: its last lines may be unrelated.

TRAIN = "train"  # kind of job that writes checkpoints
TAIL_BYTES = 65_536  # bytes read at the end of events and log
MAX_REPORT_LINES = 60
MAX_LINES_BETWEEN = 5  # between C++'s message of an abort and the interpreter's
MAX_MOMENT = datetime.max.replace(tzinfo=UTC).timestamp() - 1  # latest valid time of an event
MAX_STEPS = 10**15  # more than any run has
END_OTHERS = "Stop other jobs and programs, or reduce its memory use."
FAULTS = ("SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE", "SIGABRT", "SIGTRAP", "SIGSYS")
STOPS = ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT")

_CRASH = re.compile(r"^(Fatal Python error: |terminate called )", re.MULTILINE)
_CHECKPOINT = re.compile(r"step-([0-9]{8,18})")
_TRACEBACK = "Traceback (most recent call last):"
_RAISED = re.compile(r"[\w.]+(: .*)?")  # last line of a traceback


@dataclass(frozen=True)
class _Cause:
    """Why the worker is gone, as a sentence.

    before: what to do before resuming; change: the same as fields of a run's config.
    """

    text: str
    before: str = ""
    change: ConfigChange | None = None


def build_lost_ending(job: Job, folder: JobDir, exit_code: int | None) -> Ending:
    """Return the ending of a job whose worker is gone; `exit_code`: if known, negative for a signal."""
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
    """Return the error of a worker that stopped on a SIGTERM although nobody cancelled its job."""
    step = find_checkpoint_step(folder)
    return {
        "error": "WorkerStopped",
        "message": "Its worker was asked to stop by SIGTERM, and not by Tunebench: by a shutdown of the"
        f" machine, or by `kill`. {_describe_checkpoint(job, step)}".strip(),
        "fix": _describe_resume(job, step),
        "field": "",
    }


# -- cause of the end -------------------------------------------------------------------------------


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
    except ValueError:  # real-time signals have no name
        return f"signal {number}"


def _explain_never_started(exit_code: int | None) -> _Cause:
    if exit_code is None:
        return _Cause("No worker started for the job.", "The machine may be too busy to start one.")
    end = f"exit code {exit_code}" if exit_code >= 0 else _get_signal_name(-exit_code)
    return _Cause(f"Its worker ended ({end}) before it could begin.", "See its log for the cause.")


def _explain_kill(worker: str, job: Job, record: WorkerRecord) -> _Cause:
    """Explain a SIGKILL, which the kernel sends if memory runs out, and anybody else may send."""
    kills = _count_kills_since(record)
    text = f"{worker} was killed by SIGKILL"
    if kills is None:
        return _Cause(f"{text}: the machine may have run out of memory, or it was killed.")
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
    """Propose settings that take less memory.

    A smaller micro-batch isn't proposed, as it changes nothing if rows are split by tokens.
    """
    try:
        config = TrainConfig.of_past(document)
    except ConfigError:  # config of another version
        return END_OTHERS, None
    fix, _, change = advise_change(config, device.partition(":")[0], dealt=True)
    return f"{fix} Or end other jobs and programs.", change


def _explain_unseen_exit(worker: str, folder: JobDir, record: WorkerRecord) -> _Cause:
    """Explain the end of a worker that was no child of this engine, so that its exit code is unknown."""
    if is_restarted(record.get("boot", ""), record["started"]):
        return _Cause(
            f"{worker} is gone: the machine or its container was restarted, or this home folder was copied"
            " from another machine."
        )
    if find_live_process(record["pid"], record["started"], None):
        return _Cause(
            f"{worker} works in another folder: this home folder is a copy of the one that it belongs to.",
            "Resume it here only if both are to be worked on.",
        )
    kills = _count_kills_since(record)
    text = f"{worker} is gone without a result; it ended while no engine was running"
    if kills:
        return _Cause(f"{text}. Memory ran out in the meantime: the kernel killed {kills} for it.")
    counted = ". The kernel has killed no process for want of memory in the meantime" if kills == 0 else ""
    return _Cause(f"{text}: it was killed, or it crashed{counted}.")


def _count_kills_since(record: WorkerRecord) -> int | None:
    """Count the processes that the kernel has killed for lack of memory since the worker began."""
    noted = record.get("memory_kills")
    count = read_kill_count(Path(noted["path"])) if noted else None
    return None if noted is None or count is None else max(0, count - noted["count"])


# -- last progress ----------------------------------------------------------------------------------


def _describe_last_event(job: Job, folder: JobDir) -> str:
    """Describe the time and step of the last event of this attempt."""
    at, step, total = None, None, None
    newest: Sequence[Mapping[str, object]] = ()
    if folder.events.exists():
        start = max(0, folder.events.stat().st_size - TAIL_BYTES)
        newest, _ = read_events(folder.events, start, TAIL_BYTES)
    for event in newest:
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
    """Whether the event is of an earlier attempt.

    Both times are of this machine's clock, at most a second apart.
    """
    return job.started_at is not None and moment < to_epoch(job.started_at) - 1


def find_checkpoint_step(folder: JobDir) -> int | None:
    """Return the step of the newest complete checkpoint (`engine.models.training_state`), without torch."""
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
    return f"Resume it: it continues from {'its start' if step is None else f'step {step:,}'}."


# -- crash report -----------------------------------------------------------------------------------


def find_crash_report(folder: JobDir, record: WorkerRecord | None) -> str:
    """Return the crash report at the end of this attempt's log, or an empty string.

    This is the interpreter's report of a fatal signal, or a traceback after which nothing was written.
    """
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
