"""Evaluations: a row of the store, the figure of a metric, a judging."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, NotRequired, TypedDict

from store.documents.estimate import Estimate


class Unscored(TypedDict):
    """Rows that a metric could not score."""

    count: int
    reasons: dict[str, int]  # why -> rows, the 20 most frequent
    examples: list[tuple[int, str]]  # row_id and why, the first 20


class Figure(TypedDict):
    """What one metric says of a model on a set of rows (`engine.diagnostics.statistics.scored`)."""

    metric: str  # a key of the metric table, task/NAME/METRIC, or a user's own
    unit: str
    better: Literal["higher", "lower"]
    estimator: str  # mean, accuracy, …, or "whole" for a figure that no row has a share in
    bounds: list[float | None]  # least and most that it can be
    labels: list[str]
    value: float | None  # null without a usable row
    low: float | None  # of the 95% interval
    high: float | None
    n: int  # rows that count
    groups: int | None  # that are resampled whole; null where rows are the unit
    rows: int
    empty: int
    unscored: Unscored
    failed: str  # why nothing could be scored at all, else ""
    details: dict[str, Any]  # what else this metric has to say
    why: NotRequired[str]  # there is no interval


class ListedFigure(TypedDict):
    """A figure as lists of evaluations have it."""

    metric: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    better: Literal["higher", "lower"]
    bounds: list[float | None]
    failed: str | None
    estimator: str | None


class Difference(TypedDict):
    """How two models differ in one metric, over the rows that both could score: first minus second."""

    metric: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    groups: int | None
    detectable: float | None  # smallest difference that so many rows would show in 80 of 100 cases
    better: Literal["higher", "lower"]
    unit: str
    left_out: int  # rows that only one could score or was asked
    first_higher: int  # rows
    second_higher: int
    same: int
    why: NotRequired[str]


class ProbeFigure(TypedDict):
    """What one model knows in general, by one probe."""

    probe: str
    suite: str  # fingerprint of questions and prose: numbers of different ones are never compared
    n: int
    loss: Estimate  # nats a token; of a question −log p of its right option
    accuracy: NotRequired[Estimate]  # of questions


class EvaluationCounts(TypedDict):
    """Rows by what they have."""

    rows: int
    empty: int  # answers without a character
    no_prompt: NotRequired[int]
    no_reference: NotRequired[int]
    no_loss: NotRequired[int]
    cut: NotRequired[int]


class EvaluationDetails(TypedDict):
    """What an evaluation found beside its figures."""

    counts: EvaluationCounts
    reasons: dict[str, int]  # why rows have no answer or loss -> rows
    notices: list[str]
    probes: list[ProbeFigure]
    seconds: dict[str, float]  # part of the work -> seconds
    peak_memory_gib: float | None
    device: str
    device_name: str
    dtype: str
    versions: dict[str, str]  # python and libraries -> version


class EvaluationResult(EvaluationDetails):
    """The result of an evaluation."""

    n: int  # rows
    figures: list[Figure]


class EvaluationName(TypedDict):
    """What every reading of an evaluation has of it."""

    evaluation_id: str  # the id of its job
    name: str
    model: str  # of a run: its base model
    run_id: str | None  # null for a model that no run made
    checkpoint: Literal["tuned", "best", "newest", "base"]
    dataset_id: str
    dataset_name: str  # as it was when it was asked for
    data_fingerprint: str  # row ids mean the same under the same one
    part: Literal["train", "validation", "test", "all"]
    n: int  # rows
    created_at: datetime
    config: dict[str, Any]  # store.config.evaluate_config.EvaluateConfig


class Evaluation(EvaluationName):
    """A row of table `evaluation`: one that has finished."""

    notes: str
    figures: list[Figure]
    details: EvaluationDetails


class EvaluationLine(EvaluationName):
    """An evaluation in a list, without what can be large."""

    run_name: str | None
    figures: list[ListedFigure]


class RowScore(TypedDict):
    """What one metric says of one row."""

    score: float | None
    reason: str | None  # why there is no score


class EvaluatedRow(TypedDict):
    """A row of an evaluation's predictions.parquet with its scores."""

    row_id: int
    prompt: str | None
    prediction: str | None
    reference: str | None
    label: str | None
    loss_sum: float | None  # nats
    tokens: int | None
    bytes: int | None
    probability: float | None  # of a head's answer
    group: int | None
    choices: NotRequired[list[str] | None]
    answer_index: NotRequired[int | None]
    choice_scores: NotRequired[list[float] | None]  # summed log-probability of each choice
    scores: dict[str, RowScore]  # by metric


class RowOfTwo(TypedDict):
    """A row that two evaluations answered in different ways."""

    row_id: int
    prompt: str | None
    reference: str | None
    first: str | None  # answers
    second: str | None
    first_score: float
    second_score: float


class JudgedPairs(TypedDict):
    """Pairs of answers by what the judge said of them."""

    first: int  # better in both orders
    second: int
    ties: int
    split: int  # the order decided
    unjudged: int


class Judging(TypedDict):
    """The result of a judging: which of two evaluations' answers a language model prefers."""

    first: str  # evaluation_id
    second: str
    n: int  # pairs
    figure: Figure  # share of pairs that the first wins, ties as half
    pairs: JudgedPairs
    reasons: dict[str, int]  # why a pair was not judged -> pairs
    notices: list[str]
    seconds: float
