"""Spec of a job, `config.json` of its folder; events and outcome of its worker; and metrics over steps."""

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
    """How rows are assigned to train, validation and test (`store.training.split.Split`)."""

    split_seed: int
    validation_size: float  # share of the rows
    test_size: float
    split_by: SplitMethod
    split_column: str | None  # label or source.NAME; null if not split by a column


class NamedDataset(TypedDict):
    """A data set, with the fields that a worker needs."""

    dataset_id: str
    name: str
    kind: Kind
    fingerprint: str  # of the rows; name of their folder


class OrderDataset(NamedDataset):
    """A data set in a job spec; the optional fields are for data jobs only (profile, clean, export)."""

    format: NotRequired[str]  # of store.data.formats
    columns: NotRequired[dict[str, str]]  # role -> column of the file
    parent_id: NotRequired[str | None]
    row_count: NotRequired[int]
    split_seed: NotRequired[int]
    validation_size: NotRequired[float]
    test_size: NotRequired[float]
    split_by: NotRequired[SplitMethod]
    split_column: NotRequired[str | None]
    signals: NotRequired[dict[str, SignalOptions]]  # measured group -> its options


class RecipeDocument(TypedDict):
    """A stored recipe (`store.data.cleaning.Recipe`)."""

    steps: list[ConfigDocument]  # each with its kind as `step`, and the fields of that kind


@dataclass(kw_only=True)
class VersionSpec:
    """A version in the history shown on a data card."""

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
    """Measurements of a data set for one group of signals."""

    options: SignalOptions
    row_count: int
    figures: dict[str, SignalFigure]  # column -> its figures


class CardFacts(TypedDict):
    """Content of an export's data card besides the rows."""

    history: list[VersionSpec]  # versions from the first to this one
    figures: dict[str, GroupFigures]  # measurements by group


class DataWork(TypedDict):
    """Input data of a profile, cleaning or export."""

    dataset: OrderDataset
    parent: OrderDataset | None  # the previous version
    mixed: dict[str, OrderDataset]  # name in the recipe -> data set


class EarlierImprovement(TypedDict):
    """An improvement of the same model whose judging rows also judge the next one."""

    improvement_id: str
    judged: bool  # they have judged: it has a result
    may_judge: bool  # they may still judge: it has no result yet, and is running or can be continued
    at_random: bool  # all of its new ones were sampled at random from the requests


@dataclass(kw_only=True)
class ComparisonRows:
    """Rows other than those of a run, with which new rows are compared: earlier new rows that judge, golden
    sets and probes; and rows that were replayed, or trained the previous model.
    """

    why: Literal["judge", "train"]
    fingerprint: str
    part: str  # of that data set: train, validation, test or all
    split: SplitFields  # how that data set is split
    earlier: EarlierImprovement | None = None  # the improvement that these rows were new in


class TransferDatasetSpec(TypedDict):
    """A data set in the spec of a transfer matrix."""

    dataset: NamedDataset
    split: SplitFields


class GroupedEvaluation(TypedDict):
    """An evaluation whose scored rows a bias check groups."""

    evaluation_id: str
    name: str
    fingerprint: str  # of its data set


class ComparedVersion(TypedDict):
    """A registered model that a bias check runs the probes on."""

    reference: str  # NAME@3
    folder: str  # relative to the home folder
    adapter: bool
    base_model: str | None  # null if unknown


class NamedClassifier(TypedDict):
    """The classifier whose probabilities judge continuations."""

    name: str  # display name
    run_id: str | None  # run of the model or of the registered version, if it still exists
    evaluations: list[GroupedEvaluation]  # evaluations of it, newest first


@dataclass(kw_only=True)
class RunSpec:
    """A run in the spec of a job that works on its output."""

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
    """Loss of a run by step."""

    steps: list[int]
    values: list[float | None]  # null if not finite


@dataclass(kw_only=True)
class RunWithCurves(RunSpec):
    """A run with its losses: training loss by step, validation loss by validation."""

    curves: dict[Literal["train/loss", "eval/loss"], LossCurve]


class AuxiliaryDataset(TypedDict):
    """A data set that a run read in addition to its own."""

    role: Literal["replay", "probe"]
    name: str
    fingerprint: str


class JobSpecDetails(TypedDict, total=False):
    """Fields of a job spec that depend on the kind of job."""

    run_id: str  # run
    dataset: OrderDataset  # run, evaluation, and data jobs
    split: SplitFields  # run and evaluation
    replay: NamedDataset | None  # run: data set whose rows are replayed; null if deleted
    probes: list[NamedDataset]  # run: data sets used as probes, without deleted ones
    mixed_from: str  # mixed run: the run whose model is mixed
    alpha: float  # mixed run: interpolation factor, 0 at its base
    parent: OrderDataset | None  # data jobs, as in DataWork
    mixed: dict[str, OrderDataset]
    beside: list[ComparisonRows]  # gathering of new rows
    disputed: list[str]  # gathering: keys of rows, from GatherResult of earlier ones
    history: list[VersionSpec]  # export: versions from the first to this one
    figures: dict[str, GroupFigures]  # export: measurements by group
    datasets: list[TransferDatasetSpec]  # transfer matrix: data sets that still exist
    systems: list[RoundSystem]  # rating round: models whose responses are rated
    filters: list[ConfigDocument | None]  # rating round: data.filters.Filter of each evaluation
    judgings: list[str]  # rating round of two models: jobs in which a judge compared them
    export: ExportSpec  # model export, and its verification
    verify: VerifySpec  # verification of an export
    watch: WatchSpec  # monitoring check of an endpoint's requests
    judging: RequestWindow  # judging of an endpoint's requests
    gold: NamedDataset  # rating round: pairs with a known better response
    compared_versions: dict[str, ComparedVersion]  # bias check: NAME@3 -> registered model
    evaluations: dict[str, GroupedEvaluation]  # bias check: by id, evaluations whose rows are grouped
    classifier: NamedClassifier  # bias check: judges continuations
    run: RunSpec  # bundle, and comparison of a run with one
    parent_fingerprint: str | None  # bundle: of the previous version
    others: list[AuxiliaryDataset]  # bundle
    compared: list[RunWithCurves]  # the original, if in this home folder, and the run that reproduces it
    opened_by: str  # run from a bundle, and its comparison: the job that opened the bundle


class JobSpec(JobSpecDetails):
    """`config.json` of a job's folder: the entire input of its worker."""

    job_id: str
    kind: str  # of store.core.job_kinds
    home: str  # path of the home folder
    device: NotRequired[str]  # cpu or cuda:N; default: cpu
    attempt: NotRequired[int]  # starts at 1
    resume: NotRequired[bool]
    networks: NotRequired[list[str]]  # private networks that an admin has allowed, where a judge may be
    config: ConfigDocument


class ImportReading(TypedDict):
    """How the rows of a file were read by an import that did not ask which columns to exclude."""

    format: str  # of store.data.formats
    columns: dict[str, str]  # role -> column of the file
    answers: str | None  # how responses name their choices


class RunHistory(TypedDict):
    """What the engine adds to a cost estimate request, since its worker can't query it."""

    past: list[MeasuredRun]
    replay: NamedDataset | None  # data set whose rows are to be replayed
    probes: list[NamedDataset]  # data sets to be used as probes
    imported_as: ImportReading | None  # for rows whose columns were not asked about
    running: bool  # whether a run is currently training


Level = Literal["info", "warning"]


class StatusEvent(TypedDict):
    """The job changed its state."""

    type: Literal["status"]
    at: float  # seconds since the epoch, UTC, as in every event
    status: Literal["preparing", "training", "evaluating"]


class ProgressEvent(TypedDict):
    """Progress of the current phase."""

    type: Literal["progress"]
    at: float
    done: float
    total: float
    unit: str
    message: str
    eta_seconds: float | None


class MetricsEvent(TypedDict):
    """Metrics at a step (number of optimizer steps taken; 0 is the base model)."""

    type: Literal["metrics"]
    at: float
    step: int
    values: dict[str, float]


class RewindEvent(TypedDict):
    """Metrics after this step are void (a resume)."""

    type: Literal["rewind"]
    at: float
    step: int  # -1: all are void
    prefix: NotRequired[str]  # only metrics whose name starts with it


class FactsEvent(TypedDict):
    """Facts to be merged into those of the run."""

    type: Literal["facts"]
    at: float
    facts: ConfigDocument  # store.runs.schemas.RunFacts, partial


class AlertEvent(TypedDict):
    """A message of the job to its user; for a verdict with kind and step, at most one of each kind
    per job.
    """

    type: Literal["alert"]
    at: float
    level: Level
    message: str
    kind: NotRequired[str]
    step: NotRequired[int | None]


class TornEvent(TypedDict):
    """A line that is not a JSON object: a write torn by a crash."""

    type: Literal["torn"]
    text: str  # its first 200 bytes


Event = StatusEvent | ProgressEvent | MetricsEvent | RewindEvent | FactsEvent | AlertEvent | TornEvent


class Outcome(TypedDict):
    """`result.json`, the last file of a job: it decides the status."""

    status: Literal["finished", "failed", "cancelled"]
    result: NotRequired[JsonObject]  # if finished; documented in docs/results.md for its kind
    error: NotRequired[ErrorDocument]  # if failed


class OomKillCount(TypedDict):
    """Number of processes killed by the kernel for lack of memory, as counted in one of its files."""

    path: str
    count: int


class WorkerRecord(TypedDict):
    """`worker.json`: the process that took the folder, and information to determine later how it was lost."""

    pid: int
    started: float  # from `get_process_start`; identifies the process permanently, together with pid
    boot: NotRequired[str]  # boot id of the machine; empty if the system has none
    memory_kills: NotRequired[OomKillCount | None]  # before it started; null if not counted
    log_bytes: NotRequired[int]  # length of log.txt before it wrote to it


class IngestReport(TypedDict):
    """Result of ingesting a batch of a job's events."""

    job_id: str
    applied: bool  # false: these bytes were applied before
    events: int
    points: int  # metric points
    torn: int  # lines that could not be read, or only partly
    refused: int  # transitions that are not allowed
    status: JobStatus | None  # after the events; null for a job that is not in the store


@dataclass(kw_only=True)
class MetricSummary:
    """Row of `metric_summary`: all points of one metric of a run. Figures are over the finite values, and
    null if there are none.
    """

    run_id: str
    name: str
    count: int  # number of all points
    nonfinite: int  # of these, NaN or infinite
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

    step: int  # last of the bucket
    first_step: int
    value: float | None  # last finite one
    min: float | None
    max: float | None
    mean: float | None
    count: int
    nonfinite: int


@dataclass(kw_only=True)
class ValidationSums:
    """A metric at one validation as sums over its rows: of x (the counted quantity), w (its weight) and their
    products, for an interval of the ratio of x to w.
    """

    step: int
    n: int  # number of rows
    x: float
    w: float
    xx: float
    xw: float
    ww: float
