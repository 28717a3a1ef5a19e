"""Result of a transfer job: every run on every data set, and possible predictors of transfer."""

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
    trained: list[str]  # fingerprints of its own data, then of the data of the runs it continued from
    init_from: NotRequired[str]  # missing, like base, if the run was deleted
    base: NotRequired[str | None]  # hash of the base model's contents; null if it can't be computed


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
    """Rows of a column that overlap with a run's training data; empty if this couldn't be checked."""

    trained: int  # rows that the run was trained or validated on
    asked: int  # rows with the same prompt as a training row
    near: int  # near duplicates, which are kept


@dataclass(kw_only=True)
class TransferFigure(Estimate):
    """A paired difference between tuned and base model."""

    p: float
    detectable: float | None


class ModelLevel(TypedDict):
    """Loss and accuracy of one model on the rows of a column."""

    n: int
    tokens: int
    loss: Estimate  # nats per token
    right: Estimate  # share of rows in which every token is the most likely one


class TransferCell(TypedDict):
    """A run on a data set. With a `reason` there are no figures; for the base model (run_id "") there are
    only `base`, `n` and `file`.
    """

    run_id: str
    dataset_id: str
    reason: str
    left_out: NotRequired[OverlappingRows]
    cut: NotRequired[int]  # truncated rows
    base_file: NotRequired[str]  # name of the file with the rows, in `cells/`; the same for file
    file: NotRequired[str]
    n: NotRequired[int]
    tokens: NotRequired[int]
    relative: NotRequired[TransferFigure]  # gain as a share of the base model's loss
    change: NotRequired[TransferFigure]  # change of the loss, tuned minus base, nats per token
    right: NotRequired[TransferFigure]  # change of the share of rows right, tuned minus base
    base: NotRequired[ModelLevel]
    tuned: NotRequired[ModelLevel]


class Similarity(TypedDict):
    """Similarity or distance of two data sets or two trainings; null if it can't be computed."""

    value: float | None
    low: float | None
    high: float | None
    n: int  # rows of the smaller data set, or layers


class DatasetDistance(Similarity):
    """1 - cosine of the mean embeddings of two data sets, by fingerprint."""

    first: str
    second: str


class WeightCosine(Similarity):
    """Cosine of two weight changes; low and high contain 95% of the layers."""

    matrices: int  # number of matrices that both changed


class WeightSimilarity(WeightCosine):
    """Cosine of the weight changes of two runs."""

    first: str
    second: str


@dataclass(kw_only=True)
class TaskTransfer(Estimate):
    """Effect of later training on one earlier data set, as a share of the base model's loss."""

    name: str


@dataclass(kw_only=True)
class BackwardTransfer(Estimate):
    """Mean backward transfer over the earlier data sets of a sequence; n counts their rows."""

    tasks: list[TaskTransfer]


@dataclass(kw_only=True)
class TransferSequence:
    """A maximal chain of runs, each continued from the one before."""

    runs: list[str]
    datasets: list[str]  # ids of the measured earlier data sets
    transfer: BackwardTransfer | None
    reason: str  # why there is none, else empty


class TransferResult(TypedDict):
    """Result of a transfer job."""

    asked: ConfigDocument  # fields of the transfer config that two cells must share
    runs: list[TransferRun]
    datasets: list[TransferDataset]
    cells: list[TransferCell]
    distances: list[DatasetDistance]
    weights: list[WeightSimilarity]
    sequences: list[TransferSequence]
    measured: int  # newly measured cells
    measured_tokens: int
    measure_seconds: float
    seconds: float
    device: str
    device_name: str
    peak_memory_gib: float
    versions: dict[str, str]
