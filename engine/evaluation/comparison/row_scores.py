"""Table of row scores, and tests of the slices of rows on which a model, or one of two models, is better or
worse.

The table has one line per row and metric: `row_id` int64, `metric` string, `score` float64 (null if the
metric has none or the row could not be scored), `reason` string (why not, otherwise null), `statistics`
list<float64> (what is summed if the figure is not a mean of scores). The metric itself is described in its
document (`metric_estimates.aggregate_scores`). Slices are tested by their means, controlling the false
discovery rate (Benjamini and Hochberg). Pure functions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, TypedDict, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import ArrayLike, NDArray

from engine.evaluation.statistics import intervals
from engine.evaluation.statistics.intervals import Interval, ratio_interval, wilson_interval
from engine.evaluation.statistics.metric_estimates import RowScores, compute_difference
from engine.evaluation.statistics.proportions import estimate_paired_change, mcnemar
from store.core.figure_schemas import Difference, Estimate, Figure
from store.core.formatting import plural

CONFIDENCE = 0.95  # joint level of all intervals of a comparison
SCHEMA = pa.schema(
    [
        ("row_id", pa.int64()),
        ("metric", pa.string()),
        ("score", pa.float64()),
        ("reason", pa.string()),
        ("statistics", pa.list_(pa.float64())),
    ]
)


def build_scores_table(metrics: Sequence[RowScores]) -> pa.Table:
    """Concatenate the scores of all metrics into one table."""
    return pa.concat_tables([_build_metric_table(scored) for scored in metrics] or [SCHEMA.empty_table()])


def _build_metric_table(scored: RowScores) -> pa.Table:
    rows = len(scored.row_ids)
    reasons = [scored.reasons.get(place) for place in range(rows)]
    if scored.statistics is None:
        statistics = pa.nulls(rows, SCHEMA.field("statistics").type)
    else:
        usable = scored.usable
        lists = [line if ok else None for line, ok in zip(scored.statistics.tolist(), usable, strict=True)]
        statistics = pa.array(lists, SCHEMA.field("statistics").type)
    return pa.table(
        [
            pa.array(scored.row_ids, pa.int64()),
            pa.array([scored.name] * rows, pa.string()),
            pa.array(scored.scores, pa.float64(), from_pandas=True),
            pa.array(reasons, pa.string()),
            statistics,
        ],
        schema=SCHEMA,
    )


def read_scores_table(table: pa.Table, document: Figure) -> RowScores:
    """Read one metric's scores, given its document."""
    lines = table.filter(pc.equal(table["metric"], document.metric))
    scores = np.array([np.nan if x is None else x for x in lines["score"].to_pylist()], float)
    lists = lines["statistics"].to_pylist()
    width = max((len(sums) for sums in lists if sums is not None), default=0)
    statistics = None
    if width:
        statistics = np.array([[np.nan] * width if sums is None else sums for sums in lists], float)
    reasons = {place: why for place, why in enumerate(lines["reason"].to_pylist()) if why is not None}
    low, high = document.bounds
    return RowScores(
        document.metric,
        np.array(lines["row_id"].to_pylist(), np.int64),
        scores,
        estimator=document.estimator,
        bounds=(low, high),
        unit=document.unit,
        better=document.better,
        statistics=statistics,
        labels=document.labels,
        reasons=reasons,
        empty=document.empty,
        failed=document.failed,
    )


@dataclass(frozen=True)
class MetricDifferences:
    """Differences, one per comparable metric. Each interval is at `confidence`, so that jointly they are at
    `level`.
    """

    metrics: list[Difference]
    confidence: float
    level: float = CONFIDENCE

    @property
    def sentence(self) -> str:
        """State the confidence level of the intervals."""
        if len(self.metrics) < 2:
            return f"The interval has level {self.level:.0%}."
        return (
            f"Each interval has level {self.confidence:.1%}, so the {len(self.metrics)} comparisons have"
            f" level {self.level:.0%} together (Bonferroni)."
        )


ScoresOfMetrics = tuple[pa.Table, Sequence[Figure]]  # an evaluation's table and documents


def compute_score_differences(
    first: ScoresOfMetrics, second: ScoresOfMetrics, groups: Mapping[int, object] | None = None
) -> MetricDifferences:
    """Compute `first` minus `second` for every metric with a row that both evaluations scored.

    groups: row ID -> group. Each interval is at 1 - 0.05 / k for k compared metrics (Bonferroni), so that
    neither the order of the two nor metrics that only one of them has change the result.
    """
    pairs = _pair_metrics(first, second)
    confidence = 1 - (1 - CONFIDENCE) / max(1, len(pairs))
    metrics = []
    for own, other in pairs:
        of_rows = None if groups is None else [groups.get(row) for row in own.row_ids.tolist()]
        metrics.append(compute_difference(own, other, of_rows, confidence=confidence))
    return MetricDifferences(metrics, confidence)


def _pair_metrics(first: ScoresOfMetrics, second: ScoresOfMetrics) -> list[tuple[RowScores, RowScores]]:
    """Return the score pairs of each metric that both evaluations have, with at least one row scored
    in both.
    """
    others = {document.metric: document for document in second[1]}
    pairs = []
    for document in first[1]:
        other = others.get(document.metric)
        if other is None or document.estimator == "whole":
            continue
        if document.estimator != other.estimator or document.labels != other.labels:
            continue
        scores, against = read_scores_table(first[0], document), read_scores_table(second[0], other)
        both = np.intersect1d(scores.row_ids[scores.usable], against.row_ids[against.usable])
        if len(both):
            pairs.append((scores, against))
    return pairs


def describe_difference(figure: Difference | Estimate, better: str) -> str:
    """Describe the first relative to the second by this difference: better, worse, or can't be told.

    better: "higher" or "lower", the direction in which values are better.
    """
    value, low, high = figure.value, figure.low, figure.high
    if value is None or low is None or high is None or low <= 0 <= high:
        return "can't be told"
    return "better" if (value > 0) == (better == "higher") else "worse"


# A slice is a group of rows with something in common. Each slice is compared with all other rows (one model),
# or by the paired difference of two models within it. The test is of what is shown, the mean. Shares of
# correct rows have exact tests. Other scores have tails, and slices differ in shape as well as in mean, so
# that rank tests call slices with equal means different, and so does Welch's test. The p-value is therefore
# the level at which the interval of the difference excludes 0, with the limits widened for skewness and
# combined as in `intervals.py`. This keeps its level from MIN_ROWS rows on, if MIN_OTHERS of them have a
# score other than the most common one (`bench/truths/models/slices.py`); below that nothing is tested, and
# `why` says so. Among many slices some look unusual by chance: the p-values are adjusted by Benjamini and
# Hochberg (1995), so that at most a twentieth of the slices called different are expected to be false. Rows
# are treated as independent.

MIN_SLICE_ROWS = 5  # to test a slice's share
MIN_ROWS = 30  # to test a slice's mean, and as many outside it
MIN_OTHERS = 8  # rows in each with a score other than the most common one
FALSE_DISCOVERY_RATE = 0.05
SMALLEST_P = 1e-9
HALVINGS = 12  # bisections between SMALLEST_P and 1: precise to a hundredth of the p-value
QUARTERS = 4
Slices = Mapping[tuple[str, str], NDArray[np.bool_]]  # (attribute, its value) -> row mask


class TestedSlice(TypedDict):
    """Slice, the number of its values, and whether it differs. p and q (p adjusted by Benjamini and Hochberg)
    are None if it can't be tested, for the reason in `why`.
    """

    by: str
    value: str
    n: int
    p: float | None
    q: float | None
    why: str
    different: bool


class ScoreSlice(TestedSlice):
    """Scores of one model in a slice, compared with all other rows."""

    mean: Estimate
    rest: float | None  # mean of all other rows
    gap: float | None  # difference of the two means


class DifferenceSlice(TestedSlice):
    """Paired difference of two models within a slice."""

    gap: Estimate


Tested = TypeVar("Tested", bound=TestedSlice)


class TestResult(NamedTuple):
    """p-value, or the reason why there is none."""

    p: float | None
    why: str = ""


def build_value_slices(
    name: str, values: Sequence[object], most: int = 50
) -> dict[tuple[str, str], NDArray[np.bool_]]:
    """Build a slice for each of the `most` most frequent values; none if all rows have the same value."""
    texts = np.array(["" if value is None else str(value) for value in values], dtype=object)
    distinct, counts = np.unique(texts[texts != ""].astype(str), return_counts=True)
    if len(distinct) < 2:
        return {}
    order = np.argsort(-counts, kind="stable")[:most]
    return {(name, str(distinct[place])): texts == distinct[place] for place in order}


def build_size_slices(name: str, sizes: ArrayLike, unit: str) -> dict[tuple[str, str], NDArray[np.bool_]]:
    """Build four slices with about the same number of rows, by ascending size; fewer if sizes repeat."""
    values = np.asarray(sizes, np.float64)
    finite = np.isfinite(values)
    if finite.sum() < 2 * MIN_SLICE_ROWS or np.ptp(values[finite]) == 0:
        return {}
    edges = np.unique(np.quantile(values[finite], np.linspace(0, 1, QUARTERS + 1)[1:-1]))
    part = np.searchsorted(edges, values)
    slices = {}
    for place in range(len(edges) + 1):
        rows = finite & (part == place)
        if rows.any():
            low, high = (f"{end:,.0f}" for end in (values[rows].min(), values[rows].max()))
            slices[(name, f"{low if low == high else f'{low} to {high}'} {unit}")] = rows
    return slices if len(slices) > 1 else {}


def compute_slice_scores(scores: ArrayLike, slices: Slices) -> list[ScoreSlice]:
    """Test each slice that has a score; the most significant come first."""
    values = np.asarray(scores, np.float64)
    usable = np.isfinite(values)
    tested: list[ScoreSlice] = []
    for (by, name), rows in slices.items():
        own, rest = values[rows & usable], values[~rows & usable]
        if not len(own):
            continue
        other = float(rest.mean()) if len(rest) else None
        test = compare_means(own, rest)
        tested.append(
            {
                "by": by,
                "value": name,
                "n": len(own),
                "mean": _compute_mean(own).to_estimate(),
                "rest": other,
                "gap": None if other is None else float(own.mean()) - other,
                "p": test.p,
                "q": None,
                "why": test.why,
                "different": False,
            }
        )
    return adjust_for_slices(tested)


def compute_slice_differences(first: ArrayLike, second: ArrayLike, slices: Slices) -> list[DifferenceSlice]:
    """Test `first` minus `second` in pairs in each slice that has a pair; the most significant come first."""
    scores, against = np.asarray(first, np.float64), np.asarray(second, np.float64)
    usable = np.isfinite(scores) & np.isfinite(against)
    tested: list[DifferenceSlice] = []
    for (by, name), rows in slices.items():
        kept = rows & usable
        if not kept.any():
            continue
        gap = scores[kept] - against[kept]
        test = _compare_pairs(gap)
        tested.append(
            {
                "by": by,
                "value": name,
                "n": len(gap),
                "gap": _compute_mean_difference(gap).to_estimate(),
                "p": test.p,
                "q": None,
                "why": test.why,
                "different": False,
            }
        )
    return adjust_for_slices(tested)


def _compute_mean(values: NDArray[np.float64]) -> Interval:
    if np.isin(values, (0.0, 1.0)).all():
        return wilson_interval(int(values.sum()), len(values))
    return _drop_degenerate_limits(ratio_interval(values, np.ones(len(values))))


def _compute_mean_difference(gap: NDArray[np.float64]) -> Interval:
    """Estimate the mean of paired differences, with Tango's interval for rows that are right or wrong."""
    if np.isin(gap, (-1.0, 0.0, 1.0)).all():
        return estimate_paired_change(int((gap < 0).sum()), int((gap > 0).sum()), len(gap))
    return _drop_degenerate_limits(ratio_interval(gap, np.ones(len(gap))))


def _drop_degenerate_limits(interval: Interval) -> Interval:
    """Drop the limits if all rows agree: a bootstrap learns nothing from rows that happen to be equal."""
    return replace(interval, low=None, high=None) if interval.low == interval.high else interval


def compare_means(own: NDArray[np.float64], rest: NDArray[np.float64]) -> TestResult:
    """Test for equal means, two-sided: Fisher's exact test for shares, otherwise by the interval of the
    difference.
    """
    from scipy import stats  # lazy: importing it takes half a second

    if not len(rest):
        return TestResult(None, "there is no other row")
    if np.isin(own, (0.0, 1.0)).all() and np.isin(rest, (0.0, 1.0)).all():
        if why := _describe_too_few_rows(own, MIN_SLICE_ROWS) or _describe_too_few_rows(
            rest, MIN_SLICE_ROWS, "beside it"
        ):
            return TestResult(None, why)
        table = [[own.sum(), len(own) - own.sum()], [rest.sum(), len(rest) - rest.sum()]]
        return TestResult(float(stats.fisher_exact(np.array(table, np.int64)).pvalue))
    if why := _describe_too_few_rows(own, MIN_ROWS) or _describe_too_few_rows(rest, MIN_ROWS, "beside it"):
        return TestResult(None, why)
    if why := _describe_too_uniform(own) or _describe_too_uniform(rest, "beside it"):
        return TestResult(None, why)
    return TestResult(
        _compute_p_value(
            lambda confidence: intervals.subtract_estimates(
                ratio_interval(own, np.ones(len(own)), confidence=confidence),
                ratio_interval(rest, np.ones(len(rest)), confidence=confidence),
            )
        )
    )


def _compare_pairs(gap: NDArray[np.float64]) -> TestResult:
    """Test for a zero mean of paired differences: McNemar's test for rows that are right or wrong, otherwise
    by the interval.
    """
    if np.isin(gap, (-1.0, 0.0, 1.0)).all():
        if why := _describe_too_few_rows(gap, MIN_SLICE_ROWS):
            return TestResult(None, why)
        return TestResult(mcnemar(int((gap < 0).sum()), int((gap > 0).sum())))
    if why := _describe_too_few_rows(gap, MIN_ROWS) or _describe_too_uniform(gap):
        return TestResult(None, why)
    weights = np.ones(len(gap))
    return TestResult(
        _compute_p_value(lambda confidence: ratio_interval(gap, weights, confidence=confidence))
    )


def _describe_too_few_rows(values: NDArray[np.float64], least: int, where: str = "") -> str:
    n = len(values)
    return f"{plural(n, 'row')}{where and ' '}{where} (from {least} on)" if n < least else ""


def _describe_too_uniform(values: NDArray[np.float64], where: str = "") -> str:
    """Return why the mean can't be tested if nearly all rows score the same: too few rows determine it."""
    others = len(values) - int(np.unique(values, return_counts=True)[1].max())
    if others >= MIN_OTHERS:
        return ""
    return f"only {plural(others, 'row')}{where and ' '}{where} with another score than the most frequent one"


def _compute_p_value(interval: Callable[[float], Interval]) -> float:
    """Return the smallest level at which the interval excludes 0, never an underestimate."""
    low, high = np.log(SMALLEST_P), 0.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        at = interval(1 - float(np.exp(middle)))
        low, high = (low, middle) if at.above or at.below else (middle, high)
    return float(np.exp(high))


def adjust_for_slices(slices: list[Tested]) -> list[Tested]:
    """Add q (Benjamini and Hochberg) and whether it is below FALSE_DISCOVERY_RATE; the most significant
    first.
    """
    from scipy import stats

    tested = [part for part in slices if part["p"] is not None]
    values = stats.false_discovery_control([part["p"] for part in tested]) if tested else []
    for part in slices:
        part["q"], part["different"] = None, False
    for part, q in zip(tested, values, strict=True):
        part["q"], part["different"] = float(q), bool(q < FALSE_DISCOVERY_RATE)
    return sorted(slices, key=lambda part: (part["q"] is None, part["q"] or 0.0, -part["n"]))
