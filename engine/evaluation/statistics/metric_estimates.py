"""Estimate of one metric for one model on a set of rows, and of the difference of two models, with intervals.

A row has a score, if the metric has one, and statistics whose sums determine the figure of the whole set
(`estimators.py`). What could not be scored is NaN with a reason. The unit is a row, or a group if rows
come in groups: then whole groups are resampled. A share of rows has Wilson's interval, one of wins, ties
and losses Tango's, a ratio of sums that of `estimators.py`, any other figure 10,000 resamples of the
summed statistics with BCa limits. If no resample differs, as when every row is right, nothing is certain
nonetheless: given n rows that agree, up to z²/(n + z²) of all rows may not, and those may be anywhere
within the metric's bounds.

A difference is over the rows that both models have scored. The interval resamples rows, or groups of them,
together for both models. If fewer than 25 of them differ at all, a bootstrap is overconfident: five rows
gained and none lost look certain, but may be a coin that fell five times the same way. Then an exact test
decides: if the two models were the same, each row that differs could as well have been the other way
round, and all such swaps (or 10,000 of them) show how often the difference is as large. For rows that are
right or wrong this is McNemar's exact test. Pure functions from arrays to documents.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypedDict

import numpy as np
from numpy.typing import NDArray
from scipy import sparse, special

from engine.evaluation.statistics import estimators, intervals
from engine.evaluation.statistics.estimators import (
    CLASS_FIGURES,
    ESTIMATORS,
    MACRO_FIGURES,
    FigureOfSums,
    build_class_figure,
    count_classes,
    describe_rare_classes,
)
from engine.evaluation.statistics.intervals import Interval, bca_limits, wilson_interval
from engine.evaluation.statistics.proportions import estimate_paired_change
from store.core.figure_schemas import Difference, Figure, UnscoredRows

RESAMPLES = 10_000
CLASS_RESAMPLES = 2_000  # for class figures, which are more expensive
CHUNK = 2_000_000  # resampled numbers held in memory at a time
FEW_UNITS = 5  # with fewer, the levels are beyond the last resample: Student's t on the jackknife
EXAMPLES = 20  # rows without a score listed in a document

Floats = NDArray[np.float64]
Bounds = tuple[float | None, float | None]
Groups = Sequence[object] | None  # each row's group, None for a row without one


class PairOutcomeCounts(TypedDict):
    """Counts of rows on which either model scores higher, and of rows with equal scores."""

    first_higher: int
    second_higher: int
    same: int


class WholeFigure(TypedDict, total=False):
    """Document of a figure that is not composed of rows."""

    value: float | None
    low: float | None
    high: float | None
    n: int
    why: str  # why there is no interval
    details: dict[str, Any]


@dataclass
class RowScores:
    """Scores of a metric. `scores` [rows], NaN if there is none; `reasons`: index of a row without a score ->
    why.

    estimator: "mean", a key of ESTIMATORS, one of CLASS_FIGURES, or "whole" for a figure that is not
    composed of rows (then `whole` holds its document). statistics [rows, counts]: what the estimator sums;
    for class figures the indices of truth and answer in `labels`, len(labels) or more for none of them.
    failed: why nothing could be scored at all; traceback: for the log. details: further results of the
    metric.
    """

    name: str
    row_ids: NDArray[np.int64]
    scores: Floats
    estimator: str = "mean"
    bounds: Bounds = (None, None)
    unit: str = ""
    better: Literal["higher", "lower"] = "higher"
    statistics: Floats | None = None
    labels: Sequence[str] = ()
    reasons: dict[int, str] = field(default_factory=dict)
    empty: int = 0
    failed: str = ""
    traceback: str = ""
    whole: WholeFigure | None = None
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def sums(self) -> Floats:
        """Statistics of each row [rows, counts]; for a plain mean its score and 1."""
        if self.statistics is not None:
            return self.statistics
        return np.column_stack([self.scores, np.ones(len(self.scores))])

    @property
    def usable(self) -> NDArray[np.bool_]:
        """Mask of rows that count in the figure."""
        sums = self.sums
        weighs = sums[:, 1] > 0 if self.estimator in estimators.RATIO_FIGURES else np.ones(len(sums), bool)
        finite: NDArray[np.bool_] = np.isfinite(sums.sum(axis=1))
        return finite & weighs

    def take(self, places: NDArray[np.int64]) -> RowScores:
        """Return these rows only, with their scores and statistics."""
        statistics = None if self.statistics is None else self.statistics[places]
        return replace(
            self, row_ids=self.row_ids[places], scores=self.scores[places], statistics=statistics, reasons={}
        )


def aggregate_scores(scored: RowScores, groups: Groups = None, *, confidence: float = 0.95) -> Figure:
    """Return the document of one metric. Without a usable row, value, low and high are None and n is 0."""
    document = Figure(
        metric=scored.name,
        unit=scored.unit,
        better=scored.better,
        estimator=scored.estimator,
        bounds=list(scored.bounds),
        labels=list(scored.labels),
        value=None,
        low=None,
        high=None,
        n=0,
        groups=None,
        rows=len(scored.row_ids),
        empty=scored.empty,
        unscored=_summarise_unscored(scored),
        failed=scored.failed,
        details=scored.details,
    )
    if scored.whole is not None:
        return replace(document, **scored.whole)
    usable = np.flatnonzero(scored.usable)
    if not len(usable) or scored.failed:
        return document
    interval, units = estimate_figure(scored, usable, groups, confidence=confidence)
    return replace(document, **vars(interval.to_estimate()), groups=units)


def _summarise_unscored(scored: RowScores) -> UnscoredRows:
    reasons = Counter(scored.reasons.values())
    first = sorted(scored.reasons)[:EXAMPLES]
    return UnscoredRows(
        count=len(scored.reasons),
        reasons=dict(reasons.most_common(EXAMPLES)),
        examples=[(int(scored.row_ids[i]), scored.reasons[i]) for i in first],
    )


def estimate_figure(
    scored: RowScores, rows: NDArray[np.int64], groups: Groups = None, *, confidence: float = 0.95
) -> tuple[Interval, int | None]:
    """Return the figure of these rows with its interval, and the number of groups, None without groups."""
    sums = scored.sums[rows]
    unit_of, units = assign_units(groups, rows)
    if units is None and _is_share(scored, rows):
        return wilson_interval(int(scored.scores[rows].sum()), len(rows), confidence=confidence), None
    if units is None and _has_ties(scored, rows):
        return _estimate_win_share(scored.scores[rows], confidence), None
    if scored.estimator in estimators.RATIO_FIGURES:
        interval = estimators.estimate_ratio_figure(
            scored.estimator, _sum_by_unit(sums, unit_of), confidence=confidence
        )
        interval = _widen_for_unseen(interval, scored.bounds, confidence)
    else:
        counts, estimate = build_row_sums(sums, scored)
        interval = estimate_interval(counts, estimate, unit_of, scored, scored.bounds, confidence)
    return replace(interval, n=len(rows)), units


def assign_units(groups: Groups, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], int | None]:
    """Return the unit of each row, and the number of groups; each row is a unit, and the number None, if
    there are no groups or none has two rows.
    """
    if groups is None:
        return np.arange(len(rows)), None
    places: dict[str, int] = {}
    unit_of = np.zeros(len(rows), np.int64)
    for place, row in enumerate(rows.tolist()):
        own = groups[row]
        name = f"row {row}" if own is None else f"group {own!r}"  # a row without a group is its own unit
        unit_of[place] = places.setdefault(name, len(places))
    return (unit_of, None) if len(places) == len(rows) else (unit_of, len(places))


def _is_share(scored: RowScores, rows: NDArray[np.int64]) -> bool:
    """Return whether the figure is a share of the rows: a mean of scores 0 and 1."""
    if scored.estimator == "mean" and scored.statistics is not None:
        return False
    of_rows = scored.estimator in ("mean", "accuracy", "recall_micro")
    return of_rows and bool(np.isin(scored.scores[rows], (0.0, 1.0)).all())


def _has_ties(scored: RowScores, rows: NDArray[np.int64]) -> bool:
    """Return whether the figure is a mean of wins, ties and losses: of 1, 0.5 and 0."""
    plain = scored.estimator == "mean" and scored.statistics is None
    return plain and bool(np.isin(scored.scores[rows], (0.0, 0.5, 1.0)).all())


def _estimate_win_share(scores: Floats, confidence: float) -> Interval:
    """Estimate the share of wins, ties counting half, with Tango's limits: if most are ties, few rows decide,
    and a bootstrap is overconfident.
    """
    change = estimate_paired_change(
        int((scores == 0).sum()), int((scores == 1).sum()), len(scores), confidence=confidence
    )
    assert change.low is not None
    assert change.high is not None
    assert change.se is not None
    assert change.detectable is not None
    return Interval(
        0.5 + change.value / 2, 0.5 + change.low / 2, 0.5 + change.high / 2, change.n, change.se / 2,
        change.detectable / 2,
    )  # fmt: skip


def build_row_sums(sums: Floats, scored: RowScores) -> tuple[Any, FigureOfSums]:
    """Return what is summed over rows [rows, counts], and the figure as a function of such sums."""
    if scored.estimator not in CLASS_FIGURES:
        return sums, ESTIMATORS[scored.estimator]
    classes = len(scored.labels)
    return count_classes(sums[:, 0], sums[:, 1], classes), build_class_figure(scored.estimator, classes)


def estimate_interval(
    counts: Any, estimate: FigureOfSums, unit_of: Any, scored: RowScores, bounds: Bounds, confidence: float
) -> Interval:
    """Estimate a figure with an interval over units; `n` of the result is the number of units."""
    units = int(unit_of.max()) + 1
    summed = _sum_by_unit(counts, unit_of)
    total = np.asarray(summed.sum(axis=0), np.float64).reshape(1, -1)
    value = float(estimate(total)[0])
    if units == 1 or not np.isfinite(value):
        return Interval(value, None, None, units)
    if scored.estimator in MACRO_FIGURES:
        classes = len(scored.labels)
        if why := describe_rare_classes(total[0, classes : 2 * classes], scored.labels):
            return Interval(value, None, None, units, why=why)
    left_out = _leave_one_out(summed, total, estimate)
    se = float(np.sqrt((units - 1) / units * np.square(left_out - left_out.mean()).sum()))
    quantile = float(special.stdtrit(units - 1, (1 + confidence) / 2))
    detectable = (quantile + float(special.stdtrit(units - 1, 0.8))) * se
    if units < FEW_UNITS and se:
        least, most = bounds
        low, high = value - quantile * se, value + quantile * se  # Student's, clipped to the bounds
        low = low if least is None else max(least, low)
        high = high if most is None else min(most, high)
        return Interval(value, low, high, units, se, detectable)
    drawn = _bootstrap(summed, estimate, CLASS_RESAMPLES if scored.estimator in CLASS_FIGURES else RESAMPLES)
    if not np.isfinite(drawn).all() or not np.isfinite(left_out).all():
        return Interval(value, None, None, units)
    if np.ptp(drawn) <= 1e-12 * max(1.0, abs(value)):
        return _widen_for_unseen(Interval(value, value, value, units, 0.0, 0.0), bounds, confidence)
    low, high = bca_limits(value, drawn, left_out, units, confidence=confidence)
    return Interval(value, low, high, units, se, detectable)


def _sum_by_unit(counts: Any, unit_of: Any) -> Any:
    """Return the sums over each unit's rows [units, counts]."""
    every = np.arange(len(unit_of))
    shape = (int(unit_of.max()) + 1, len(every))
    return sparse.csr_array((np.ones(len(every)), (unit_of, every)), shape=shape) @ counts


def _leave_one_out(summed: Any, total: Floats, estimate: FigureOfSums) -> Floats:
    """Return the figure with each unit left out in turn."""
    at_once = max(1, CHUNK // total.shape[1])
    figures = []
    for i in range(0, summed.shape[0], at_once):
        part = summed[i : i + at_once]
        part = part.toarray() if sparse.issparse(part) else part
        figures.append(estimate(total - np.asarray(part, np.float64)))
    return np.concatenate(figures)


def _bootstrap(summed: Any, estimate: FigureOfSums, resamples: int, seed: int = 0) -> Floats:
    """Return the figure of each resample of the units."""
    generator = np.random.default_rng(seed)
    units = summed.shape[0]
    figures = []
    for draws in intervals.draw_batches(resamples, max(units, summed.shape[1]), CHUNK):
        drawn = generator.integers(0, units, (draws, units)) + units * np.arange(draws)[:, None]
        times = np.bincount(drawn.ravel(), minlength=draws * units).reshape(draws, units)
        figures.append(estimate(times.astype(np.float64) @ summed))
    return np.concatenate(figures)


def _widen_for_unseen(interval: Interval, bounds: Bounds, confidence: float) -> Interval:
    """Widen the interval of units that all agree by what unobserved ones could change; return others
    unchanged.
    """
    low, high = bounds
    if interval.se or interval.n == 1 or low is None or high is None:
        return interval
    z = float(special.ndtri((1 + confidence) / 2))
    unseen = z * z / (interval.n + z * z)
    ends = [(1 - unseen) * interval.value + unseen * end for end in (low, high)]
    reach = max(ends[1] - interval.value, interval.value - ends[0])
    return replace(interval, low=ends[0], high=ends[1], detectable=reach)


EXACT_MAX_UNITS = 25  # differing units below which swaps decide
EXACT_SWAPS = 13  # differing units up to which every swap is tried
SWAPS = 10_000


def compute_difference(
    first: RowScores, second: RowScores, groups: Groups = None, *, confidence: float = 0.95
) -> Difference:
    """Compute `first` minus `second`; `groups` are those of the first's rows.

    Raises ValueError if the two are not the same metric.
    """
    if first.estimator != second.estimator or list(first.labels) != list(second.labels):
        raise ValueError(f"{first.name} and {second.name} are not the same metric.")
    alone = int(first.usable.sum() + second.usable.sum())
    _, own, others = np.intersect1d(first.row_ids, second.row_ids, return_indices=True)
    groups = None if groups is None else [groups[place] for place in own]
    first, second = first.take(own), second.take(others)
    rows = np.flatnonzero(first.usable & second.usable)
    document = Difference(
        metric=first.name,
        value=None,
        low=None,
        high=None,
        n=0,
        groups=None,
        detectable=None,
        better=first.better,
        unit=first.unit,
        left_out=alone - 2 * len(rows),
        **_count_outcomes(first.scores[rows], second.scores[rows]),
    )
    if not len(rows) or first.estimator == "whole":
        return document
    unit_of, units = assign_units(groups, rows)
    a, b = first.sums[rows], second.sums[rows]
    bounds = _find_difference_bounds(first, second)
    if first.estimator in estimators.RATIO_FIGURES:
        parts = (_sum_by_unit(sums, unit_of) for sums in (a, b))
        interval = estimators.estimate_ratio_difference(first.estimator, *parts, confidence=confidence)
        interval = _widen_for_unseen(interval, bounds, confidence)
    else:
        counts, estimate = _join_row_sums(a, b, first)
        interval = estimate_interval(counts, estimate, unit_of, first, bounds, confidence)
    interval = _check_by_permutation(interval, a, b, first, unit_of, confidence)
    document.value, document.low, document.high = interval.value, interval.low, interval.high
    document.n, document.groups, document.detectable = len(rows), units, interval.detectable
    if interval.why:
        document.why = interval.why
    return document


def _count_outcomes(first: Floats, second: Floats) -> PairOutcomeCounts:
    scored = np.isfinite(first) & np.isfinite(second)
    gap = first[scored] - second[scored]
    higher, lower = int((gap > 0).sum()), int((gap < 0).sum())
    return {"first_higher": higher, "second_higher": lower, "same": len(gap) - higher - lower}


def _find_difference_bounds(first: RowScores, second: RowScores) -> Bounds:
    """Return the bounds of the difference: the span of the metric's bounds, otherwise of the
    observed scores.
    """
    low, high = first.bounds
    if low is None or high is None:
        seen = np.concatenate([first.scores, second.scores])
        seen = seen[np.isfinite(seen)]
        span = float(np.ptp(seen)) if len(seen) else 0.0
    else:
        span = high - low
    return (-span, span)


def _join_row_sums(a: Floats, b: Floats, scored: RowScores) -> tuple[Any, FigureOfSums]:
    """Return what is summed over rows for both models, and their difference as a function of such sums."""
    first, each = build_row_sums(a, scored)
    second, _ = build_row_sums(b, scored)
    width = first.shape[1]
    both = sparse.hstack([first, second], "csr") if sparse.issparse(first) else np.hstack([first, second])
    return both, lambda sums: each(sums[:, :width]) - each(sums[:, width:])


def _check_by_permutation(
    interval: Interval, a: Floats, b: Floats, scored: RowScores, unit_of: NDArray[np.int64], confidence: float
) -> Interval:
    """Extend the interval to include 0 if so few units differ that swaps don't distinguish the models."""
    differ = np.unique(unit_of[(a != b).any(axis=1)])
    if not 0 < len(differ) < EXACT_MAX_UNITS or not (interval.above or interval.below):
        return interval
    if _compute_permutation_p(a, b, scored, unit_of, differ) <= 1 - confidence:
        return interval
    return replace(interval, low=min(interval.low or 0.0, 0.0), high=max(interval.high or 0.0, 0.0))


def _compute_permutation_p(
    a: Floats, b: Floats, scored: RowScores, unit_of: NDArray[np.int64], differ: NDArray[np.int64]
) -> float:
    """Return how often swapping the two models in units that differ gives a difference at least as large."""
    (first, each), (second, _) = build_row_sums(a, scored), build_row_sums(b, scored)
    own, others = (
        np.array([_sum_rows(part, unit_of == unit) for unit in differ]) for part in (first, second)
    )
    fixed = _sum_rows(first, ~np.isin(unit_of, differ))
    if len(differ) <= EXACT_SWAPS:
        stays = (np.arange(2 ** len(differ))[:, None] >> np.arange(len(differ))) & 1
    else:
        stays = np.random.default_rng(0).integers(0, 2, (SWAPS, len(differ)))
        stays[0] = 1  # unchanged
    gap = each(fixed + stays @ own + (1 - stays) @ others) - each(fixed + stays @ others + (1 - stays) @ own)
    as_it_was = each(fixed + own.sum(axis=0)[None])[0] - each(fixed + others.sum(axis=0)[None])[0]
    return float((np.abs(gap) >= abs(as_it_was) * (1 - 1e-9)).mean())


def _sum_rows(counts: Any, rows: NDArray[np.bool_]) -> Floats:
    return np.asarray(counts[np.flatnonzero(rows)].sum(axis=0), np.float64).ravel()
