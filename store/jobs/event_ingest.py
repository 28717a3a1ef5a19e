"""Ingest of events from job folders into the store, exactly once per event.

Invariant: the events of a batch and the byte offset after them are committed in one transaction, and a batch
is applied only if it starts at the stored offset. Whatever is killed at any time, reading a folder again from
its stored offset continues where it stopped, and how the stream was split into batches does not affect the
store.

Anything a worker should not have written (a torn line, an event without its fields, a status that the current
one does not allow) is not applied, and an alert of the job reports it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, TypedDict

import pyarrow as pa

from store.core.errors import NotFoundError
from store.core.job_kinds import ACTIVE, TRANSITIONS
from store.core.schemas import JobStatus
from store.db.database import Database, Transaction
from store.db.records import read_records, to_json
from store.jobs import metric_points
from store.jobs.metric_points import Points, convert_to_utc, is_number, parse_time
from store.jobs.schemas import IngestReport

LEVELS = ("info", "warning")
TORN = "The worker's report has lines that could not be read, or not wholly."
GIVE_WAY_SECONDS = 0.1  # longest time that one flush waits for statements of clients


class EventBatch(NamedTuple):
    """Events of one job from `store.core.job_folder.read_events`, and the offset after them.

    old_offset: where reading started. If given, a batch that does not start at the stored offset is skipped;
    otherwise, one that does not end after it.
    """

    job_id: str
    events: list[Mapping[str, object]]
    new_offset: int
    old_offset: int | None = None


def ingest(
    database: Database,
    job_id: str,
    events: list[Mapping[str, object]],
    new_offset: int,
    old_offset: int | None = None,
) -> IngestReport:
    """Apply the events of one job in one transaction and return a report.

    Raises NotFoundError if there is no such job.
    """
    (report,) = ingest_many(database, [EventBatch(job_id, events, new_offset, old_offset)])
    if report["status"] is None:
        raise NotFoundError(f"There is no job {job_id}.")
    return report


def ingest_many(database: Database, batches: Iterable[EventBatch]) -> list[IngestReport]:
    """Like `ingest` for several jobs (at most one batch each) in one transaction; returns a report for each.

    A batch of a job that is not in the store (deleted meanwhile) is skipped: its `status` is None.
    """
    batches = [EventBatch(*batch) for batch in batches]
    with database.transaction() as tx:
        jobs = _read_stored_jobs(tx, [batch.job_id for batch in batches])
        points = Points()
        changes: list[tuple[_EventTotals, int]] = []
        reports = []
        for batch in batches:
            database.give_way(GIVE_WAY_SECONDS / len(batches))
            reports.append(_apply(batch, jobs.get(batch.job_id), points, changes))
        if changes:
            _write(tx, changes)
        for run_id, prefix, step in points.rewinds:
            metric_points.rewind(tx, run_id, step, prefix)
        if points:
            metric_points.add(tx, points.table())
    return reports


@dataclass(kw_only=True)
class _StoredJob:
    """State of a job in the store before its events are applied."""

    job_id: str
    title: str
    status: JobStatus
    event_offset: int


def _read_stored_jobs(tx: Transaction, job_ids: list[str]) -> dict[str, _StoredJob]:
    rows = tx.query(
        "SELECT job_id, title, status, event_offset FROM job WHERE list_contains(?::VARCHAR[], job_id)",
        [job_ids],
    )
    return {row.job_id: row for row in read_records(rows, _StoredJob)}


def _apply(
    batch: EventBatch, job: _StoredJob | None, points: Points, changes: list[tuple[_EventTotals, int]]
) -> IngestReport:
    """Add the events of one batch to `points` and `changes`, and return the report."""
    report: IngestReport = {
        "job_id": batch.job_id,
        "applied": False,
        "events": 0,
        "points": 0,
        "torn": 0,
        "refused": 0,
        "status": None,
    }
    if job is None:
        return report
    report["status"] = job.status
    at = job.event_offset
    taken = batch.new_offset <= at if batch.old_offset is None else batch.old_offset != at
    if taken:
        return report
    change = _EventTotals(batch.job_id, job.title, job.status)
    own = points.of(batch.job_id)
    for event in batch.events:
        kind = event.get("type")
        if kind == "metrics":
            own.add(event)
        elif kind == "rewind":
            own.rewind(event)
        else:
            change.take(event)
    change.torn += own.malformed
    changes.append((change, batch.new_offset))
    report |= {"applied": True, "events": len(batch.events), "points": len(own)}
    report |= {"torn": change.torn, "refused": change.refused, "status": change.status}
    return report


class _NewAlert(TypedDict):
    job_id: str
    level: str
    message: str
    raised_at: datetime
    kind: str | None
    step: int | None
    once: bool  # once per job, however often it is raised


class _JobChange(TypedDict):
    """A row of `_CHANGES`."""

    job_id: str
    status: JobStatus
    event_offset: int
    progressed: bool
    done: float
    total: float
    unit: str | None
    message: str
    eta: float | None


class _Progress(NamedTuple):
    done: float
    total: float
    unit: str
    message: str
    eta_seconds: float | None


class _EventTotals:
    """Result of a job's events other than metrics: last status and progress, all facts, alerts."""

    def __init__(self, job_id: str, title: str, status: JobStatus) -> None:
        self.job_id, self.title, self.status = job_id, title, status
        self.progress: _Progress | None = None
        self.facts: dict[str, object] = {}
        self.alerts: list[_NewAlert] = []
        self.torn = self.refused = 0

    def take(self, event: Mapping[str, object]) -> None:
        """Add an event that is neither metrics nor rewind."""
        at = parse_time(event.get("at"))
        match event:
            case {"type": "status", "status": str(status)} if at is not None:
                self._move(status, at)
            case {"type": "progress", "unit": str(unit)} if progress := _parse_progress(event, unit):
                self.progress = progress
            case {"type": "facts", "facts": dict(facts)}:
                self.facts |= facts
            case {"type": "alert", "message": str(message)} if at is not None:
                self._warn(message, at, event)
            case _:
                self.torn += 1

    def _move(self, status: str, at: datetime) -> None:
        if status == self.status:
            return
        for allowed in ACTIVE & TRANSITIONS[self.status]:
            if status == allowed:
                self.status = allowed
                return
        self.refused += 1
        message = f"The worker reported {status!r} while {self.title} was {self.status}; this was ignored."
        self._warn(message, at, {}, once=True)

    def _warn(self, message: str, at: datetime, event: Mapping[str, object], *, once: bool = False) -> None:
        """Add an alert; for alerts of a verdict only the first of each kind."""
        level, kind, step = (event.get(name) for name in ("level", "kind", "step"))
        kind = kind if isinstance(kind, str) and kind else None
        if kind and any(alert["kind"] == kind for alert in self.alerts):
            return
        if once and any(alert["message"] == message for alert in self.alerts):
            return
        self.alerts.append(
            {
                "job_id": self.job_id,
                "level": level if isinstance(level, str) and level in LEVELS else "warning",
                "message": message,
                "raised_at": at,
                "kind": kind,
                "step": step if isinstance(step, int) and not isinstance(step, bool) else None,
                "once": once,
            }
        )

    def document(self, new_offset: int) -> _JobChange:
        """Return the new row of the job; a progress of None leaves the stored one."""
        progress = self.progress
        return {
            "job_id": self.job_id,
            "status": self.status,
            "event_offset": new_offset,
            "progressed": progress is not None,
            "done": progress.done if progress else 0.0,
            "total": progress.total if progress else 0.0,
            "unit": progress.unit if progress else None,
            "message": progress.message if progress else "",
            "eta": progress.eta_seconds if progress else None,
        }

    def alert_rows(self) -> list[_NewAlert]:
        """Return the alerts to add, including the one for torn lines."""
        if self.torn:
            self._warn(TORN, convert_to_utc(time.time()), {}, once=True)
        return self.alerts


def _parse_progress(event: Mapping[str, object], unit: str) -> _Progress | None:
    """Parse an event of type progress; None if it is invalid."""
    done, total, eta = (event.get(name) for name in ("done", "total", "eta_seconds"))
    if not (is_number(done) and is_number(total)):
        return None
    remaining = float(eta) if is_number(eta) else None
    return _Progress(float(done), float(total), unit, str(event.get("message") or ""), remaining)


_CHANGES = pa.schema(
    [
        ("job_id", pa.string()),
        ("status", pa.string()),
        ("event_offset", pa.int64()),
        ("progressed", pa.bool_()),
        ("done", pa.float64()),
        ("total", pa.float64()),
        ("unit", pa.string()),
        ("message", pa.string()),
        ("eta", pa.float64()),
    ]
)
_ALERTS = pa.schema(
    [
        ("job_id", pa.string()),
        ("level", pa.string()),
        ("message", pa.string()),
        ("raised_at", pa.timestamp("us")),
        ("kind", pa.string()),
        ("step", pa.int64()),
        ("once", pa.bool_()),
    ]
)


def _write(tx: Transaction, changes: list[tuple[_EventTotals, int]]) -> None:
    """Write the changes and the offsets after the events, in one statement for all jobs."""
    rows = [change.document(new_offset) for change, new_offset in changes]
    with tx.table("changes", pa.Table.from_pylist(rows, schema=_CHANGES)):
        tx.execute(
            """
            UPDATE job SET status = c.status, event_offset = c.event_offset,
                progress_done = CASE WHEN progressed THEN done ELSE progress_done END,
                progress_total = CASE WHEN progressed THEN total ELSE progress_total END,
                progress_unit = CASE WHEN progressed THEN unit ELSE progress_unit END,
                progress_message = CASE WHEN progressed THEN message ELSE progress_message END,
                eta_seconds = CASE WHEN progressed THEN eta ELSE eta_seconds END
            FROM changes c WHERE job.job_id = c.job_id
            """
        )
    alerts = [row for change, _ in changes for row in change.alert_rows()]
    if alerts:
        with tx.table("alerts", pa.Table.from_pylist(alerts, schema=_ALERTS)):
            tx.execute(
                """
                INSERT INTO alert (job_id, level, message, raised_at, kind, step)
                SELECT job_id, level, message, raised_at, kind, step FROM alerts a
                WHERE NOT EXISTS (  -- a resumed run comes to the same verdict again
                    SELECT 1 FROM alert b WHERE b.job_id = a.job_id
                        AND (b.kind = a.kind OR (a.once AND b.message = a.message))
                )
                """
            )
    for change, _ in changes:
        if change.facts:
            _merge_facts(tx, change.job_id, change.facts)


@dataclass(kw_only=True)
class _FactsRow:
    facts: dict[str, object]


def _merge_facts(tx: Transaction, run_id: str, facts: dict[str, object]) -> None:
    rows = read_records(tx.query("SELECT facts FROM run WHERE run_id = ?", [run_id]), _FactsRow, ["facts"])
    for row in rows:  # none if the job is not a run: facts describe runs
        tx.execute("UPDATE run SET facts = ? WHERE run_id = ?", [to_json(row.facts | facts), run_id])
