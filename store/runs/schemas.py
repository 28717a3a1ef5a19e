"""Runs in the store: overview rows, facts, gains and costs, and alerts of jobs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypedDict

from store.core.figure_schemas import Estimate, Gain
from store.core.model_schemas import BaseReference, TrainingSummary
from store.core.row_schemas import LeakedRows, PartRows
from store.core.schemas import ConfigDocument, ErrorDocument, JobProgress, JobStatus
from store.evaluation.forgetting_schemas import ChoiceForgetting, ForgettingState, TextForgetting
from store.evaluation.verdict_schemas import MeasuredEstimate, TrainingStop, Verdict
from store.jobs.schemas import SplitFields

Task = Literal["sft", "classification", "dpo"]


class Canary(TypedDict):
    """A made-up secret inserted into the training rows."""

    times: int
    question: str
    answer: str


class Canaries(TypedDict):
    """All canaries of a run."""

    rows: int
    planted: list[Canary]


class LiveMetricFact(TypedDict):
    """Metric of generated answers measured during training."""

    key: str
    words: str
    n: int  # rows that are answered


class ProbeDatasetFact(TypedDict):
    """A data set used as a probe of the run."""

    name: str
    kind: Literal["labels", "texts"]
    rows: int
    of: int
    trained: int  # rows left out because the run trains on them
    cut: int
    reasons: dict[str, int]  # reason why rows are left out -> rows


class ProbeTaskFact(TypedDict):
    """A task of lm-evaluation-harness used as a probe of the run."""

    name: str
    rows: int
    reason: str  # why it could not be run, else ""


class ReproducedFrom(TypedDict):
    """Origin of a run that was launched from a bundle."""

    bundle: str  # file name
    sha256: str
    run_id: str  # id of the original run, in the home that created the bundle
    run_name: str
    opened_by: str  # the job that opened the bundle; its folder contains the split and the row losses
    compared_by: str  # the job that compares the figures of both runs


class RunFacts(TypedDict, total=False):
    """Facts about a run in addition to its config, each set once known."""

    trainable_parameters: int
    total_parameters: int
    dtype: str
    device: str
    device_name: str
    versions: dict[str, str]
    rows: PartRows
    tokens_per_epoch: int
    trained_tokens_per_epoch: int
    truncated_rows: int
    untrained_rows: int
    max_length: int
    steps: int
    forward: str  # "packed", or "padded: " and the reason
    data_fingerprint: str
    split: SplitFields
    split_kept: list[str]  # properties shared by rows that must stay in one part
    leaks: LeakedRows
    labels: list[str]  # labels of a classifier
    label_rows: list[int]  # number of rows for each of `labels`
    label_count: int
    unlabelled_rows: int
    unseen_labels: dict[str, int]  # label found only in held-out rows -> rows
    canaries: Canaries
    replay_from: str
    replay_rows: int  # over the whole run, including repeats
    replay_distinct_rows: int
    replay_tokens: int
    replay_trained_tokens: int
    replay_left_out: int  # rows that the run is evaluated on
    estimated_memory_gib: float  # from the preview, like all `estimated_…`
    estimated_memory_low_gib: float
    estimated_memory_high_gib: float
    estimated_seconds: float
    estimated_low_seconds: float
    estimated_high_seconds: float
    estimated_steps: int
    counted_memory_gib: float  # before the correction from earlier runs
    process_memory_gib: float
    counted_seconds: float
    steps_timed: bool  # whether the estimate is based on steps timed before the launch
    course_seconds: float  # part of counted_seconds that shrinks if the run stops early
    peak_memory_gib: float
    train_seconds: float
    probe_seconds: float  # part of train_seconds spent on probes between steps
    judged_seconds: dict[str, float]  # held_out, other_prompts or probe name -> of the tuned model's pass
    task_metric: Literal["accuracy", "label", "tokens", "pairs"]
    live_metric: LiveMetricFact | None
    suite: str  # fingerprint of questions and prose
    probe_datasets: list[ProbeDatasetFact]
    probe_tasks: list[ProbeTaskFact]
    run_seconds: float  # for a run without interruption
    other_work: float  # share of the CPUs used by other work during the run
    energy_wh: float | None  # null if the machine doesn't measure energy
    best_step: int | None  # over the trained steps
    best_eval_loss: float | None
    stopped: TrainingStop
    base: BaseReference  # base model of the result, with hub id and commit if known
    course: TrainingSummary  # for a trained run, up to the weights that were kept
    mixed_from: str  # for an interpolated run, the run of the tuned model
    alpha: float  # interpolation share between base (0) and tuned model (1)
    reproduces: ReproducedFrom  # for a run launched from a bundle


@dataclass(kw_only=True)
class RunChoice:
    """A run in a selection list, with its name and identifying fields."""

    run_id: str
    number: int  # determines its color permanently
    name: str
    model: str
    task: Task
    status: JobStatus


@dataclass(kw_only=True)
class Run(JobProgress):
    """A row of the view `run_overview`: run, job, and the summaries of its metrics."""

    run_id: str  # id of its job
    number: int  # determines its color permanently
    name: str
    notes: str
    dataset_id: str
    dataset_name: str  # name at launch
    data_fingerprint: str | None  # fingerprint of the rows; null until the import that it waits for is done
    model: str
    method: str
    seed: int
    config: ConfigDocument  # store.training.train_config.TrainConfig, resolved
    facts: RunFacts
    verdict: Verdict | None
    created_at: datetime  # naive UTC
    created_by: str | None  # person who launched it; null if unknown
    tags: list[str]
    archived: bool  # left out of lists until it is asked for
    status: JobStatus
    attempt: int
    device: str | None
    after_jobs: list[str]
    started_at: datetime | None
    ended_at: datetime | None
    cancel_requested_at: datetime | None
    error: ErrorDocument | None
    best_eval_loss: float | None  # over the trained steps
    best_step: int | None
    base_eval_loss: float | None  # at step 0
    last_eval_loss: float | None
    last_train_loss: float | None
    last_step: int | None


@dataclass(kw_only=True)
class RunCosts:
    """Gain and forgetting of a finished run; missing figures are null."""

    run_id: str
    number: int
    name: str
    method: str
    model: str
    dataset_id: str
    dataset_name: str
    data_fingerprint: str | None
    task: Task
    learning_rate: float | None
    num_train_epochs: float | None
    init_from: str  # the run that it continues from, or ""
    parent: str  # the run that it is a variation of, or ""
    alpha: float | None  # for an interpolated run
    state: str | None  # state of its forgetting
    gain: Gain | None
    prose: Estimate | None  # rise of the loss on plain prose, nats per token
    answers: Estimate | None  # change in accuracy on general questions
    kl: Estimate | None  # KL divergence from the base model on its own samples, nats per token


class RunResult(TypedDict):
    """Result of a run, trained or interpolated."""

    verdict: Verdict


@dataclass(kw_only=True)
class MeasuredMix:
    """Measurement at one interpolation share α between a run's base and tuned model."""

    run_id: str
    job_id: str
    alpha: float
    state: ForgettingState | None
    seconds: float | None  # measuring time; null if already known
    gain: MeasuredEstimate | None  # this and the next three: see RunCosts
    prose: Estimate | None
    answers: Estimate | None
    kl: Estimate | None
    named: list[TextForgetting | ChoiceForgetting] | None  # results on user-named probes


@dataclass(kw_only=True)
class SavedVariant:
    """A run interpolated between another run and its base."""

    run_id: str
    number: int
    name: str
    status: JobStatus
    alpha: float


@dataclass(kw_only=True)
class Prediction:
    """A held-out prompt answered before and after training."""

    run_id: str
    row_id: int
    split: str
    prompt: str
    reference: str
    base: str
    tuned: str


@dataclass(kw_only=True)
class Alert:
    """A row of table `alert`."""

    job_id: str
    level: str  # info | warning
    message: str
    raised_at: datetime
    kind: str | None  # kind of a verdict's alert, once per job: store.runs.run_outcomes.KINDS
    step: int | None  # step that it refers to


class VerdictAlert(TypedDict):
    """An alert of a verdict in a run's list of alerts."""

    kind: str
    step: int | None
    message: str


@dataclass(kw_only=True)
class RunAlerts:
    """A run with the alerts of its verdict, oldest first."""

    run_id: str
    number: int
    name: str
    status: str
    raised_at: datetime  # time of the last alert
    alerts: list[VerdictAlert]
