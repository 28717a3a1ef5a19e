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

from store import metrics
from store.database import Database, Transaction
from store.errors import NotFoundError
from store.points import Points, is_number, moment
from store.records import records, to_json
from store.states import ACTIVE, MOVES

LEVELS = ("info", "warning")


class Batch(NamedTuple):
    """Events of one job as `store.events.read_events` gave them, and the offset after them.

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
        reports = [_apply(tx, batch, jobs.get(batch.job_id), points) for batch in batches]
        for run_id, step in points.rewinds.items():
            metrics.rewind(tx, run_id, step)
        if points:
            metrics.add(tx, points.table())
    return reports


def _jobs(tx: Transaction, job_ids: list[str]) -> dict[str, dict[str, Any]]:
    rows = tx.query(
        "SELECT job_id, title, status, event_offset FROM job WHERE list_contains(?::VARCHAR[], job_id)",
        [job_ids],
    )
    return {row["job_id"]: row for row in records(rows)}


def _apply(tx: Transaction, batch: Batch, job: dict[str, Any] | None, points: Points) -> dict[str, Any]:
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
    change.write(tx, batch.new_offset)
    report |= {"applied": True, "events": len(batch.events), "points": own.count}
    return report | {"torn": change.torn, "refused": change.refused, "status": change.status}


class _Change:
    """What the events of one job, metrics aside, come to: the last status and progress, all facts, alerts."""

    def __init__(self, job_id: str, title: str, status: str) -> None:
        self.job_id, self.title, self.status = job_id, title, status
        self.progress: dict[str, Any] = {}
        self.facts: dict[str, Any] = {}
        self.alerts: list[tuple[str, str, Any]] = []  # level, message, time
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
                level = event.get("level")
                self.alerts.append((level if level in LEVELS else "warning", message, at))
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
        self.alerts.append(("warning", message, at))

    def write(self, tx: Transaction, new_offset: int) -> None:
        """Put it into the store, with the offset after it."""
        tx.execute(
            "UPDATE job SET status = ?, event_offset = ? WHERE job_id = ?",
            [self.status, new_offset, self.job_id],
        )
        if self.progress:
            self._write_progress(tx)
        if self.facts:
            self._write_facts(tx)
        if self.torn:
            lines = "1 line" if self.torn == 1 else f"{self.torn} lines"
            message = f"The worker's report has {lines} that could not be read, or not wholly."
            self.alerts.append(("warning", message, moment(time.time())))
        for level, message, at in self.alerts:
            tx.execute("INSERT INTO alert VALUES (?, ?, ?, ?)", [self.job_id, level, message, at])

    def _write_progress(self, tx: Transaction) -> None:
        eta = self.progress.get("eta_seconds")
        tx.execute(
            "UPDATE job SET progress_done = ?, progress_total = ?, progress_unit = ?, progress_message = ?,"
            " eta_seconds = ? WHERE job_id = ?",
            [
                float(self.progress["done"]),
                float(self.progress["total"]),
                self.progress["unit"],
                str(self.progress.get("message") or ""),
                float(eta) if eta is not None and is_number(eta) else None,
                self.job_id,
            ],
        )

    def _write_facts(self, tx: Transaction) -> None:
        rows = records(tx.query("SELECT facts FROM run WHERE run_id = ?", [self.job_id]), ["facts"])
        for row in rows:  # none where the job is not a run: facts describe runs
            tx.execute(
                "UPDATE run SET facts = ? WHERE run_id = ?", [to_json(row["facts"] | self.facts), self.job_id]
            )
