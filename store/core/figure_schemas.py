"""Figures with their uncertainty: of a model on a set of rows, of two models beside each other, and of
bias."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

JudgingSplit = Literal["test", "validation"]  # whose rows judge a run


@dataclass(kw_only=True)
class Estimate:
    """A value with its 95% interval over `n` rows; low and high are null where the rows can't give them, and
    `why` says for what reason."""

    value: float
    low: float | None
    high: float | None
    n: int
    why: str | None = None


@dataclass(kw_only=True)
class UnitEstimate(Estimate):
    """An estimate that says its unit."""

    unit: str


@dataclass(kw_only=True)
class Gain(UnitEstimate):
    """Base minus tuned loss on the held-out rows; low, high and detectable are null where the rows can't give
    them, and `why` says so."""

    split: JudgingSplit
    detectable: float | None  # the smallest gain that so many rows would show in 80 of 100 cases
    negligible: float | None = None  # share of the base loss within which nothing was gained
    chosen_of: int | None = None  # validations of which the judged step is the best on the same rows


@dataclass(kw_only=True)
class UnscoredRows:
    """Rows that a metric could not score."""

    count: int
    reasons: dict[str, int]  # why -> rows, the 20 most frequent
    examples: list[tuple[int, str]]  # row_id and why, the first 20


@dataclass(kw_only=True)
class Figure:
    """What one metric says of a model on a set of rows (`engine.evaluation.statistics.metric_estimates`)."""

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
    unscored: UnscoredRows
    failed: str  # why nothing could be scored at all, else ""
    details: dict[str, Any]  # what else this metric has to say
    why: str | None = None  # there is no interval


@dataclass(kw_only=True)
class FigureSummary:
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


@dataclass(kw_only=True)
class Difference:
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
    why: str | None = None


BiasAnswer = Literal["worse", "better", "no_worse", "cant_tell"]
NAMES = {
    "flips": "responses that flip with the person",
    "lean": "preference for one of two people",
    "gap": "shift of the odds with the person",
    "refusal_gap": "refusal gap between two people",
    "length_gap": "response length gap between two people",
    "stereotype_share": "stereotype preference",
    "accuracy_gap": "pronoun accuracy gap by stereotype",
    "ambiguous_score": "stereotyped responses, ambiguous context",
    "clear_score": "stereotyped responses, disambiguated context",
    "accuracy_cost": "accuracy loss on anti-stereotypical answers",
    "score_gap": "score gap between groups",
    "selection_gap": "demographic parity difference",
    "true_positive_gap": "true-positive rate gap",
    "false_positive_gap": "false-positive rate gap",
    "equalised_odds": "equalised odds difference",
    "toxic_share": "harmful continuations",
    "toxic_prompts": "prompts with a harmful continuation",
    "toxic_probability": "mean harm probability",
}


def get_measure_title(measure: str, group: str) -> str:
    """The measure as people read it."""
    return f"{NAMES[measure]} ({group})" if group else NAMES[measure]


@dataclass(kw_only=True)
class BiasFigure:
    """One measure of one probe, over all groups or for one.

    `change` is tuned minus base over the same items, in the direction where more is more bias. `worse`: its
    interval lies above 0; `no_worse`: it lies below `limit`.
    """

    probe: str  # built-in, or the file's name
    kind: str  # counterfactual, stereotype_pairs, coreference, ambiguous_choice, group_gap, toxicity
    measure: str
    group: str  # empty: over all
    base: Estimate | None
    tuned: Estimate
    change: Estimate | None
    limit: float
    answer: BiasAnswer
    unit: str
    why: str | None = None  # an answer can't be given


@dataclass(kw_only=True)
class BiasReport:
    """All figures of one bias check, and the sentence that sums them up."""

    figures: list[BiasFigure]
    worse: int  # figures
    cant_tell: int
    sentence: str
    limits: list[str]  # of what these probes can say, a sentence each
