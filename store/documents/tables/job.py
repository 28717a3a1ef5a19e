"""Jobs: the row of the queue, the order that a worker gets, what it reports, and how it ends."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, NotRequired, TypedDict

from store.documents.asks.advice import MeasuredRun
from store.documents.data.fates import Fates
from store.documents.data.import_result import ImportStats
from store.documents.data.row import Kind
from store.documents.data.signal_figures import SignalFigure, SignalOptions
from store.documents.data.source import SourceDocument
from store.documents.data.split import SplitBy
from store.documents.rating.rating_desk import RatingReceipt, RatingTasks
from store.documents.rating.round import RequestRoundQueued, RoundRowsQueued, RoundsToRate, RoundSystem
from store.documents.serving.endpoint import EndpointKeyMade, EndpointMade
from store.documents.serving.monitor import WatchOrder
from store.documents.serving.request_judging import WindowOfRequests
from store.documents.shipping.export import ExportOrder
from store.documents.shipping.version import ModelVersion
from store.documents.tables.activity import CommentAdded
from store.documents.tables.person import ApiTokenMade, InvitationMade

JobStatus = Literal[
    "queued", "preparing", "training", "evaluating", "finished", "failed", "cancelled", "lost"
]
Level = Literal["info", "warning"]


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
    lane: Literal["device", "light"]
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


class JobState(TypedDict):
    """What other jobs need to know of one that they wait for."""

    job_id: str
    title: str
    status: JobStatus
    error: ErrorDocument | None


class SplitFields(TypedDict):
    """How rows are dealt to train, validation and test (`store.config.training.train_config.Split`)."""

    split_seed: int
    validation_size: float  # share of the rows
    test_size: float
    split_by: SplitBy
    split_column: str | None  # label or source.NAME; null for a split by no column


class NamedDataset(TypedDict):
    """A data set as a worker has to know it."""

    dataset_id: str
    name: str
    kind: Kind
    fingerprint: str  # of the rows; names their folder


class OrderDataset(NamedDataset):
    """A data set in an order; the rest is there for work on data (profile, clean, export) alone."""

    format: NotRequired[str]  # of store.catalog.formats
    columns: NotRequired[dict[str, str]]  # role -> column of the file
    parent_id: NotRequired[str | None]
    row_count: NotRequired[int]
    split_seed: NotRequired[int]
    validation_size: NotRequired[float]
    test_size: NotRequired[float]
    split_by: NotRequired[SplitBy]
    split_column: NotRequired[str | None]
    signals: NotRequired[dict[str, SignalOptions]]  # group that was measured -> its options


class RecipeDocument(TypedDict):
    """A recipe as it is stored (`store.config.data.recipe.Recipe`)."""

    steps: list[dict[str, Any]]  # each with `step`, its kind, and the fields of that kind


class OrderVersion(TypedDict):
    """A version in the history that a data card tells."""

    name: str
    source: SourceDocument
    columns: dict[str, str]
    format: str
    row_count: int
    skipped_count: int
    stats: ImportStats
    recipe: RecipeDocument | None
    fates: Fates | None  # null for an import
    created_at: str  # ISO 8601, UTC


class GroupFigures(TypedDict):
    """What was measured of a data set by one group of signals."""

    options: SignalOptions
    row_count: int
    figures: dict[str, SignalFigure]  # column -> its figures


class CardFacts(TypedDict):
    """What the data card of an export tells beside the rows."""

    history: list[OrderVersion]  # the versions from the first to this one
    figures: dict[str, GroupFigures]  # what was measured, by group


class DataWork(TypedDict):
    """What a worker is told of the data that a profile, a cleaning or an export is of."""

    dataset: OrderDataset
    parent: OrderDataset | None  # the version before
    mixed: dict[str, OrderDataset]  # name in the recipe -> data set


class EarlierImprovement(TypedDict):
    """An improvement of the same model whose judging rows judge the next one again."""

    improvement_id: str
    judged: bool  # they have: it came to an answer
    may_judge: bool  # they may yet: it has come to none, and is under way or can be gone on with
    at_random: bool  # those that were new to it were all drawn at random of what was asked


class BesideRows(TypedDict):
    """Rows beside those of a run, with which new rows are compared: earlier new rows that judge, golden sets
    and probes; and what was replayed, or trained the model before."""

    why: Literal["judge", "train"]
    fingerprint: str
    part: str  # of that data set: train, validation, test or all
    split: SplitFields  # how it deals them
    earlier: NotRequired[EarlierImprovement]  # whose new rows these are


class DatasetOfMatrix(TypedDict):
    """A data set in the order of a matrix of transfer."""

    dataset: NamedDataset
    split: SplitFields


class GroupedEvaluation(TypedDict):
    """An evaluation whose scored rows a bias check groups."""

    evaluation_id: str
    name: str
    fingerprint: str  # of its data


class NamedClassifier(TypedDict):
    """Whose probabilities judge continuations."""

    name: str  # as people know it
    run_id: str | None  # that left it, or that a registered version came from, where it is still there
    evaluations: list[GroupedEvaluation]  # of it, newest first


class OrderRun(TypedDict):
    """A run in the order of work on what it left."""

    run_id: str
    name: str
    kind: str  # of store.catalog.job_kinds
    model: str
    created_at: str  # ISO 8601, UTC
    config: dict[str, Any]  # store.config.training.train_config.TrainConfig, resolved
    facts: dict[str, Any]  # store.documents.tables.run.RunFacts
    verdict: dict[str, Any] | None  # store.documents.verdicts.verdict.Verdict


class OtherRows(TypedDict):
    """A data set that a run read beside its own."""

    role: Literal["replay", "probe"]
    name: str
    fingerprint: str


class OrderDetails(TypedDict, total=False):
    """What an order has beside what every one has, by the kind of job."""

    run_id: str  # of a run
    dataset: OrderDataset  # of a run, an evaluation, and work on data
    split: SplitFields  # of a run and an evaluation
    replay: NamedDataset | None  # of a run, whose rows are replayed; null where it is gone
    probes: list[NamedDataset]  # of a run, the data sets that are probes, without those that are gone
    mixed_from: str  # of a run that is mixed: the run of whose model
    alpha: float  # of a run that is mixed: the share of the way from its base
    parent: OrderDataset | None  # of work on data, as DataWork
    mixed: dict[str, OrderDataset]
    beside: list[BesideRows]  # of a gathering of new rows
    disputed: list[
        str
    ]  # of a gathering: keys of rows that earlier ones found to be, as GatherResult has them
    history: list[OrderVersion]  # of an export: the versions from the first to this one
    figures: dict[str, GroupFigures]  # of an export: what was measured, by group
    datasets: list[DatasetOfMatrix]  # of a matrix of transfer: each that is still there
    systems: list[RoundSystem]  # of a rating round: whose answers are rated
    filters: list[dict[str, Any] | None]  # of a rating round: data.filters.Filter of each evaluation
    judgings: list[str]  # of a rating round of two models: jobs in which a judge compared them
    export: ExportOrder  # of an export of a model
    watch: WatchOrder  # of a look at an endpoint's requests
    judging: WindowOfRequests  # of a judging of an endpoint's requests
    gold: NamedDataset  # of a rating round: pairs whose better answer is known
    compared_versions: dict[str, ModelVersion]  # of a bias check: NAME@3 -> the registered model
    evaluations: dict[str, GroupedEvaluation]  # of a bias check: by id, those whose rows are grouped
    classifier: NamedClassifier  # of a bias check: that judges continuations
    run: OrderRun  # of a bundle, and of what holds a run against one
    parent_fingerprint: str | None  # of a bundle: of the version before
    others: list[OtherRows]  # of a bundle
    opened_by: str  # of a run from a bundle, and of what compares it: the job that opened the bundle


class JobOrder(OrderDetails):
    """`config.json` of a job's folder: all that its worker knows of the world."""

    job_id: str
    kind: str  # of store.catalog.job_kinds
    home: str  # path of the home folder
    device: NotRequired[str]  # cpu or cuda:N; left out it is cpu
    attempt: NotRequired[int]  # from 1
    resume: NotRequired[bool]
    config: dict[str, Any]


class PastRuns(TypedDict):
    """What the engine adds to a question about costs, as a worker can't look it up."""

    past: list[MeasuredRun]
    replay: NamedDataset | None  # whose rows are to be replayed
    probes: list[NamedDataset]  # the data sets that are to be probes


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


class WorkerRecord(TypedDict):
    """`worker.json`: the process that took the folder."""

    pid: int
    started: float  # seconds since the epoch; with pid it names one process for good


class JobQueued(TypedDict):
    """The answer of a command that queues a job."""

    job_id: str


class RunQueued(TypedDict):
    """The answer of a command that queues a run."""

    run_id: str


class SampleQueued(TypedDict):
    """The answer of `prepare_sample`: the jobs that make what is missing."""

    job_ids: list[str]


class RoundQueued(TypedDict):
    """A rating round is being made."""

    round_id: str
    job_ids: list[str]  # of the evaluations that it waits for


class RecipeSaved(TypedDict):
    """The answer of `save_recipe`."""

    recipe_id: str


class SliceSaved(TypedDict):
    """The answer of `save_slice`."""

    slice_id: str


class ConversationBegun(TypedDict):
    """The answer of a command that begins a conversation."""

    conversation_id: str


class RowKept(TypedDict):
    """The answer of a command that keeps a row."""

    kept_id: str


class EvidenceQueued(TypedDict):
    """The answer of `gather_gate_evidence`: the evaluations that were queued, or are under way already."""

    job_ids: list[str]


class AliasMoved(TypedDict):
    """The answer of a command that moves an alias."""

    alias: str
    reference: str | None  # NAME@NUMBER that has it now


class RunReproduced(RunQueued):
    """The answer of `reproduce`: a run, and the job that will hold its figures against the bundle's."""

    job_id: str


class Done(TypedDict):
    """The answer of a command that has nothing to say: an empty object."""


class ImprovementBegun(TypedDict):
    """An improvement is under way."""

    improvement_id: str
    improvement: str  # its name


CommandAnswer = (
    JobQueued
    | RunQueued
    | RunReproduced
    | SampleQueued
    | RecipeSaved
    | SliceSaved
    | CommentAdded
    | InvitationMade
    | ApiTokenMade
    | RoundQueued
    | RequestRoundQueued
    | RatingTasks
    | RatingReceipt
    | RoundsToRate
    | RoundRowsQueued
    | ConversationBegun
    | RowKept
    | EvidenceQueued
    | AliasMoved
    | ImprovementBegun
    | EndpointMade
    | EndpointKeyMade
    | Done
)


class IngestReport(TypedDict):
    """What became of a portion of a job's events."""

    job_id: str
    applied: bool  # false: these bytes are in the store already
    events: int
    points: int  # of metrics
    torn: int  # lines that could not be read, or not wholly
    refused: int  # moves between states that are not allowed
    status: JobStatus | None  # after the events; null for a job that is not in the store


class JobLog(TypedDict):
    """The answer of `GET /jobs/ID/log`: the end of the worker's output."""

    text: str
    bytes: int  # of the whole file
    shown_bytes: int
