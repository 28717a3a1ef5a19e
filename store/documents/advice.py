"""Which method to take: the answer of the ask `advice`."""

from __future__ import annotations

from typing import NotRequired, TypedDict

from store.documents.run import MeasuredRun
from store.documents.split import PartRows


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
    train_rows: int  # with a trained token
    past_runs: int  # of the same task with the same model on the same rows
    available_gib: float
    watts: float | None  # mean power of runs on this device; null where none was counted
    device: str
    measured: list[MeasuredRun]  # on this device, whose predictions are held against what they measured
