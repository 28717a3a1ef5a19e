"""From the events of job folders to the store: each event lands exactly once.

Invariant: the events of a batch and the byte offset after them are committed in one transaction, and a
batch is taken only where it begins at the offset that the store has. So whatever is killed when, a
folder read again from its stored offset goes on where it stopped, and how the stream was cut into
batches makes no difference to what is in the store.

What a worker should not have written (a torn line, an event without its fields, a status that the
present one does not allow) is not applied, and an alert of the job says so.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any, NamedTuple

import pyarrow as pa

from store.contract.errors import NotFoundError
from store.contract.states import ACTIVE, MOVES
from store.db.database import Database, Transaction
from store.db.records import records, to_json
from store.queries import metrics
from store.queries.points import Points, is_number, moment

LEVELS = ("info", "warning")
GIVE_WAY_SECONDS = 0.1  # that one flush waits at most for statements of clients


class Batch(NamedTuple):
    """Events of one job as `store.contract.events.read_events` gave them, and the offset after them.

    old_offset: where the reading began. Where it is given, a batch that does not begin at the offset in
    the store is left out; without it, one that does not end after that offset is.
    """

    job_id: str
    events: list[dict[str, Any]]
    new_offset: int
    old_offset: int | None = None


def ingest(
    database: Database,
    job_id: str,
    events: list[dict[str, Any]],
    new_offset: int,
    old_offset: int | None = None,
) -> dict[str, Any]:
    """Apply the events of one job in one transaction.

    Returns {"job_id", "applied": bool (False: these bytes are in the store already), "events", "points",
    "torn", "refused" (moves not allowed), "status" (after the events)}.
    Raises NotFoundError where there is no such job.
    """
    (report,) = ingest_many(database, [Batch(job_id, events, new_offset, old_offset)])
    if report["status"] is None:
        raise NotFoundError(f"There is no job {job_id}.")
    return report


def ingest_many(database: Database, batches: Iterable[Batch]) -> list[dict[str, Any]]:
    """Like `ingest` for several jobs (at most one batch each) in one transaction; a report for each.

    A batch of a job that is not in the store (deleted meanwhile) is left out: its `status` is None.
    """
    batches = [Batch(*batch) for batch in batches]
    with database.transaction() as tx:
        jobs = _jobs(tx, [batch.job_id for batch in batches])
        points = Points()
        changes: list[tuple[_Change, int]] = []
        reports = []
        for batch in batches:
            database.give_way(GIVE_WAY_SECONDS / len(batches))
            reports.append(_apply(batch, jobs.get(batch.job_id), points, changes))
        if changes:
            _write(tx, changes)
        for run_id, prefix, step in points.rewinds:
            metrics.rewind(tx, run_id, step, prefix)
        if points:
            metrics.add(tx, points.table())
    return reports


def _jobs(tx: Transaction, job_ids: list[str]) -> dict[str, dict[str, Any]]:
    rows = tx.query(
        "SELECT job_id, title, status, event_offset FROM job WHERE list_contains(?::VARCHAR[], job_id)",
        [job_ids],
    )
    return {row["job_id"]: row for row in records(rows)}


def _apply(
    batch: Batch, job: dict[str, Any] | None, points: Points, changes: list[tuple[_Change, int]]
) -> dict[str, Any]:
    """Sort the events of one batch into `points` and `changes`; the report."""
    report = {"job_id": batch.job_id, "applied": False, "events": 0, "points": 0, "torn": 0, "refused": 0}
    if job is None:
        return report | {"status": None}
    at = job["event_offset"]
    taken = batch.new_offset <= at if batch.old_offset is None else batch.old_offset != at
    if taken:
        return report | {"status": job["status"]}
    change = _Change(batch.job_id, job["title"], job["status"])
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
    return report | {"torn": change.torn, "refused": change.refused, "status": change.status}


class _Change:
    """What the events of one job, metrics aside, come to: the last status and progress, all facts, alerts."""

    def __init__(self, job_id: str, title: str, status: str) -> None:
        self.job_id, self.title, self.status = job_id, title, status
        self.progress: dict[str, Any] = {}
        self.facts: dict[str, Any] = {}
        self.alerts: list[dict[str, Any]] = []
        self.torn = self.refused = 0

    def take(self, event: dict[str, Any]) -> None:
        """Note one event that is neither metrics nor rewind."""
        at = moment(event.get("at"))
        match event:
            case {"type": "status", "status": str(status)} if at is not None:
                self._move(status, at)
            case {"type": "progress", "done": done, "total": total, "unit": str()} if is_number(
                done
            ) and is_number(total):
                self.progress = event
            case {"type": "facts", "facts": dict(facts)}:
                self.facts |= facts
            case {"type": "alert", "message": str(message)} if at is not None:
                self._warn(message, at, event)
            case _:
                self.torn += 1

    def _move(self, status: str, at: Any) -> None:
        if status == self.status:
            return
        if status in ACTIVE and status in MOVES[self.status]:
            self.status = status
            return
        self.refused += 1
        message = f"The worker reported {status!r} while {self.title} was {self.status}; that was not taken."
        self._warn(message, at, {})

    def _warn(self, message: str, at: Any, event: dict[str, Any]) -> None:
        """Note an alert; of those of a verdict the first of each kind."""
        level, kind, step = (event.get(name) for name in ("level", "kind", "step"))
        kind = kind if isinstance(kind, str) and kind else None
        if kind and any(alert["kind"] == kind for alert in self.alerts):
            return
        self.alerts.append(
            {
                "job_id": self.job_id,
                "level": level if level in LEVELS else "warning",
                "message": message,
                "raised_at": at,
                "kind": kind,
                "step": step if isinstance(step, int) and not isinstance(step, bool) else None,
            }
        )

    def document(self, new_offset: int) -> dict[str, Any]:
        """The row of the job as it will be; a progress of None leaves that of the store."""
        eta = self.progress.get("eta_seconds")
        return {
            "job_id": self.job_id,
            "status": self.status,
            "event_offset": new_offset,
            "progressed": bool(self.progress),
            "done": float(self.progress.get("done", 0)),
            "total": float(self.progress.get("total", 0)),
            "unit": self.progress.get("unit"),
            "message": str(self.progress.get("message") or ""),
            "eta": float(eta) if eta is not None and is_number(eta) else None,
        }

    def alert_rows(self) -> list[dict[str, Any]]:
        """The alerts to add, the count of torn lines among them."""
        if self.torn:
            lines = "1 line" if self.torn == 1 else f"{self.torn} lines"
            message = f"The worker's report has {lines} that could not be read, or not wholly."
            self._warn(message, moment(time.time()), {})
        return self.alerts


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
    ]
)


def _write(tx: Transaction, changes: list[tuple[_Change, int]]) -> None:
    """Put what the events came to into the store, with the offset after them: one statement for all jobs."""
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
                WHERE kind IS NULL OR NOT EXISTS (  -- a resumed run comes to the same verdict again
                    SELECT 1 FROM alert b WHERE b.job_id = a.job_id AND b.kind = a.kind
                )
                """
            )
    for change, _ in changes:
        if change.facts:
            _merge_facts(tx, change.job_id, change.facts)


def _merge_facts(tx: Transaction, run_id: str, facts: dict[str, Any]) -> None:
    rows = records(tx.query("SELECT facts FROM run WHERE run_id = ?", [run_id]), ["facts"])
    for row in rows:  # none where the job is not a run: facts describe runs
        tx.execute("UPDATE run SET facts = ? WHERE run_id = ?", [to_json(row["facts"] | facts), run_id])
