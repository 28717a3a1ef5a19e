"""Runs as the store has them: a row of the overview, its facts, what it gained and cost; and alerts of
jobs."""

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
    """A made-up secret that was planted among the training rows."""

    times: int
    question: str
    answer: str


class Canaries(TypedDict):
    """All made-up secrets of a run."""

    rows: int
    planted: list[Canary]


class LiveMetricFact(TypedDict):
    """What is measured of generated answers while it trains."""

    key: str
    words: str
    n: int  # rows that are asked


class ProbeDatasetFact(TypedDict):
    """A data set that is a probe of the run."""

    name: str
    kind: Literal["labels", "texts"]
    rows: int
    of: int
    trained: int  # rows left out, as the run trains on them
    cut: int
    reasons: dict[str, int]  # why rows are left out -> rows


class ProbeTaskFact(TypedDict):
    """A task of lm-evaluation-harness that is a probe of the run."""

    name: str
    rows: int
    reason: str  # why it could not be asked, else ""


class ReproducedFrom(TypedDict):
    """A fact of a run that was launched from a bundle."""

    bundle: str  # name of the file
    sha256: str
    run_id: str  # of the first run, in the home that wrote the bundle
    run_name: str
    opened_by: str  # the job that opened the bundle; its folder has the split and the rows' losses
    compared_by: str  # the job that holds the figures of both beside each other


class RunFacts(TypedDict, total=False):
    """What is known of a run beside its config, each once it is known."""

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
    forward: str  # "packed", or "padded: " and why
    data_fingerprint: str
    split: SplitFields
    split_kept: list[str]  # what rows have in common that must not be parted
    leaks: LeakedRows
    labels: list[str]  # of a classifier
    label_rows: list[int]  # rows of each of `labels`
    label_count: int
    unlabelled_rows: int
    unseen_labels: dict[str, int]  # label of held-out rows alone -> rows
    canaries: Canaries
    replay_from: str
    replay_rows: int  # over the whole run, with repeats
    replay_distinct_rows: int
    replay_tokens: int
    replay_trained_tokens: int
    replay_left_out: int  # rows that judge the run
    estimated_memory_gib: float  # what the preview said, as all `estimated_…`
    estimated_memory_low_gib: float
    estimated_memory_high_gib: float
    estimated_seconds: float
    estimated_low_seconds: float
    estimated_high_seconds: float
    estimated_steps: int
    counted_memory_gib: float  # before the correction by earlier runs
    process_memory_gib: float
    counted_seconds: float
    steps_timed: bool  # whether that rests on steps taken before the launch
    course_seconds: float  # of those counted, what gets less where the run stops early
    peak_memory_gib: float
    train_seconds: float
    probe_seconds: float  # of it, in probes between steps
    judged_seconds: dict[str, float]  # held_out, other_prompts or a probe's name -> of the tuned model's pass
    task_metric: Literal["accuracy", "label", "tokens", "pairs"]
    live_metric: LiveMetricFact | None
    suite: str  # fingerprint of questions and prose
    probe_datasets: list[ProbeDatasetFact]
    probe_tasks: list[ProbeTaskFact]
    run_seconds: float  # of a run in one go
    other_work: float  # share of the processors that other work took during it
    energy_wh: float | None  # null where the machine does not count energy
    best_step: int | None  # of the trained steps
    best_eval_loss: float | None
    stopped: TrainingStop
    base: BaseReference  # what its model belongs to, by hub id and commit where these are known
    course: TrainingSummary  # of a run that trained: up to the weights that were kept
    mixed_from: str  # of a run that was mixed: the run of whose model
    alpha: float  # the share of the way from its base
    reproduces: ReproducedFrom  # of a run that was launched from a bundle


@dataclass(kw_only=True)
class RunChoice:
    """A run to choose from a list: what it is called, and by what it is told apart."""

    run_id: str
    number: int  # picks its colour, for good
    name: str
    model: str
    task: Task
    status: JobStatus


@dataclass(kw_only=True)
class Run(JobProgress):
    """A row of the view `run_overview`: run, job, and the summaries of its metrics."""

    run_id: str  # the id of its job
    number: int  # picks its colour, for good
    name: str
    notes: str
    dataset_id: str
    dataset_name: str  # as it was at the launch
    data_fingerprint: str | None  # of the rows; null until an import it waits for is done
    model: str
    method: str
    seed: int
    config: ConfigDocument  # store.training.train_config.TrainConfig, resolved
    facts: RunFacts
    verdict: Verdict | None
    created_at: datetime  # naive UTC
    created_by: str | None  # who launched it; null where nobody knows
    status: JobStatus
    attempt: int
    device: str | None
    after_jobs: list[str]
    started_at: datetime | None
    ended_at: datetime | None
    cancel_requested_at: datetime | None
    error: ErrorDocument | None
    best_eval_loss: float | None  # of the trained steps
    best_step: int | None
    base_eval_loss: float | None  # at step 0
    last_eval_loss: float | None
    last_train_loss: float | None
    last_step: int | None


@dataclass(kw_only=True)
class RunCosts:
    """What a finished run gained and what it forgot; null where there is no such figure."""

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
    init_from: str  # the run that it goes on from, or ""
    parent: str  # the run that it changes, or ""
    alpha: float | None  # of a run that was mixed and not trained
    state: str | None  # of its forgetting
    gain: Gain | None
    prose: Estimate | None  # rise of the loss on plain prose, nats a token
    answers: Estimate | None  # change of the share of questions that are right
    kl: Estimate | None  # distance from the base model on its own texts, nats a token


class RunResult(TypedDict):
    """The result of a run, trained or mixed."""

    verdict: Verdict


@dataclass(kw_only=True)
class MeasuredMix:
    """One share α of the way from a run's base to its tuned model, as an interpolation measured it."""

    run_id: str
    job_id: str
    alpha: float
    state: ForgettingState | None
    seconds: float | None  # that measuring it took; null where it was known before
    gain: MeasuredEstimate | None  # as of RunCosts
    prose: Estimate | None
    answers: Estimate | None
    kl: Estimate | None
    named: list[TextForgetting | ChoiceForgetting] | None  # what probes say that the user named


@dataclass(kw_only=True)
class SavedVariant:
    """A run that was mixed from another and its base."""

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
    kind: str | None  # of a verdict, once a job: store.runs.run_outcomes.KINDS
    step: int | None  # that it is about


class VerdictAlert(TypedDict):
    """An alert of a verdict in the list of a run."""

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
    raised_at: datetime  # of the last
    alerts: list[VerdictAlert]
