"""The order that a worker gets, `config.json` of a job's folder; what it reports on the way and how it
ends; and metrics over steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NotRequired, TypedDict

from store.core.export_schemas import ExportSpec, VerifySpec
from store.core.monitoring_schemas import RequestWindow, WatchSpec
from store.core.rating_schemas import RoundSystem
from store.core.row_schemas import (
    Fates,
    ImportStats,
    Kind,
    SignalFigure,
    SignalOptions,
    SourceDocument,
    SplitMethod,
)
from store.core.schemas import ConfigDocument, ErrorDocument, JobStatus, JsonObject
from store.core.training_schemas import MeasuredRun


class SplitFields(TypedDict):
    """How rows are dealt to train, validation and test (`store.training.split.Split`)."""

    split_seed: int
    validation_size: float  # share of the rows
    test_size: float
    split_by: SplitMethod
    split_column: str | None  # label or source.NAME; null for a split by no column


class NamedDataset(TypedDict):
    """A data set as a worker has to know it."""

    dataset_id: str
    name: str
    kind: Kind
    fingerprint: str  # of the rows; names their folder


class OrderDataset(NamedDataset):
    """A data set in an order; the rest is there for work on data (profile, clean, export) alone."""

    format: NotRequired[str]  # of store.data.formats
    columns: NotRequired[dict[str, str]]  # role -> column of the file
    parent_id: NotRequired[str | None]
    row_count: NotRequired[int]
    split_seed: NotRequired[int]
    validation_size: NotRequired[float]
    test_size: NotRequired[float]
    split_by: NotRequired[SplitMethod]
    split_column: NotRequired[str | None]
    signals: NotRequired[dict[str, SignalOptions]]  # group that was measured -> its options


class RecipeDocument(TypedDict):
    """A recipe as it is stored (`store.data.cleaning.Recipe`)."""

    steps: list[ConfigDocument]  # each with `step`, its kind, and the fields of that kind


@dataclass(kw_only=True)
class VersionSpec:
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

    history: list[VersionSpec]  # the versions from the first to this one
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


@dataclass(kw_only=True)
class ComparisonRows:
    """Rows beside those of a run, with which new rows are compared: earlier new rows that judge, golden sets
    and probes; and what was replayed, or trained the model before."""

    why: Literal["judge", "train"]
    fingerprint: str
    part: str  # of that data set: train, validation, test or all
    split: SplitFields  # how it deals them
    earlier: EarlierImprovement | None = None  # whose new rows these are


class TransferDatasetSpec(TypedDict):
    """A data set in the order of a matrix of transfer."""

    dataset: NamedDataset
    split: SplitFields


class GroupedEvaluation(TypedDict):
    """An evaluation whose scored rows a bias check groups."""

    evaluation_id: str
    name: str
    fingerprint: str  # of its data


class ComparedVersion(TypedDict):
    """A registered model of which a bias check asks the probes."""

    reference: str  # NAME@3
    folder: str  # relative to the home
    adapter: bool
    base_model: str | None  # null where nothing tells which


class NamedClassifier(TypedDict):
    """Whose probabilities judge continuations."""

    name: str  # as people know it
    run_id: str | None  # that left it, or that a registered version came from, where it is still there
    evaluations: list[GroupedEvaluation]  # of it, newest first


@dataclass(kw_only=True)
class RunSpec:
    """A run in the order of work on what it left."""

    run_id: str
    name: str
    kind: str  # of store.core.job_kinds
    model: str
    created_at: str  # ISO 8601, UTC
    config: ConfigDocument  # store.training.train_config.TrainConfig, resolved
    facts: ConfigDocument  # store.runs.schemas.RunFacts
    verdict: ConfigDocument | None  # store.evaluation.verdict_schemas.Verdict


@dataclass(kw_only=True)
class LossCurve:
    """A loss of a run by step."""

    steps: list[int]
    values: list[float | None]  # null where it was not finite


@dataclass(kw_only=True)
class RunWithCurves(RunSpec):
    """A run with its losses: of training by step, of validation by validation."""

    curves: dict[Literal["train/loss", "eval/loss"], LossCurve]


class AuxiliaryDataset(TypedDict):
    """A data set that a run read beside its own."""

    role: Literal["replay", "probe"]
    name: str
    fingerprint: str


class JobSpecDetails(TypedDict, total=False):
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
    beside: list[ComparisonRows]  # of a gathering of new rows
    disputed: list[str]  # of a gathering: keys of rows, of earlier ones' GatherResult
    history: list[VersionSpec]  # of an export: the versions from the first to this one
    figures: dict[str, GroupFigures]  # of an export: what was measured, by group
    datasets: list[TransferDatasetSpec]  # of a matrix of transfer: each that is still there
    systems: list[RoundSystem]  # of a rating round: whose answers are rated
    filters: list[ConfigDocument | None]  # of a rating round: data.filters.Filter of each evaluation
    judgings: list[str]  # of a rating round of two models: jobs in which a judge compared them
    export: ExportSpec  # of an export of a model, and of a check of one
    verify: VerifySpec  # of a check of an export
    watch: WatchSpec  # of a look at an endpoint's requests
    judging: RequestWindow  # of a judging of an endpoint's requests
    gold: NamedDataset  # of a rating round: pairs whose better answer is known
    compared_versions: dict[str, ComparedVersion]  # of a bias check: NAME@3 -> the registered model
    evaluations: dict[str, GroupedEvaluation]  # of a bias check: by id, those whose rows are grouped
    classifier: NamedClassifier  # of a bias check: that judges continuations
    run: RunSpec  # of a bundle, and of what holds a run against one
    parent_fingerprint: str | None  # of a bundle: of the version before
    others: list[AuxiliaryDataset]  # of a bundle
    compared: list[RunWithCurves]  # the original, where it is in this home, and the run that repeats it
    opened_by: str  # of a run from a bundle, and of what compares it: the job that opened the bundle


class JobSpec(JobSpecDetails):
    """`config.json` of a job's folder: all that its worker knows of the world."""

    job_id: str
    kind: str  # of store.core.job_kinds
    home: str  # path of the home folder
    device: NotRequired[str]  # cpu or cuda:N; left out it is cpu
    attempt: NotRequired[int]  # from 1
    resume: NotRequired[bool]
    networks: NotRequired[list[str]]  # private ones that an admin allowed, in which a judge may be
    config: ConfigDocument


class ImportReading(TypedDict):
    """How the rows of a file were read by an import that did not ask which columns are left out."""

    format: str  # of store.data.formats
    columns: dict[str, str]  # role -> column of the file
    answers: str | None  # how answers name their choices


class RunHistory(TypedDict):
    """What the engine adds to a question about costs, as a worker can't look it up."""

    past: list[MeasuredRun]
    replay: NamedDataset | None  # whose rows are to be replayed
    probes: list[NamedDataset]  # the data sets that are to be probes
    imported_as: ImportReading | None  # of rows whose columns nobody was asked about
    running: bool  # whether a run is training


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
    facts: ConfigDocument  # store.runs.schemas.RunFacts, some of them


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
    result: NotRequired[JsonObject]  # of a finished one, as docs/results.md says of its kind
    error: NotRequired[ErrorDocument]  # of a failed one


class OomKillCount(TypedDict):
    """How many processes the kernel had killed for want of memory, by one of its files."""

    path: str
    count: int


class WorkerRecord(TypedDict):
    """`worker.json`: the process that took the folder, and what tells later how it was lost."""

    pid: int
    started: float  # of `get_process_start`; with pid it names one process for good
    boot: NotRequired[str]  # names the start of the machine; empty where the system does not
    memory_kills: NotRequired[OomKillCount | None]  # before it began; null where nobody counts them
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


@dataclass(kw_only=True)
class MetricSummary:
    """A row of `metric_summary`: all points of one metric of a run; figures are over the finite ones, and
    null where there is none."""

    run_id: str
    name: str
    count: int  # of all points
    nonfinite: int  # of them NaN or infinite
    min: float | None
    max: float | None
    sum: float | None
    min_step: int | None  # where min was first reached
    max_step: int | None
    first_step: int | None
    first_value: float | None
    first_at: datetime | None
    last_step: int | None
    last_value: float | None
    last_at: datetime | None


class CurvePoint(TypedDict):
    """A bucket of a metric's curve."""

    step: int  # the last of the bucket
    first_step: int
    value: float | None  # the last finite one
    min: float | None
    max: float | None
    mean: float | None
    count: int
    nonfinite: int


@dataclass(kw_only=True)
class ValidationSums:
    """A metric at one validation as sums over its rows: of x (what counts), w (its weight) and their
    products, for an interval of the ratio of x to w."""

    step: int
    n: int  # rows
    x: float
    w: float
    xx: float
    xw: float
    ww: float
