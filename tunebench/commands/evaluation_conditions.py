"""`--fail-under` and `--fail-if-worse-than`: conditions under which an evaluation fails a CI job.

A bound is compared with the value itself, so that few rows never pass where many would not; the
uncertainty is reported with it. Being worse than another evaluation is judged by the paired intervals:
only a significant difference fails, since of two equal models one is always slightly worse. A missing
comparison fails.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

from store.core.errors import ConfigError
from store.core.figure_schemas import Difference, Figure
from store.core.formatting import plural


@dataclass(kw_only=True)
class InterpretedDifference(Difference):
    """A difference with its interpretation for the first: better, worse, the same or inconclusive."""

    first_is: str


class ConditionReport(TypedDict):
    """A condition and whether it is met."""

    name: str
    holds: bool
    sentence: str


@dataclass(frozen=True)
class Bound:
    """A metric and the value that it must not be worse than."""

    metric: str
    value: float

    @classmethod
    def parse(cls, text: str) -> Bound:
        """Parse "METRIC=VALUE". Raises ConfigError (fail_under)."""
        metric, equals, number = text.partition("=")
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        if not metric.strip() or not equals or not math.isfinite(value):
            raise ConfigError(
                f"Invalid value {text!r} for --fail-under.",
                fix="Use METRIC=VALUE, such as accuracy=0.8",
                field="fail_under",
            )
        return cls(metric.strip().removeprefix("eval/"), value)


@dataclass(frozen=True)
class ConditionResult:
    """holds: whether the evaluation meets the condition; sentence: with the supporting figures."""

    name: str
    holds: bool
    sentence: str

    def document(self) -> ConditionReport:
        return {"name": self.name, "holds": self.holds, "sentence": self.sentence}


def check_bound(figures: Sequence[Figure], bound: Bound) -> ConditionResult:
    """Check that a metric is no worse than its bound. Raises ConfigError if it was not measured."""
    figure = next((f for f in figures if f.metric.removeprefix("eval/") == bound.metric), None)
    if figure is None:
        names = ", ".join(f.metric.removeprefix("eval/") for f in figures)
        raise ConfigError(
            f"--fail-under: the metric {bound.metric!r} was not measured; available: {names}.",
            fix=f"Add --metric {bound.metric}, or choose one of these.",
            field="fail_under",
        )
    name, value, higher = (
        f"--fail-under {bound.metric}={bound.value:g}",
        figure.value,
        figure.better == "higher",
    )
    if value is None:
        return ConditionResult(
            name, False, f"{bound.metric} has no value: {figure.failed or 'no rows were scored'}."
        )
    holds = value >= bound.value if higher else value <= bound.value
    side = "not worse" if holds else "worse"
    sentence = f"{bound.metric} is {value:.4g}{_format_interval(figure)}, {side} than {bound.value:g}"
    low, high = figure.low, figure.high
    if low is not None and high is not None and low <= bound.value <= high:
        sentence += ", inconclusive by its CI"
    return ConditionResult(name, holds, f"{sentence}.")


def _format_interval(figure: Figure | Difference) -> str:
    if figure.low is None or figure.high is None:
        return f" (no CI, n {figure.n:,})"
    return f" ({figure.low:.4g} to {figure.high:.4g}, n {figure.n:,})"


def check_not_worse(differences: Sequence[InterpretedDifference], other: str) -> ConditionResult:
    """Check that no metric is significantly worse than in the other evaluation."""
    name = f"--fail-if-worse-than {other}"
    if not differences:
        return ConditionResult(name, False, f"No comparison with {other}: no common metric and rows.")
    worse = ", ".join(
        f"{change.metric.removeprefix('eval/')} by {abs(change.value or 0.0):.4g}{_format_interval(change)}"
        for change in differences
        if change.first_is == "worse"
    )
    if worse:
        return ConditionResult(name, False, f"Significantly worse than {other}: {worse}.")
    open_ = sum(change.first_is == "inconclusive" for change in differences)
    left = f"; {open_:,} inconclusive" if open_ else ""
    count = plural(len(differences), "metric")
    return ConditionResult(name, True, f"None of {count} is significantly worse than {other}{left}.")
