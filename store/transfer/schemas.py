"""What a transfer job leaves: every run on every data set, and what may predict it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NotRequired, TypedDict

from store.core.figure_schemas import Estimate
from store.core.schemas import ConfigDocument
from store.jobs.schemas import SplitFields


class TransferRun(TypedDict):
    """A row of the matrix."""

    run_id: str
    name: str
    reason: str  # why it can't be measured, else empty
    trained: list[str]  # fingerprints: its own data first, then those of the runs that it went on from
    init_from: NotRequired[str]  # missing, as base, where the run is gone
    base: NotRequired[str | None]  # hash of the base model's contents; null where it can't be measured


@dataclass(kw_only=True)
class TransferDataset:
    """A column of the matrix."""

    dataset_id: str
    name: str
    kind: str
    fingerprint: str
    part: str
    rows: int
    of: int  # rows of the part before sampling
    split: SplitFields
    reason: str  # why it has no rows, else empty


class OverlappingRows(TypedDict, total=False):
    """Rows of a column that a run must not be judged on, or nearly so; empty where it could not be looked
    at."""

    trained: int  # the run was trained or validated on them
    asked: int  # they ask what it was taught
    near: int  # near duplicates, which stay in


@dataclass(kw_only=True)
class TransferFigure(Estimate):
    """A paired difference between tuned and base model."""

    p: float
    detectable: float | None


class ModelLevel(TypedDict):
    """One model on the rows of a column."""

    n: int
    tokens: int
    loss: Estimate  # nats a token
    right: Estimate  # share of rows whose every token is the likeliest


class TransferCell(TypedDict):
    """A run on a data set. With a `reason` there are no figures; the base model (run_id "") has `base`, `n`
    and `file` alone."""

    run_id: str
    dataset_id: str
    reason: str
    left_out: NotRequired[OverlappingRows]
    cut: NotRequired[int]  # rows that were cut to length
    base_file: NotRequired[str]  # names of the files with the rows, in `cells/`
    file: NotRequired[str]
    n: NotRequired[int]
    tokens: NotRequired[int]
    relative: NotRequired[TransferFigure]  # share of the base model's loss that is gained
    change: NotRequired[TransferFigure]  # of the loss, tuned minus base, nats a token
    right: NotRequired[TransferFigure]  # of the share of rows right, tuned minus base
    base: NotRequired[ModelLevel]
    tuned: NotRequired[ModelLevel]


class Similarity(TypedDict):
    """How far apart two data sets or two trainings are; null where that can't be worked out."""

    value: float | None
    low: float | None
    high: float | None
    n: int  # rows of the smaller data set, or layers


class DatasetDistance(Similarity):
    """1 - cosine of the mean embeddings of two data sets, by fingerprint."""

    first: str
    second: str


class WeightCosine(Similarity):
    """Cosine of two weight changes; low and high hold 95% of the layers."""

    matrices: int  # that both changed


class WeightSimilarity(WeightCosine):
    """Cosine of the weight changes of two runs."""

    first: str
    second: str


@dataclass(kw_only=True)
class TaskTransfer(Estimate):
    """What later training did to one earlier data set, as a share of the base model's loss."""

    name: str


@dataclass(kw_only=True)
class BackwardTransfer(Estimate):
    """The mean of it over the earlier data sets of a sequence; n counts their rows."""

    tasks: list[TaskTransfer]


@dataclass(kw_only=True)
class TransferSequence:
    """A longest chain of runs that went on from one another."""

    runs: list[str]
    datasets: list[str]  # ids of the earlier data sets that were measured
    transfer: BackwardTransfer | None
    reason: str  # why there is none, else empty


class TransferResult(TypedDict):
    """The result of a transfer job."""

    asked: ConfigDocument  # fields of the transfer config that two cells must have in common
    runs: list[TransferRun]
    datasets: list[TransferDataset]
    cells: list[TransferCell]
    distances: list[DatasetDistance]
    weights: list[WeightSimilarity]
    sequences: list[TransferSequence]
    measured: int  # cells that were not known before
    measured_tokens: int
    measure_seconds: float
    seconds: float
    device: str
    device_name: str
    peak_memory_gib: float
    versions: dict[str, str]
