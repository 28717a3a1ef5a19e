"""What a metric says of a model on a set of rows, and how two models differ in it."""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict


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
