"""What metrics have to say beside their figure: `details` of a figure, and what a metric in a process of its
own is asked and answers."""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict

from store.documents.evaluations.judging_result import JudgedLength, JudgedOrder
from store.documents.figures.estimate import Estimate
from store.documents.verdicts.classification import ClassRates


class ConstraintShare(Estimate):
    """The share of answers that keep one constraint."""

    constraint: str  # in words


class ClassDetails(TypedDict):
    """Answers as labels, class by class."""

    classes: list[ClassRates]
    confusion: list[tuple[str, str, int]]  # label, answer, rows
    pair_count: int  # cells of the confusion that occur


class OutsideTexts(TypedDict):
    """Texts that name no label."""

    count: int
    most: list[list[str | int]]  # the most frequent of them, and how often


class JudgeCalls(TypedDict):
    """What asking a judge took."""

    calls: int
    cached: int  # answered without a call


class PreferenceDetails(JudgeCalls):
    """What is said of a judge's preferences."""

    position: JudgedOrder | None  # null where no pair was judged in both orders
    length: JudgedLength
    orders: list[list[float | None]]  # how the first answer of each pair did shown first, and shown second


class IsolatedQuestion(TypedDict):
    """What a metric's own process is asked."""

    choice: dict[str, Any]  # of store.config.measuring.metrics_config, as JSON
    home: str
    confidence: float
    row_ids: list[int]
    predictions: list[str | None] | None
    references: list[str | None] | None
    prompts: list[str | None] | None
    groups: list[str | None] | None


class IsolatedAnswer(TypedDict):
    """What it answers: `failed` where the process was ended, `error` where the metric failed, else scores."""

    failed: NotRequired[str]
    error: NotRequired[str]
    traceback: NotRequired[str]
    scores: NotRequired[list[float | None]]  # a row each
    reasons: NotRequired[list[tuple[int, str]]]  # place of a row without a score, and why
    estimator: NotRequired[str]
    whole: NotRequired[Any]  # engine.diagnostics.statistics.scored.WholeFigure, or null
