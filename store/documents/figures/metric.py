"""Metrics of runs over their steps."""

from __future__ import annotations

from datetime import datetime
from typing import TypedDict


class MetricSummary(TypedDict):
    """A row of `metric_summary`: all points of one metric of a run; figures are over the finite ones, and
    null where there is none."""

    run_id: str
    name: str
    count: int  # of all points
    nonfinite: int  # of them NaN or infinite
    min: float | None
    max: float | None
    sum: float | None
    sum_squares: float | None
    min_step: int | None  # where min was first reached
    max_step: int | None
    first_step: int | None
    first_value: float | None
    first_at: datetime | None
    last_step: int | None
    last_value: float | None
    last_at: datetime | None


class CurvePoint(TypedDict):
    """A bucket of a metric's curve."""

    step: int  # the last of the bucket
    first_step: int
    value: float | None  # the last finite one
    min: float | None
    max: float | None
    mean: float | None
    count: int
    nonfinite: int


class ValidationSums(TypedDict):
    """A metric at one validation as sums over its rows: of x (what counts), w (its weight) and their
    products, for an interval of the ratio of x to w."""

    step: int
    n: int  # rows
    x: float
    w: float
    xx: float
    xw: float
    ww: float
