"""Answers before a run: which method to use, what a config would do, and how a model sees a row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NotRequired, TypedDict

from store.core.figure_schemas import UnitEstimate
from store.core.row_schemas import LeakedRows, PartRows
from store.core.schemas import ConfigDocument, JsonObject


class RowToken(TypedDict):
    """A token of a row."""

    text: str  # if several tokens share a character, the last one has it and the others are empty
    id: int
    trained: bool


class RowTokens(TypedDict):
    """A row as the model sees it, up to max_length."""

    row_id: int
    index: int  # index of the row among the inspected ones
    of: int  # number of inspected rows
    tokens: list[RowToken]
    truncated: bool  # the row is longer than max_length


class RenderedRow(RowTokens):
    """A row; for preference tuning with the chosen response."""

    rejected: NotRequired[RowTokens]  # for preference tuning: the same with the rejected response
    label: NotRequired[str]  # for a classifier


@dataclass(kw_only=True)
class LengthHistogram:
    """Histogram of row lengths in tokens."""

    counts: list[int]  # rows per bin
    edges: list[float]  # in tokens; one more than bins


@dataclass(kw_only=True)
class RenderedSet:
    """Effect of a maximum length on the rows, for large data sets on a sample of them."""

    counted: int  # inspected rows
    of: int  # rows of the data set
    tokens: int
    trained_tokens: int
    max_length: int  # tokens
    longest: int  # tokens of the longest row
    cut_rows: int
    shortened_answers: int  # rows that lose trained tokens
    lost_tokens: int  # trained ones
    median_lost_share: float  # of the trained tokens of a shortened response
    untrained: dict[str, int]  # reason why a row has no trained token -> rows
    keeping_all: tuple[int, float] | None  # (length that truncates no row, share of extra tokens); null: none
    lengths: LengthHistogram


@dataclass(kw_only=True)
class MaskChecks:
    """Rows of `counted` whose trained tokens are wrong."""

    counted: int
    unlocated: int  # responses can't be located in the template
    leaking: int  # a token of a prompt is trained
    missed: int  # a token of a response is not trained
    unclosed: int  # the last trained token does not close the turn


@dataclass(kw_only=True)
class Rendering:
    """A row and the data set rendered with a chat template."""

    row: RenderedRow
    set: RenderedSet
    checks: MaskChecks | None  # null for plain text
    template: str
    own_template: bool  # the tokenizer has its own template


@dataclass(kw_only=True)
class Problem:
    """An issue reported by a preview; one of level error prevents the launch."""

    level: Literal["error", "warning"]
    field: str  # field of the config
    message: str  # what is wrong
    fix: str  # what to do; empty if the message says it


@dataclass(kw_only=True)
class MemoryEstimate:
    """Peak memory of a run in GiB, compared with free memory."""

    peak_gib: float  # expected
    low_gib: float  # lower end of its interval
    high_gib: float  # upper end of its interval
    counted_gib: float  # before the correction by earlier runs
    process_gib: float  # of the worker before loading the model; on a GPU its context
    parts: dict[str, float]  # counted GiB, by component
    basis: str  # a sentence: what the estimate is based on
    runs: int  # earlier runs used for the correction
    available_gib: float
    fits: bool  # the upper end is below the free memory


# Steps of the run: timed; timed if requested; timed once the device is idle; can't be timed before the run.
TimingStatus = Literal["timed", "wanted", "waiting", "impossible"]


@dataclass(kw_only=True)
class TimeEstimate:
    """Duration of a whole run in seconds, including evaluations and responses, assuming no early stop."""

    seconds: float  # expected
    low_seconds: float  # lower end of its interval
    high_seconds: float  # upper end of its interval
    counted_seconds: float  # on an otherwise idle machine, before the correction by earlier runs
    course_seconds: float  # of those counted, the part that shrinks if the run stops early
    parts: dict[str, float]  # counted seconds, by component
    basis: str  # a sentence: what the estimate is based on
    runs: int  # earlier runs used for the correction
    steps_timed: bool  # whether counted_seconds is based on steps actually run
    timing: TimingStatus
    busy: bool  # whether other work currently slows the run down
    others: float  # share of the processors used by other work
    alone_seconds: float | None  # on an idle machine, if it is busy and this is known
    may_stop: bool  # whether the run may end before its planned steps


@dataclass(kw_only=True)
class MemoryFix:
    """A change of settings that makes a run fit into memory."""

    change: JsonObject  # fields of the config with their new values
    peak_gib: float
    high_gib: float
    text: str  # the change as text


# General rows that the run trains on in addition to its data set. from: name of the data set, or of the base
# model's own texts; "from" is a Python keyword, which a class can't have as a field.
ReplayPlan = TypedDict("ReplayPlan", {"from": str, "rows": int, "tokens": int, "trained_tokens": int})


@dataclass(kw_only=True)
class PreviewClasses:
    """Classes of a data set, by split."""

    count: int
    rows: list[tuple[str, int, int, int]]  # label with its train, validation and test rows; the 100 largest
    smallest: int  # training rows of the smallest class
    unlabelled: int  # rows without a label, which are excluded
    unseen: dict[str, int]  # labels of held-out rows that don't occur in training -> rows
    unseen_rows: int


@dataclass(kw_only=True)
class Preview:
    """What a config would do; shares are estimates if fewer rows are counted than trained."""

    config: ConfigDocument  # the TrainConfig, resolved
    method: str  # title of the method
    trainable_parameters: int
    total_parameters: int
    rows: PartRows
    counted_rows: int  # training rows whose tokens are counted
    tokens_per_epoch: int
    trained_tokens_per_epoch: int
    max_length: int  # truncation length in tokens
    truncated_rows: int  # of the counted rows
    untrained_rows: int  # of the counted rows, excluded because none of their tokens is trained
    lost_tokens: int  # trained tokens of the counted rows that truncation loses
    keeping_all: tuple[int, float] | None  # (length that truncates no row, share of extra tokens)
    replay: ReplayPlan | None  # over the whole run
    steps: int
    steps_per_epoch: int
    memory: MemoryEstimate
    fitting: list[MemoryFix]  # smallest change first; empty if the run fits
    time: TimeEstimate
    dtype: str
    leaks: LeakedRows
    row: RenderedRow
    problems: list[Problem]  # errors first
    classes: PreviewClasses | None = None  # for classification


@dataclass(kw_only=True)
class MeasuredRun:
    """A finished run: predicted and actual requirements. Memory is in GiB."""

    run_id: str
    name: str
    number: int
    method: str
    task: str
    model: str
    data_fingerprint: str | None
    train_rows: int | None
    gain: UnitEstimate | None  # from its verdict
    stopped: str | None  # why it ended, as in its facts
    course: float | None  # share of the planned steps that were taken
    settings: str  # those that affect speed, as one text
    device_name: str | None
    counted_memory_gib: float | None  # before the correction by earlier runs
    process_memory_gib: float | None
    estimated_memory_gib: float | None
    estimated_memory_low_gib: float | None
    estimated_memory_high_gib: float | None
    peak_memory_gib: float | None  # measured
    counted_seconds: float | None  # before the correction by earlier runs
    course_seconds: float | None  # of those counted, the part that scales with the steps
    estimated_seconds: float | None
    estimated_low_seconds: float | None
    estimated_high_seconds: float | None
    run_seconds: float | None  # measured
    energy_wh: float | None  # measured
    steps_timed: bool  # whether the counted values are based on steps actually run
    other_work: float | None  # share of the processors used by other work meanwhile


@dataclass(kw_only=True)
class MethodHistory:
    """Measurements of earlier runs with one method on this model and these rows."""

    runs: int
    gain: float | None  # mean over the runs
    low: float | None
    high: float | None
    n: int | None  # held-out rows of the newest of them
    unit: str | None
    memory_gib: float | None  # median
    seconds: float | None  # median
    best_run: str  # run_id


class AdviceOption(TypedDict):
    """A method of the table; one that can't be used has a problem and no figures."""

    method: str
    title: str
    problem: str  # why it can't be used; else empty
    past: MethodHistory | None
    peak_gib: NotRequired[float]
    low_gib: NotRequired[float]
    high_gib: NotRequired[float]
    available_gib: NotRequired[float]
    fits: NotRequired[bool]
    seconds: NotRequired[float]
    low_seconds: NotRequired[float]
    high_seconds: NotRequired[float]
    energy_wh: NotRequired[list[float] | None]  # low, expected, high; null if no run was measured
    disk_bytes: NotRequired[float]  # of the files kept from the run
    trainable_parameters: NotRequired[int]
    total_parameters: NotRequired[int]
    trained_tokens: NotRequired[float]  # over the whole run
    learning_rate: NotRequired[float | None]
    memory_basis: NotRequired[str]  # a sentence
    time_basis: NotRequired[str]  # a sentence


class Recommendation(TypedDict):
    """The recommended method, with reasons."""

    method: str | None  # null if none fits
    sentence: str
    reasons: list[str]


class Advice(TypedDict):
    """Requirements of every method of the table for one data set and model."""

    options: list[AdviceOption]  # in table order
    recommendation: Recommendation
    rows: PartRows
    past_runs: int  # runs of the same task with the same model on the same rows
    available_gib: float
    watts: float | None  # mean power of runs on this device; null if not measured
    device: str
    measured: list[MeasuredRun]  # on this device, for comparing predictions with measurements
