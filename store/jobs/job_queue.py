"""The job queue and all writes that change a job's state; and the list of files to remove after their rows
were deleted.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from store.core.errors import NotFoundError
from store.core.features import Lane
from store.core.job_kinds import ALIVE, JOB_KINDS, check_transition
from store.core.schemas import ConfigDocument, ErrorDocument, Job, JobState, JobStatus, WaitingJob
from store.db.named_query import named_query
from store.db.records import read_records, read_scalar, to_json

if TYPE_CHECKING:
    from store.core.home import Home
    from store.db.database import Queryable, Transaction

# Writes take an open transaction, so that a job never changes without what belongs to the change. Transitions
# are those of `store.core.job_kinds`, and no function writes `status` except `set_status` (and the ingest of
# a worker's own status events). Times are naive UTC.

JSON_COLUMNS = ("config", "error", "result")
DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
JOB_TABLES = ("prediction", "metric", "metric_summary", "run")  # tables with the job's id as run_id

ROUND_TABLES = (
    *("rating_round", "rating_item", "rating_task", "rating", "rating_left_out", "rating_let_in"),
    *("rating_hold", "rating_unit", "rating_assignment", "round_request"),
)


def create_id(prefix: str, at: float) -> str:
    """Return a new id that sorts by time: prefix, milliseconds since the epoch and 25 random bits,
    base 36.
    """
    milliseconds = int(at * 1000)
    stamp = "".join(DIGITS[milliseconds // 36**place % 36] for place in range(8, -1, -1))
    return f"{prefix}-{stamp}{''.join(secrets.choice(DIGITS) for _ in range(5))}"


def is_id(prefix: str, name: str) -> bool:
    """Return whether the name is an id with that prefix."""
    return re.fullmatch(rf"{re.escape(prefix)}-[{DIGITS}]{{14}}", name) is not None


def to_utc(at: float) -> datetime:
    """Convert seconds since the epoch to the store's naive UTC time."""
    return datetime.fromtimestamp(at, UTC).replace(tzinfo=None)


def to_epoch(moment: datetime) -> float:
    """Convert a naive UTC time of the store to seconds since the epoch."""
    return moment.replace(tzinfo=UTC).timestamp()


def make_placeholders(values: Iterable[Any]) -> str:
    """Return `?, ?, ?` for an IN list; an empty one matches nothing."""
    return ", ".join("?" for _ in values) or "NULL"


# -- reads ------------------------------------------------------------------------------------------


@named_query
def get_job(db: Queryable, job_id: str) -> Job:
    """Return one job with its documents decoded. Raises NotFoundError."""
    rows = read_records(db.query("SELECT * FROM job WHERE job_id = ?", [job_id]), Job, JSON_COLUMNS)
    if not rows:
        raise NotFoundError(f"There is no job {job_id}.", fix="List them with: tunebench runs")
    return rows[0]


@named_query
def queue(db: Queryable, *, limit: int | None = None) -> list[Job]:
    """Return active jobs, then queued ones, of all kinds, in execution order; at most `limit`."""
    return with_status(db, ALIVE, limit=limit)


@named_query
def queue_length(db: Queryable) -> int:
    """Return the number of active and queued jobs."""
    sql = f"SELECT count(*) FROM job WHERE status IN ({make_placeholders(ALIVE)})"
    return int(read_scalar(db.query(sql, sorted(ALIVE))))


@named_query
def with_status(
    db: Queryable, statuses: Collection[str], *, kinds: Collection[str] = (), limit: int | None = None
) -> list[Job]:
    """Return jobs in one of the states, of all kinds by default; active before queued ones, oldest first."""
    of_kinds = f" AND kind IN ({make_placeholders(kinds)})" if kinds else ""
    sql = (
        f"SELECT * FROM job WHERE status IN ({make_placeholders(statuses)}){of_kinds}"
        " ORDER BY status = 'queued', created_at, job_id LIMIT ?"
    )
    return read_records(db.query(sql, [*sorted(statuses), *kinds, limit]), Job, JSON_COLUMNS)


def list_waiting(db: Queryable) -> list[WaitingJob]:
    """Return queued jobs, oldest first, without their configs, since it is read at every step of the
    engine.
    """
    return read_records(db.query(_WAITING), WaitingJob)


_WAITING = """
    SELECT job_id, kind, lane, title, after_jobs, job_id NOT IN (
        SELECT q.job_id FROM (SELECT job_id, unnest(after_jobs) AS before FROM job WHERE status = 'queued') q
        LEFT JOIN job b ON b.job_id = q.before WHERE b.status IS DISTINCT FROM 'finished'
    ) AS ready
    FROM job WHERE status = 'queued' ORDER BY created_at, job_id
"""


def find_waiting_title(db: Queryable, job_id: str) -> str | None:
    """Return the title of a queued job that waits for this one; None if there is none."""
    sql = "SELECT title FROM job WHERE status = 'queued' AND list_contains(after_jobs, ?) LIMIT 1"
    titles = db.query(sql, [job_id])["title"].to_pylist()
    return titles[0] if titles else None


@named_query
def unfinished(db: Queryable, kind: str) -> list[Job]:
    """Return jobs of a kind that are queued, active, failed or stopped, oldest first."""
    sql = "SELECT * FROM job WHERE kind = ? AND status <> 'finished' ORDER BY created_at, job_id"
    return read_records(db.query(sql, [kind]), Job, JSON_COLUMNS)


@named_query
def recent_jobs(db: Queryable, *, limit: int = 20) -> list[Job]:
    """Return the newest jobs, newest first."""
    sql = "SELECT * FROM job ORDER BY created_at DESC, job_id DESC LIMIT ?"
    return read_records(db.query(sql, [limit]), Job, JSON_COLUMNS)


def list_of_kind(db: Queryable, kind: str) -> list[Job]:
    """Return all jobs of a kind, newest first."""
    sql = "SELECT * FROM job WHERE kind = ? ORDER BY created_at DESC, job_id DESC"
    return read_records(db.query(sql, [kind]), Job, JSON_COLUMNS)


@named_query
def with_ids(db: Queryable, job_ids: Collection[str]) -> list[Job]:
    """Return the jobs with these ids that exist, in the order in which they were queued."""
    sql = f"SELECT * FROM job WHERE job_id IN ({make_placeholders(job_ids)}) ORDER BY created_at, job_id"
    return read_records(db.query(sql, list(job_ids)), Job, JSON_COLUMNS)


@named_query
def statuses(db: Queryable, job_ids: Collection[str]) -> dict[str, JobState]:
    """Return the states of these jobs by job_id, for those that exist."""
    sql = "SELECT job_id, title, status, error FROM job WHERE job_id IN (SELECT unnest(?::VARCHAR[]))"
    return {row.job_id: row for row in read_records(db.query(sql, [list(job_ids)]), JobState, ["error"])}


# -- writes -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class NewJob:
    """A job to be queued. config: as written by the config model of its kind; at: seconds since the epoch;
    lane: by default that of its kind; by: requester, by default the person acting in the transaction.
    """

    job_id: str
    kind: str
    title: str
    config: ConfigDocument
    at: float
    after_jobs: Iterable[str] = ()
    lane: Lane | None = None
    by: str | None = None


def insert(tx: Transaction, job: NewJob) -> None:
    """Insert a queued job."""
    lane = job.lane or JOB_KINDS[job.kind].lane
    tx.execute(
        "INSERT INTO job (job_id, kind, lane, title, status, config, after_jobs, created_at, created_by)"
        " VALUES (?, ?, ?, ?, 'queued', ?, ?, ?, ?)",
        [
            *(job.job_id, job.kind, lane, job.title, to_json(job.config), list(job.after_jobs)),
            *(to_utc(job.at), job.by or tx.by),
        ],
    )
    tx.made["job"].append(job.job_id)


def update(tx: Transaction, job_id: str, **columns: Any) -> None:
    """Set columns of one job; documents are encoded."""
    for name in JSON_COLUMNS:
        if name in columns:
            columns[name] = None if columns[name] is None else to_json(columns[name])
    settings = ", ".join(f"{name} = ?" for name in columns)
    tx.execute(f"UPDATE job SET {settings} WHERE job_id = ?", [*columns.values(), job_id])


def set_status(tx: Transaction, job_id: str, status: JobStatus, **columns: Any) -> None:
    """Change a job's status, and the columns that change with it.

    Raises StateError if store.core.job_kinds does not allow the transition from the job's current state.
    """
    job = get_job(tx, job_id)
    check_transition(job.title, job.status, status)
    update(tx, job_id, status=status, **columns)


def claim(tx: Transaction, job_id: str, device: str, at: float) -> None:
    """Take a queued job: it becomes `preparing` on `device`, before its worker has announced itself."""
    set_status(
        tx,
        job_id,
        "preparing",
        device=device,
        started_at=to_utc(at),
        pid=None,
        process_started=None,
    )


def announce(tx: Transaction, job_id: str, pid: int, started: float) -> None:
    """Record the process that works on the job."""
    update(tx, job_id, pid=pid, process_started=started)


def finish(
    tx: Transaction,
    job_id: str,
    status: JobStatus,
    at: float,
    *,
    result: Mapping[str, Any] | None = None,
    error: ErrorDocument | None = None,
) -> None:
    """End a job as `finished`, `failed`, `cancelled` or `lost`, with its result or error."""
    set_status(tx, job_id, status, ended_at=to_utc(at), eta_seconds=None, result=result, error=error)


def stop(tx: Transaction, job: Job, at: float) -> None:
    """Cancel a queued job, or request an active one to stop; an ended job is unchanged."""
    if job.status == "queued":
        finish(tx, job.job_id, "cancelled", at)
    elif job.status in ALIVE and not job.cancel_requested_at:
        update(tx, job.job_id, cancel_requested_at=to_utc(at))


def requeue(tx: Transaction, job_id: str) -> None:
    """Put an ended job back into the queue as its next attempt; its metrics and events are kept."""
    job = get_job(tx, job_id)
    set_status(
        tx,
        job_id,
        "queued",
        attempt=job.attempt + 1,
        pid=None,
        process_started=None,
        device=None,
        started_at=None,
        ended_at=None,
        cancel_requested_at=None,
        progress_done=None,
        progress_total=None,
        progress_unit=None,
        progress_message=None,
        eta_seconds=None,
        error=None,
        result=None,
    )


def delete(tx: Transaction, job_id: str) -> None:
    """Delete a job and all rows that belong to it. The caller has checked that nothing works on it."""
    for table in JOB_TABLES:
        tx.execute(f"DELETE FROM {table} WHERE run_id = ?", [job_id])
    tx.execute("DELETE FROM evaluation WHERE evaluation_id = ?", [job_id])
    for table in ROUND_TABLES:
        tx.execute(f"DELETE FROM {table} WHERE round_id = ?", [job_id])
    tx.execute("DELETE FROM bias_check WHERE run_id = ?", [job_id])
    for table in ("alert", "bias_check", "job"):
        tx.execute(f"DELETE FROM {table} WHERE job_id = ?", [job_id])


# Files and folders to remove after the rows that refer to them were deleted.
#
# They are recorded in the transaction that deletes the rows: an engine that is killed before it has removed
# the files leaves the record, and the next one removes them.


def note_removals(tx: Transaction, home: Home, paths: Iterable[Path]) -> None:
    """Record paths to be removed; each must be in the home folder."""
    for path in paths:
        tx.execute("INSERT INTO removal VALUES (?)", [path.relative_to(home.path).as_posix()])


def list_noted_removals(db: Queryable) -> list[str]:
    """Return all recorded paths, relative to the home folder."""
    table = db.query("SELECT DISTINCT path FROM removal ORDER BY path")
    return [str(path) for path in table["path"].to_pylist()]


def forget_removals(tx: Transaction, paths: list[str]) -> None:
    """Delete records of paths that were removed, or that now belong to something else."""
    tx.execute("DELETE FROM removal WHERE list_contains(?::VARCHAR[], path)", [paths])
