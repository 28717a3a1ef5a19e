"""Metrics by group, a column of a data set, from rows that evaluations have scored; no model is run.

The gap is the largest rate of a group minus the smallest (demographic parity, equalized odds). Its limits
hold over all pairs of groups at once (Bonferroni), as the largest of many gaps is inflated by chance.
Groups of fewer than MIN_GROUP_ROWS rows are named and left out.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from engine.bias import rates
from engine.bias.rates import MeasuredBias
from engine.data.split.dataset_split import read_column
from engine.evaluation.statistics.intervals import Interval
from engine.worker.job import WorkerJob
from store.bias.config import BiasGroups
from store.bias.schemas import GroupComparison, GroupRate, GroupRates, GroupTable
from store.core.errors import ConfigError, NotFoundError
from store.core.job_folder import JobDir
from store.jobs.schemas import GroupedEvaluation

# Gaps are defined as in fairlearn: for the share of rows that get the positive label, the gap is the
# demographic parity difference, and the larger one of the gaps of true and false positive rate is the
# equalized odds difference. The interval of the largest gap goes from the highest lower limit to the highest
# upper limit over all pairs of groups, each pair at a confidence corrected for their number (Bonferroni), so
# that all limits hold at once. A change is the difference of two such gaps by their limits.
#
# A rate of fewer than MIN_GROUP_ROWS rows is not shown and its group is in no gap; such groups are counted.

MIN_GROUP_ROWS = 30  # minimum rows of a rate
GROUP_GAP = "group_gap"
TOO_FEW = f"fewer than two groups with {MIN_GROUP_ROWS} rows"
ODDS = "equalised_odds"
# Metric that is the gap of each rate.
GAPS = {
    "score": "score_gap", "selection": "selection_gap", "true_positive": "true_positive_gap",
    "false_positive": "false_positive_gap",
}  # fmt: skip

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
ByGroup = dict[str, Array]  # values of the rows that count for a rate, by group


@dataclass(frozen=True)
class GroupRows:
    """Rows of one model.

    score: values of a metric, 0 or 1 if `is_share`. selected: the model predicted the positive label.
    positive: the true label is positive. Both are None without a positive label.
    """

    group: NDArray[np.str_]
    score: Array
    is_share: bool
    selected: Mask | None = None
    positive: Mask | None = None

    def by_rate(self) -> dict[str, ByGroup]:
        """Return the values by group that each rate is a mean of."""
        every = np.ones(len(self.group), bool)
        parts = {"score": self._of(self.score, every)}
        if self.selected is not None and self.positive is not None:
            selected = self.selected.astype(np.float64)
            parts["selection"] = self._of(selected, every)
            parts["true_positive"] = self._of(selected, self.positive)
            parts["false_positive"] = self._of(selected, ~self.positive)
        return parts

    def _of(self, values: Array, mask: Mask) -> ByGroup:
        return {str(name): values[mask & (self.group == name)] for name in np.unique(self.group)}


def compute_group_gaps(probe: str, base: GroupRows | None, tuned: GroupRows) -> list[MeasuredBias]:
    """Compute the gap of every rate, and the equalized odds difference.

    `base` has the same rows for the base model, if evaluated.
    """
    figures = []
    after, before = tuned.by_rate(), base.by_rate() if base else {}
    for rate, measure in GAPS.items():
        if rate in after:
            figures.append(
                _build_figure(probe, measure, [before[rate]] if before else [], [after[rate]], tuned)
            )
    if "true_positive" in after:
        sides = ("true_positive", "false_positive")
        olds = [before[side] for side in sides] if before else []
        figures.append(_build_figure(probe, ODDS, olds, [after[side] for side in sides], tuned))
    return figures


def _build_figure(
    probe: str, measure: str, before: list[ByGroup], after: list[ByGroup], rows: GroupRows
) -> MeasuredBias:
    share = rows.is_share or measure != GAPS["score"]

    def change(level: float) -> Interval:
        base, tuned = (_compute_largest_gap(parts, share, level) for parts in (before, after))
        return replace(rates.subtract_intervals(tuned, base), n=tuned.n)

    tuned = _compute_largest_gap(after, share, 0.95)
    base = _compute_largest_gap(before, share, 0.95) if before else None
    why = tuned.why or (base.why if base else "only one model evaluated on these rows")
    return MeasuredBias(
        probe, GROUP_GAP, measure, "", tuned=tuned, base=base, change=None if why else change, why=why
    )


def _compute_largest_gap(parts: list[ByGroup], share: bool, confidence: float) -> Interval:
    """Compute the largest gap of several rates."""
    spreads = [
        compute_group_gap(part, share=share, confidence=1 - (1 - confidence) / len(parts)) for part in parts
    ]
    value, n = max(spread.value for spread in spreads), max(spread.n for spread in spreads)
    if why := next((spread.why for spread in spreads if spread.why), ""):
        return Interval(value, None, None, n, why=why)
    low = max(spread.low or 0.0 for spread in spreads)
    return Interval(value, low, max(spread.high or 0.0 for spread in spreads), n)


def compute_group_gap(values: Mapping[str, Array], *, share: bool, confidence: float = 0.95) -> Interval:
    """Compute the largest group mean minus the smallest, among groups with enough rows; n counts
    their rows.
    """
    large = {name: each for name, each in values.items() if len(each) >= MIN_GROUP_ROWS}
    n = sum(map(len, large.values()))
    if len(large) < 2:
        return Interval(0.0, None, None, n, why=TOO_FEW)
    means = [float(each.mean()) for each in large.values()]
    pairs = len(large) * (len(large) - 1) / 2
    of_each = [_estimate_level(each, share, 1 - (1 - confidence) / pairs) for each in large.values()]
    ways = [rates.subtract_intervals(*two) for two in itertools.permutations(of_each, 2)]
    if why := next((way.why for way in ways if way.why), ""):
        return Interval(max(means) - min(means), None, None, n, why=why)
    low, high = (
        max(limit for limit in side if limit is not None)
        for side in zip(*map(_get_limits, ways), strict=True)
    )
    return Interval(max(means) - min(means), max(0.0, low), high, n)


def compute_group_ratio(values: Mapping[str, Array]) -> Interval:
    """Compute the smallest share of a group over the largest, with simultaneous limits for all pairs (Donner
    and Zou 2012, from the limits of both shares).
    """
    large = {name: each for name, each in values.items() if len(each) >= MIN_GROUP_ROWS}
    n = sum(map(len, large.values()))
    if len(large) < 2:
        return Interval(1.0, None, None, n, why=TOO_FEW)
    means = [float(each.mean()) for each in large.values()]
    if not max(means):
        return Interval(1.0, None, None, n, why="no rows with the positive label")
    pairs = len(large) * (len(large) - 1) / 2
    of_each = [_estimate_level(each, True, 1 - 0.05 / pairs) for each in large.values()]
    low, high = 1.0, 1.0
    for above, below in itertools.permutations(of_each, 2):
        least, most = _compute_ratio_limits(above, below)
        low, high = min(low, least), min(high, most)
    return Interval(min(means) / max(means), low, high, n)


def _compute_ratio_limits(above: Interval, below: Interval) -> tuple[float, float]:
    a, b = above.value, below.value
    (la, ua), (lb, ub) = _get_limits(above), _get_limits(below)
    product = a * b
    inner = max(0.0, product**2 - la * ub * (2 * a - la) * (2 * b - ub))
    under = ub * (2 * b - ub)
    least = (product - math.sqrt(inner)) / under if under > 0 else 0.0
    inner, under = max(0.0, product**2 - ua * lb * (2 * a - ua) * (2 * b - lb)), lb * (2 * b - lb)
    most = (product + math.sqrt(inner)) / under if under > 0 else math.inf
    return max(0.0, least), most


def _estimate_level(values: Array, share: bool, confidence: float) -> Interval:
    if share:
        return rates.estimate_share(values, confidence=confidence)
    return rates.estimate_mean(values, confidence=confidence)


def _get_limits(interval: Interval) -> tuple[float, float]:
    return (
        -math.inf if interval.low is None else interval.low,
        math.inf if interval.high is None else interval.high,
    )


def build_group_table(column: str, metric: str, positive: str, rows: GroupRows) -> GroupTable:
    """Return all groups with their rates; groups that are too small are only named with their number
    of rows.
    """
    by_rate = rows.by_rate()
    sizes = {name: len(each) for name, each in by_rate["score"].items()}
    large = sorted(
        (name for name in sizes if sizes[name] >= MIN_GROUP_ROWS), key=lambda name: (-sizes[name], name)
    )
    selection = compute_group_ratio(by_rate["selection"]).to_estimate() if "selection" in by_rate else None
    return GroupTable(
        column=column,
        metric=metric,
        positive=positive,
        groups=[_build_rates(name, sizes[name], by_rate, rows.is_share) for name in large],
        hidden={name: size for name, size in sorted(sizes.items()) if size < MIN_GROUP_ROWS},
        selection_ratio=selection,
    )


def _build_rates(name: str, n: int, by_rate: Mapping[str, ByGroup], is_share: bool) -> GroupRates:
    levels: dict[str, GroupRate] = {}
    for rate, values in by_rate.items():
        each = values[name]
        if len(each) < MIN_GROUP_ROWS:
            levels[rate] = GroupRate(estimate=None, n=len(each))
        else:
            levels[rate] = GroupRate(
                estimate=_estimate_level(each, is_share or rate != "score", 0.95).to_estimate(),
                n=len(each),
            )
    return GroupRates(group=name, n=n, rates=levels)


FIELD = "groups"
DEFAULT_METRICS = (
    "eval/accuracy",
    "eval/exact_match",
    "eval/choice_accuracy",
)  # used if none is named
MAX_GROUPS = 200
NO_GROUP = "empty group column"
NO_ANSWER = "no response or label"
OTHER_ROWS = "not scored by the baseline evaluation"


@dataclass(frozen=True)
class ScoredRows:
    """Scored rows of an evaluation: row_id, score, label, prediction (null for none)."""

    table: pa.Table
    metric: str


def measure_groups(job: WorkerJob, asked: BiasGroups) -> tuple[list[MeasuredBias], GroupComparison]:
    """Return the metrics and tables for one column."""
    named: dict[str, GroupedEvaluation] = job.spec["evaluations"]
    tuned_name, base_name = named[asked.evaluation], named.get(asked.against)
    tuned = _read_scored_rows(job, tuned_name, asked.metric)
    base = _read_scored_rows(job, base_name, tuned.metric) if base_name else None
    left_out: Counter[str] = Counter()
    table, other = _intersect_rows(tuned, base, left_out)
    ids = table["row_id"].to_numpy()
    values = read_column(job.home, tuned_name["fingerprint"], asked.column).take(pa.array(ids))
    keep = _select_rows(table, other, values, bool(asked.positive), left_out)
    names = np.array([str(name) for name in values.filter(pa.array(keep)).to_pylist()])
    _check(asked, names)
    after = _build_rows(table, keep, names, asked.positive)
    before = _build_rows(other, keep, names, asked.positive) if other else None
    probe = f"{asked.column} in {tuned_name['name']}"
    document = GroupComparison(
        evaluation_id=tuned_name["evaluation_id"],
        evaluation=tuned_name["name"],
        against_id=base_name["evaluation_id"] if base_name else None,
        against=base_name["name"] if base_name else None,
        base=build_group_table(asked.column, tuned.metric, asked.positive, before) if before else None,
        tuned=build_group_table(asked.column, tuned.metric, asked.positive, after),
        left_out=dict(left_out.most_common()),
    )
    return compute_group_gaps(probe, before, after), document


def _read_scored_rows(job: WorkerJob, evaluation: GroupedEvaluation, metric: str) -> ScoredRows:
    """Read an evaluation's scored rows.

    Raises ConfigError (groups) for a metric without row scores, NotFoundError if the rows were deleted.
    """
    folder = JobDir(job.home.jobs / evaluation["evaluation_id"])
    if not folder.scores.exists() or not folder.predictions.exists():
        raise NotFoundError(
            f"The rows of {evaluation['name']} no longer exist.", fix="Run the evaluation again.", field=FIELD
        )
    scores = pq.read_table(folder.scores, columns=["row_id", "metric", "score"])
    scores = scores.filter(pc.is_valid(scores["score"]))
    by_row = pc.unique(scores["metric"]).to_pylist()
    wanted = metric or next((name for name in (*DEFAULT_METRICS, *by_row) if name in by_row), "")
    if wanted not in by_row:
        there = (
            f"Available row-level metrics: {', '.join(by_row)}." if by_row else "It has no row-level metrics."
        )
        raise ConfigError(
            f"{evaluation['name']} has no row scores for {wanted or 'any metric'}.", fix=there, field=FIELD
        )
    scores = scores.filter(pc.equal(scores["metric"], wanted)).select(["row_id", "score"])
    answers = pq.read_table(folder.predictions, columns=["row_id", "label", "prediction"])
    return ScoredRows(scores.join(answers, "row_id").combine_chunks().sort_by("row_id"), wanted)


def _intersect_rows(
    tuned: ScoredRows, base: ScoredRows | None, left_out: Counter[str]
) -> tuple[pa.Table, pa.Table | None]:
    """Return the rows that both evaluations scored."""
    if base is None:
        return tuned.table, None
    both = np.intersect1d(tuned.table["row_id"].to_numpy(), base.table["row_id"].to_numpy())
    if gone := len(tuned.table) - len(both):
        left_out[OTHER_ROWS] += gone
    if not len(both):
        raise ConfigError(
            "The evaluations have no rows in common.", fix="Use rows_of for one of them.", field=FIELD
        )
    first, second = (
        part.filter(pc.is_in(part["row_id"], pa.array(both))) for part in (tuned.table, base.table)
    )
    return first, second


def _select_rows(
    table: pa.Table, other: pa.Table | None, values: pa.Array, labelled: bool, left_out: Counter[str]
) -> np.ndarray:
    keep: np.ndarray = values.is_valid().to_numpy(zero_copy_only=False)
    if empty := int((~keep).sum()):
        left_out[NO_GROUP] += empty
    if labelled:
        answered = np.ones(len(table), bool)
        for part in (table, other):
            if part is not None:
                both = pc.and_(pc.is_valid(part["label"]), pc.is_valid(part["prediction"]))
                answered &= both.to_numpy(zero_copy_only=False)
        if lacking := int((keep & ~answered).sum()):
            left_out[NO_ANSWER] += lacking
        keep &= answered
    return keep


def _check(asked: BiasGroups, names: np.ndarray) -> None:
    count = len(np.unique(names))
    if not count:
        raise ConfigError(
            f"No scored rows with a value in {asked.column}.", fix="Choose another column.", field=FIELD
        )
    if count > MAX_GROUPS:
        raise ConfigError(
            f"{asked.column} has {count:,} values; the maximum number of groups is {MAX_GROUPS}.",
            fix="Choose a column with fewer values.",
            field=FIELD,
        )


def _build_rows(table: pa.Table, keep: np.ndarray, names: np.ndarray, positive: str) -> GroupRows:
    part = table.filter(pa.array(keep))
    score = np.asarray(part["score"].to_numpy(), float)
    is_share = bool(np.isin(score, (0.0, 1.0)).all())
    if not positive:
        return GroupRows(names, score, is_share)
    selected, right = (
        np.array([str(value).strip() == positive for value in part[column].to_pylist()], bool)
        for column in ("prediction", "label")
    )
    return GroupRows(names, score, is_share, selected, right)
