"""Evaluations as the store has them, and their rows."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, NotRequired, TypedDict

from store.documents.evaluations.evaluation_result import EvaluationDetails
from store.documents.figures.figure import Figure, ListedFigure


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
    created_by: str | None  # who asked for it; null where nobody knows
    config: dict[str, Any]  # store.config.judging.evaluate_config.EvaluateConfig


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
