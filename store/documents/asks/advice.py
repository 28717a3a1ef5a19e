"""Which method to take: the answer of the ask `advice`, and the runs of the past that it rests on."""

from __future__ import annotations

from typing import NotRequired, TypedDict

from store.documents.data.split import PartRows


class MeasuredGain(TypedDict):
    """What a verdict measured of a run, as far as an advice reads it."""

    value: float
    low: float | None
    high: float | None
    n: int
    unit: str


class MeasuredRun(TypedDict):
    """A finished run: what it was predicted to need, and what it needed. Memory is in GiB."""

    run_id: str
    name: str
    number: int
    method: str
    task: str
    model: str
    data_fingerprint: str | None
    train_rows: int | None
    gain: MeasuredGain | None  # of its verdict
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


class PastOfMethod(TypedDict):
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
    past: PastOfMethod | None
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
