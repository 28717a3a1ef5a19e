"""Scores of rows as a table, and slices of rows on which a model, or one of two models, is better or worse.

One line a row and metric: `row_id`, `metric`, `score` (null with a `reason`), `statistics`. Of many slices
the means are tested, with the false discovery rate held (Benjamini and Hochberg). scipy.stats is imported
in the functions that test: half a second, which the page need not wait for. Pure.
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

# Scores of rows as a table, so that every later question is a query, and back again.
#
# One line a row and metric: `row_id` int64, `metric` string, `score` float64 (null where the metric has
# none or the row could not be scored), `reason` string (why not, else null), `statistics` list<float64>
# (what is summed where the figure is no mean of scores). What a metric is stands in its document
# (`scored.aggregate_scores`).

CONFIDENCE = 0.95  # of all intervals of a comparison together
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
    """The scores of all metrics, one after the other."""
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
    """One metric's scores, given its document."""
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
    """One for each metric that could be compared. Each interval is at `confidence`, so that together they are
    at `level`."""

    metrics: list[Difference]
    confidence: float
    level: float = CONFIDENCE

    @property
    def sentence(self) -> str:
        """At which level the intervals are."""
        if len(self.metrics) < 2:
            return f"The interval is at {self.level:.0%}."
        return (
            f"Each interval is at {self.confidence:.1%}, so that the {len(self.metrics)} comparisons are at"
            f" {self.level:.0%} together (Bonferroni)."
        )


ScoresOfMetrics = tuple[pa.Table, Sequence[Figure]]  # of one evaluation: its table, and its documents


def compute_score_differences(
    first: ScoresOfMetrics, second: ScoresOfMetrics, groups: Mapping[int, object] | None = None
) -> MetricDifferences:
    """`first` minus `second` in every metric that both evaluations scored on a row of both; `groups`: row id
    -> group. Each interval is at 1 - 0.05 / k, k the metrics compared (Bonferroni), so that the order of the
    two and what only one of them has change nothing."""
    pairs = _pair_metrics(first, second)
    confidence = 1 - (1 - CONFIDENCE) / max(1, len(pairs))
    metrics = []
    for own, other in pairs:
        of_rows = None if groups is None else [groups.get(row) for row in own.row_ids.tolist()]
        metrics.append(compute_difference(own, other, of_rows, confidence=confidence))
    return MetricDifferences(metrics, confidence)


def _pair_metrics(first: ScoresOfMetrics, second: ScoresOfMetrics) -> list[tuple[RowScores, RowScores]]:
    """The scores of each metric that both have and that scored a row of both."""
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
    """What the first is beside the second by such a difference: better, worse, or that it can't be told;
    better: whether higher or lower values are."""
    value, low, high = figure.value, figure.low, figure.high
    if value is None or low is None or high is None or low <= 0 <= high:
        return "can't be told"
    return "better" if (value > 0) == (better == "higher") else "worse"


# Where a model is better or worse than on its other rows, or two models differ, over many slices at once.
#
# A slice is a group of rows with something in common. Each is held against all other rows (one model), or
# has the paired difference of two models within it. What is shown is what is tested: the mean. Shares of
# rows that are right have exact tests. Other scores have tails, and slices differ in shape as well as in
# mean, so that ranks call slices of equal means different, and so does Welch's test: the p-value is the
# level at which the interval of the difference leaves out 0, whose limits `intervals.py` moves out for
# skewness, put together as `intervals.py` does. That keeps its level from MIN_ROWS rows on, of which
# MIN_OTHERS have another score than the commonest (`bench/truths/models/slices.py`); under that nothing is
# tested, and `why` says so. With many slices some look odd by chance: the p-values are adjusted by
# Benjamini and Hochberg (1995), so that of the slices that are called different at most a twentieth are
# expected to be none. Rows count as independent. Pure: arrays in, documents out.

MIN_SLICE_ROWS = 5  # rows of a slice whose share is tested
MIN_ROWS = 30  # of a slice whose mean is, and beside it
MIN_OTHERS = 8  # of either with another score than the commonest
FALSE_DISCOVERY_RATE = 0.05
SMALLEST_P = 1e-9
HALVINGS = 12  # between that and 1: to a hundredth of the p-value
QUARTERS = 4
Slices = Mapping[tuple[str, str], NDArray[np.bool_]]  # (what rows have in common, its value) -> which rows


class TestedSlice(TypedDict):
    """A slice, what its value is of, and whether it differs. p and q (p after Benjamini and Hochberg) are
    None where nothing can be tested, for the reason that `why` has."""

    by: str
    value: str
    n: int
    p: float | None
    q: float | None
    why: str
    different: bool


class ScoreSlice(TestedSlice):
    """The scores of one model in a slice, against all other rows."""

    mean: Estimate
    rest: float | None  # mean of all other rows
    gap: float | None  # between the two means


class DifferenceSlice(TestedSlice):
    """One model minus another in pairs, within a slice."""

    gap: Estimate


Tested = TypeVar("Tested", bound=TestedSlice)


class TestResult(NamedTuple):
    """The p-value, or why there is none."""

    p: float | None
    why: str = ""


def build_value_slices(
    name: str, values: Sequence[object], most: int = 50
) -> dict[tuple[str, str], NDArray[np.bool_]]:
    """A slice for each of the `most` most frequent values; none where all rows have one value."""
    texts = np.array(["" if value is None else str(value) for value in values], dtype=object)
    distinct, counts = np.unique(texts[texts != ""].astype(str), return_counts=True)
    if len(distinct) < 2:
        return {}
    order = np.argsort(-counts, kind="stable")[:most]
    return {(name, str(distinct[place])): texts == distinct[place] for place in order}


def build_size_slices(name: str, sizes: ArrayLike, unit: str) -> dict[tuple[str, str], NDArray[np.bool_]]:
    """Four slices of about as many rows each, from the smallest to the largest; fewer where sizes repeat."""
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
    """Each slice that has a score, the surest first."""
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
    """`first` minus `second` in pairs, in each slice that has a pair, the surest first."""
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
    """The mean of paired differences; of rows that are right or wrong with Tango's interval."""
    if np.isin(gap, (-1.0, 0.0, 1.0)).all():
        return estimate_paired_change(int((gap < 0).sum()), int((gap > 0).sum()), len(gap))
    return _drop_degenerate_limits(ratio_interval(gap, np.ones(len(gap))))


def _drop_degenerate_limits(interval: Interval) -> Interval:
    """Without limits where all rows agree: of rows that happen to be equal no bootstrap learns anything."""
    return replace(interval, low=None, high=None) if interval.low == interval.high else interval


def compare_means(own: NDArray[np.float64], rest: NDArray[np.float64]) -> TestResult:
    """Whether the means of the two are alike, two-sided: Fisher's exact test of shares, else by the interval
    of their difference."""
    from scipy import stats  # in the functions that test: half a second, which the page need not wait for

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
    """Whether the mean of paired differences is 0: McNemar's test where rows are right or wrong, else by its
    interval."""
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
    """Where nearly all rows score the same the mean is that of the few others: too little is seen of it."""
    others = len(values) - int(np.unique(values, return_counts=True)[1].max())
    if others >= MIN_OTHERS:
        return ""
    return f"only {plural(others, 'row')}{where and ' '}{where} with another score than the commonest"


def _compute_p_value(interval: Callable[[float], Interval]) -> float:
    """The smallest level at which the interval of that confidence leaves out 0, never taken too small."""
    low, high = np.log(SMALLEST_P), 0.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        at = interval(1 - float(np.exp(middle)))
        low, high = (low, middle) if at.above or at.below else (middle, high)
    return float(np.exp(high))


def adjust_for_slices(slices: list[Tested]) -> list[Tested]:
    """With q by Benjamini and Hochberg and whether it is below LEVEL; the surest first."""
    from scipy import stats

    tested = [part for part in slices if part["p"] is not None]
    values = stats.false_discovery_control([part["p"] for part in tested]) if tested else []
    for part in slices:
        part["q"], part["different"] = None, False
    for part, q in zip(tested, values, strict=True):
        part["q"], part["different"] = float(q), bool(q < FALSE_DISCOVERY_RATE)
    return sorted(slices, key=lambda part: (part["q"] is None, part["q"] or 0.0, -part["n"]))
