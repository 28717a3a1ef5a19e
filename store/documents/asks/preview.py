"""What a config would do, before anything is trained: the answer of the ask `preview`."""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

from store.documents.data.overlap import Leaks
from store.documents.data.rendering import RenderedRow
from store.documents.data.split import PartRows


class Problem(TypedDict):
    """One thing that a preview warns of; a problem of level error refuses the launch."""

    level: Literal["error", "warning"]
    field: str  # of the config, that it is about
    message: str  # what is wrong
    fix: str  # what to do; empty where the message says it


class MemoryEstimate(TypedDict):
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
Timing = Literal["timed", "wanted", "waiting", "impossible"]


class TimeEstimate(TypedDict):
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
    timing: Timing
    busy: bool  # whether other work takes so much now that the run takes longer
    others: float  # share of the processors that it takes
    alone_seconds: float | None  # with the machine to itself, where it is busy and that is known
    may_stop: bool  # whether the run may end before its planned steps


class FittingChange(TypedDict):
    """A change of settings after which a run fits into memory."""

    change: dict[str, Any]  # fields of the config with their new values
    peak_gib: float
    high_gib: float
    text: str  # the change in words


# The general rows that the whole run trains beside those of its data set. from: the data set's name, or what
# the base model's own texts are called; "from" is a word of Python, so that a class can't have it.
ReplayPlan = TypedDict("ReplayPlan", {"from": str, "rows": int, "tokens": int, "trained_tokens": int})


class PreviewClasses(TypedDict):
    """The classes of a data set, by the rows that were dealt."""

    count: int
    rows: list[tuple[str, int, int, int]]  # label and its train, validation and test rows; the 100 largest
    smallest: int  # training rows of the smallest class
    unlabelled: int  # rows without a label, which are left out
    unseen: dict[str, int]  # labels of held-out rows that training doesn't know, and their rows
    unseen_rows: int


class Preview(TypedDict):
    """What a config would do; shares are estimates where fewer rows are counted than trained."""

    config: dict[str, Any]  # the TrainConfig, resolved
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
    fitting: list[FittingChange]  # nearest first; empty where the run fits
    time: TimeEstimate
    dtype: str
    leaks: Leaks
    row: RenderedRow
    problems: list[Problem]  # errors first
    classes: NotRequired[PreviewClasses]  # of classification
