"""Answers to questions before a run: which method to take, what a config would do, and a row as a model
reads it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NotRequired, TypedDict

from store.core.figure_schemas import UnitEstimate
from store.core.row_schemas import LeakedRows, PartRows
from store.core.schemas import ConfigDocument, JsonObject


class RowToken(TypedDict):
    """One token of a row."""

    text: str  # of tokens that share one character the last has it, and the others are empty
    id: int
    trained: bool


class RowTokens(TypedDict):
    """A row as the model sees it, up to max_length."""

    row_id: int
    index: int  # the place of the row among those that are looked at
    of: int  # how many these are
    tokens: list[RowToken]
    truncated: bool  # the row goes on beyond max_length


class RenderedRow(RowTokens):
    """A row; of preference tuning it ends with the chosen answer."""

    rejected: NotRequired[RowTokens]  # of preference tuning: the same with the rejected answer
    label: NotRequired[str]  # of a classifier


@dataclass(kw_only=True)
class LengthHistogram:
    """Tokens of the rows."""

    counts: list[int]  # rows of each bin
    edges: list[float]  # tokens; one more than there are bins


@dataclass(kw_only=True)
class RenderedSet:
    """What a length means for the rows, of large data sets a sample of them."""

    counted: int  # rows that were looked at
    of: int  # rows of the data set
    tokens: int
    trained_tokens: int
    max_length: int  # tokens
    longest: int  # tokens of the longest row
    cut_rows: int
    shortened_answers: int  # rows that lose trained tokens
    lost_tokens: int  # trained ones
    median_lost_share: float  # of the trained tokens of a shortened answer
    untrained: dict[str, int]  # why a row has no trained token -> rows
    keeping_all: tuple[int, float] | None  # (length that cuts no row, share of more tokens); null: none cut
    lengths: LengthHistogram


@dataclass(kw_only=True)
class MaskChecks:
    """Rows of `counted` whose trained tokens are not the right ones."""

    counted: int
    unlocated: int  # the answers can't be located in the template
    leaking: int  # a token of a prompt is trained
    missed: int  # a token of an answer is not trained
    unclosed: int  # the last trained token does not close the turn


@dataclass(kw_only=True)
class Rendering:
    """A row and the set under a chat template."""

    row: RenderedRow
    set: RenderedSet
    checks: MaskChecks | None  # null for plain text
    template: str
    own_template: bool  # the tokenizer has one of its own


@dataclass(kw_only=True)
class Problem:
    """One thing that a preview warns of; a problem of level error refuses the launch."""

    level: Literal["error", "warning"]
    field: str  # of the config, that it is about
    message: str  # what is wrong
    fix: str  # what to do; empty where the message says it


@dataclass(kw_only=True)
class MemoryEstimate:
    """Peak memory of a run in GiB, against what is free."""

    peak_gib: float  # expected
    low_gib: float  # lower end of its interval
    high_gib: float  # upper end of its interval
    counted_gib: float  # before the correction by runs of the past
    process_gib: float  # of the worker before it loads the model; on a GPU its context
    parts: dict[str, float]  # GiB of what was counted, by what takes it
    basis: str  # a sentence: what the estimate rests on
    runs: int  # of the past, that corrected it
    available_gib: float
    fits: bool  # the upper end is below what is free


# Of steps of the run: taken and timed; to be, where the ask asks for it; to be once nothing else has the
# device; not possible before the run.
TimingStatus = Literal["timed", "wanted", "waiting", "impossible"]


@dataclass(kw_only=True)
class TimeEstimate:
    """Seconds of a whole run, evaluations and answers included, as if nothing ends it early."""

    seconds: float  # expected
    low_seconds: float  # lower end of its interval
    high_seconds: float  # upper end of its interval
    counted_seconds: float  # of a machine that does nothing else, before the correction by runs of the past
    course_seconds: float  # of those counted, what gets less where the run stops early
    parts: dict[str, float]  # seconds of what was counted, by what takes them
    basis: str  # a sentence: what the estimate rests on
    runs: int  # of the past, that corrected it
    steps_timed: bool  # whether counted_seconds rests on steps that were taken for real
    timing: TimingStatus
    busy: bool  # whether other work takes so much now that the run takes longer
    others: float  # share of the processors that it takes
    alone_seconds: float | None  # with the machine to itself, where it is busy and that is known
    may_stop: bool  # whether the run may end before its planned steps


@dataclass(kw_only=True)
class MemoryFix:
    """A change of settings after which a run fits into memory."""

    change: JsonObject  # fields of the config with their new values
    peak_gib: float
    high_gib: float
    text: str  # the change in words


# The general rows that the whole run trains beside those of its data set. from: the data set's name, or what
# the base model's own texts are called; "from" is a word of Python, so that a class can't have it.
ReplayPlan = TypedDict("ReplayPlan", {"from": str, "rows": int, "tokens": int, "trained_tokens": int})


@dataclass(kw_only=True)
class PreviewClasses:
    """The classes of a data set, by the rows that were dealt."""

    count: int
    rows: list[tuple[str, int, int, int]]  # label and its train, validation and test rows; the 100 largest
    smallest: int  # training rows of the smallest class
    unlabelled: int  # rows without a label, which are left out
    unseen: dict[str, int]  # labels of held-out rows that training doesn't know, and their rows
    unseen_rows: int


@dataclass(kw_only=True)
class Preview:
    """What a config would do; shares are estimates where fewer rows are counted than trained."""

    config: ConfigDocument  # the TrainConfig, resolved
    method: str  # its title
    trainable_parameters: int
    total_parameters: int
    rows: PartRows
    counted_rows: int  # training rows whose tokens are counted
    tokens_per_epoch: int
    trained_tokens_per_epoch: int
    max_length: int  # tokens that rows are cut at
    truncated_rows: int  # of those counted
    untrained_rows: int  # of those counted, left out as none of their tokens is trained
    lost_tokens: int  # trained tokens of the counted rows that cutting loses
    keeping_all: tuple[int, float] | None  # the limit that cuts no row, and the share of more tokens
    replay: ReplayPlan | None  # over the whole run
    steps: int
    steps_per_epoch: int
    memory: MemoryEstimate
    fitting: list[MemoryFix]  # nearest first; empty where the run fits
    time: TimeEstimate
    dtype: str
    leaks: LeakedRows
    row: RenderedRow
    problems: list[Problem]  # errors first
    classes: PreviewClasses | None = None  # of classification


@dataclass(kw_only=True)
class MeasuredRun:
    """A finished run: what it was predicted to need, and what it needed. Memory is in GiB."""

    run_id: str
    name: str
    number: int
    method: str
    task: str
    model: str
    data_fingerprint: str | None
    train_rows: int | None
    gain: UnitEstimate | None  # of its verdict
    stopped: str | None  # why it ended, as in its facts
    course: float | None  # share of the planned steps that it took
    settings: str  # those that change its speed, as one text
    device_name: str | None
    counted_memory_gib: float | None  # before the correction by runs of the past
    process_memory_gib: float | None
    estimated_memory_gib: float | None
    estimated_memory_low_gib: float | None
    estimated_memory_high_gib: float | None
    peak_memory_gib: float | None  # measured
    counted_seconds: float | None  # before the correction by runs of the past
    course_seconds: float | None  # of those counted, what goes with the steps
    estimated_seconds: float | None
    estimated_low_seconds: float | None
    estimated_high_seconds: float | None
    run_seconds: float | None  # measured
    energy_wh: float | None  # measured
    steps_timed: bool  # whether what was counted rests on steps that were taken for real
    other_work: float | None  # share of the processors that other work took meanwhile


@dataclass(kw_only=True)
class MethodHistory:
    """What runs with one method on this model and these rows measured."""

    runs: int
    gain: float | None  # mean over the runs
    low: float | None
    high: float | None
    n: int | None  # rows that judged the newest of them
    unit: str | None
    memory_gib: float | None  # median
    seconds: float | None  # median
    best_run: str  # its run_id


class AdviceOption(TypedDict):
    """One method of the table; one that can't be used has its problem and no figures."""

    method: str
    title: str
    problem: str  # why it can't be used, else empty
    past: MethodHistory | None
    peak_gib: NotRequired[float]
    low_gib: NotRequired[float]
    high_gib: NotRequired[float]
    available_gib: NotRequired[float]
    fits: NotRequired[bool]
    seconds: NotRequired[float]
    low_seconds: NotRequired[float]
    high_seconds: NotRequired[float]
    energy_wh: NotRequired[list[float] | None]  # low, expected, high; null where no run's was counted
    disk_bytes: NotRequired[float]  # of what is kept of the run
    trainable_parameters: NotRequired[int]
    total_parameters: NotRequired[int]
    trained_tokens: NotRequired[float]  # over the whole run
    learning_rate: NotRequired[float | None]
    memory_basis: NotRequired[str]  # a sentence
    time_basis: NotRequired[str]  # a sentence


class Recommendation(TypedDict):
    """The method to take, with the reasons."""

    method: str | None  # null where none fits
    sentence: str
    reasons: list[str]


class Advice(TypedDict):
    """What every method of the table would need for one data set and model."""

    options: list[AdviceOption]  # in the order of the table
    recommendation: Recommendation
    rows: PartRows
    past_runs: int  # of the same task with the same model on the same rows
    available_gib: float
    watts: float | None  # mean power of runs on this device; null where none was counted
    device: str
    measured: list[MeasuredRun]  # on this device, whose predictions are held against what they measured
