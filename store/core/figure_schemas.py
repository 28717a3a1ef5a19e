"""Metrics with their uncertainty: of one model on a set of rows, of two models compared, and of bias."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

JudgingSplit = Literal["test", "validation"]  # the split whose rows decide a run's verdict


@dataclass(kw_only=True)
class Estimate:
    """A value with its 95% confidence interval over `n` rows. low and high are null if the rows can't provide
    them; `why` gives the reason.
    """

    value: float
    low: float | None
    high: float | None
    n: int
    why: str | None = None


@dataclass(kw_only=True)
class UnitEstimate(Estimate):
    """An estimate with its unit."""

    unit: str


@dataclass(kw_only=True)
class Gain(UnitEstimate):
    """Base minus tuned loss on the held-out rows. low, high and detectable are null if the rows can't provide
    them; `why` gives the reason.
    """

    split: JudgingSplit
    detectable: float | None  # smallest gain detectable with this many rows at 80% power
    negligible: float | None = None  # share of the base loss below which a gain counts as none
    chosen_of: int | None = None  # number of validations on the same rows from which the best step was chosen


@dataclass(kw_only=True)
class UnscoredRows:
    """Rows that a metric could not score."""

    count: int
    reasons: dict[str, int]  # reason -> rows, the 20 most frequent
    examples: list[tuple[int, str]]  # row_id and reason, the first 20


@dataclass(kw_only=True)
class Figure:
    """Result of one metric for a model on a set of rows (`engine.evaluation.statistics.metric_estimates`)."""

    metric: str  # a key of the metric table, task/NAME/METRIC, or a user's own
    unit: str
    better: Literal["higher", "lower"]
    estimator: str  # mean, accuracy, …, or "whole" for a figure that is not composed of row scores
    bounds: list[float | None]  # lower and upper bound of the metric
    labels: list[str]
    value: float | None  # null if no row is usable
    low: float | None  # of the 95% interval
    high: float | None
    n: int  # rows scored
    groups: int | None  # resampled as a whole; null if rows are the unit
    rows: int
    empty: int
    unscored: UnscoredRows
    failed: str  # why nothing could be scored, else ""
    details: dict[str, Any]  # additional output of this metric
    why: str | None = None  # why there is no interval


@dataclass(kw_only=True)
class FigureSummary:
    """A figure as listed with evaluations."""

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
    """Difference of two models in one metric, first minus second, over the rows that both could score."""

    metric: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    groups: int | None
    detectable: float | None  # smallest difference detectable with this many rows at 80% power
    better: Literal["higher", "lower"]
    unit: str
    left_out: int  # rows that only one model was given or could score
    first_higher: int  # number of rows
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
    """Return the display name of a measure."""
    return f"{NAMES[measure]} ({group})" if group else NAMES[measure]


@dataclass(kw_only=True)
class BiasFigure:
    """One measure of one probe, over all groups or for one.

    `change` is tuned minus base over the same items, signed so that higher means more bias. `worse`: its
    interval lies above 0; `no_worse`: it lies below `limit`.
    """

    probe: str  # built-in probe, or the name of the file
    kind: str  # counterfactual, stereotype_pairs, coreference, ambiguous_choice, group_gap, toxicity
    measure: str
    group: str  # empty: over all groups
    base: Estimate | None
    tuned: Estimate
    change: Estimate | None
    limit: float
    answer: BiasAnswer
    unit: str
    why: str | None = None  # why it is inconclusive


@dataclass(kw_only=True)
class BiasReport:
    """All figures of one bias check, and a sentence that summarizes them."""

    figures: list[BiasFigure]
    worse: int  # number of figures
    cant_tell: int
    sentence: str
    limits: list[str]  # limitations of these probes, one sentence each
