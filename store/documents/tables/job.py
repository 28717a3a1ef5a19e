"""Jobs: the row of the queue, and how each stands."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, NotRequired, TypedDict

JobStatus = Literal[
    "queued", "preparing", "training", "evaluating", "finished", "failed", "cancelled", "lost"
]


class ErrorDocument(TypedDict):
    """What went wrong, as it crosses processes (`store.contract.errors`)."""

    error: str  # name of the class, or of what happened: OutOfMemory, DiskFull, WorkerLost
    message: str  # one sentence
    fix: NotRequired[str]  # what to do about it; empty where nothing is known
    field: NotRequired[str]  # of the form or config that is at fault; empty for none
    change: NotRequired[dict[str, Any]]  # what `fix` says, as fields of a config
    retry_after: NotRequired[int]  # seconds until it is worth another try
    traceback: NotRequired[str]  # or the last lines of the log, of a worker that was lost


class JobProgress(TypedDict):
    """How far a job is, as its row has it; null until it has said so."""

    progress_done: float | None
    progress_total: float | None  # 0 where nobody knows
    progress_unit: str | None  # rows, steps, bytes, …
    progress_message: str | None
    eta_seconds: float | None  # until the end; null where it can't be said yet


class Job(JobProgress):
    """A row of table `job`."""

    job_id: str
    kind: str  # of store.catalog.job_kinds
    lane: Literal["device", "beside", "light"]
    title: str
    status: JobStatus
    config: dict[str, Any]  # what was asked for, as its kind's config model writes it
    after_jobs: list[str]  # must be finished before this one starts
    attempt: int  # 2 is the first resume
    device: str | None  # cpu or cuda:N; null while it waits
    pid: int | None
    process_started: float | None  # with pid it names one process for good
    event_offset: int  # bytes of events.jsonl that are in the store
    created_at: datetime  # naive UTC, as all times of the store
    created_by: str | None  # who asked for it; null for what the engine asked for itself
    started_at: datetime | None  # of the present attempt
    ended_at: datetime | None
    heartbeat_at: datetime | None  # the worker was last seen alive
    cancel_requested_at: datetime | None
    error: ErrorDocument | None
    result: dict[str, Any] | None  # as docs/architecture.md says of its kind; of a run the verdict too


class WaitingJob(TypedDict):
    """A queued job, as much of it as decides on its start."""

    job_id: str
    kind: str
    lane: Literal["device", "beside", "light"]
    title: str
    after_jobs: list[str]
    ready: bool  # all that it waits for is finished


class JobState(TypedDict):
    """What other jobs need to know of one that they wait for."""

    job_id: str
    title: str
    status: JobStatus
    error: ErrorDocument | None


class JobLog(TypedDict):
    """The answer of `GET /jobs/ID/log`: the end of the worker's output."""

    text: str
    bytes: int  # of the whole file
    shown_bytes: int
