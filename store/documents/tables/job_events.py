"""What a worker reports of its job, how the job ends, and what became of a portion of its reports."""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

from store.documents.tables.job import ErrorDocument, JobStatus

Level = Literal["info", "warning"]


class StatusEvent(TypedDict):
    """The job has come to another state."""

    type: Literal["status"]
    at: float  # seconds since the epoch, UTC, as in every event
    status: Literal["preparing", "training", "evaluating"]


class ProgressEvent(TypedDict):
    """How far the present phase is."""

    type: Literal["progress"]
    at: float
    done: float
    total: float
    unit: str
    message: str
    eta_seconds: float | None


class MetricsEvent(TypedDict):
    """Numbers measured at a step (optimiser steps done; 0 is the base model)."""

    type: Literal["metrics"]
    at: float
    step: int
    values: dict[str, float]


class RewindEvent(TypedDict):
    """Metrics after this step are void (a resume)."""

    type: Literal["rewind"]
    at: float
    step: int  # -1: all are
    prefix: NotRequired[str]  # those alone whose name has it


class FactsEvent(TypedDict):
    """Merged into the facts of the run."""

    type: Literal["facts"]
    at: float
    facts: dict[str, Any]  # store.documents.tables.run.RunFacts, some of them


class AlertEvent(TypedDict):
    """What the job wants its user to know; of a verdict with kind and step, one of each kind a job."""

    type: Literal["alert"]
    at: float
    level: Level
    message: str
    kind: NotRequired[str]
    step: NotRequired[int | None]


class TornEvent(TypedDict):
    """A line that is no JSON object: a write torn by a crash."""

    type: Literal["torn"]
    text: str  # its first 200 bytes


Event = StatusEvent | ProgressEvent | MetricsEvent | RewindEvent | FactsEvent | AlertEvent | TornEvent


class Outcome(TypedDict):
    """`result.json`, the last file of a job: it decides the status."""

    status: Literal["finished", "failed", "cancelled"]
    result: NotRequired[dict[str, Any]]  # of a finished one, as docs/architecture.md says of its kind
    error: NotRequired[ErrorDocument]  # of a failed one


class KernelCount(TypedDict):
    """How many processes the kernel had killed for want of memory, by one of its files."""

    path: str
    count: int


class WorkerRecord(TypedDict):
    """`worker.json`: the process that took the folder, and what tells later how it was lost."""

    pid: int
    started: float  # of `process_start`; with pid it names one process for good
    boot: NotRequired[str]  # names the start of the machine; empty where the system does not
    memory_kills: NotRequired[KernelCount | None]  # before it began; null where nobody counts them
    log_bytes: NotRequired[int]  # length of log.txt before it wrote there


class IngestReport(TypedDict):
    """What became of a portion of a job's events."""

    job_id: str
    applied: bool  # false: these bytes are in the store already
    events: int
    points: int  # of metrics
    torn: int  # lines that could not be read, or not wholly
    refused: int  # moves between states that are not allowed
    status: JobStatus | None  # after the events; null for a job that is not in the store
