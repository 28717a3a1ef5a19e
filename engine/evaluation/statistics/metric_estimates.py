"""What one metric says of one model on a set of rows, with its interval.

A row has a score, where the metric has one, and statistics from whose sums the figure of the whole set
follows (`estimators.py`). What could not be scored is NaN and has its reason. Rows are the unit, or groups of
them where rows come in groups: then whole groups are resampled. A share of rows has Wilson's interval, one of
wins, ties and losses Tango's, a sum over another that of `estimators.py`, any other figure 10,000 resamples
of the summed statistics with BCa limits. Where no resample differs, as when every row is right, nothing is
certain all the same: of n rows that agree up to z²/(n + z²) of all rows may not, and those may lie anywhere
within the metric's bounds. Pure.

How two models differ in one metric, over the rows that both could score.

The interval resamples rows, or groups of them, together for both models. Where fewer than 25 of them differ
at all, a bootstrap is too sure: five rows gained and none lost look certain, and are a coin that fell five
times the same way. Then an exact test has the last word: if the two models were one, each row that differs
could as well have been the other way round, and all such swaps (or 10,000 of them) say how often the
difference is as large. Of rows that are right or wrong that is McNemar's exact test. Pure: arrays in, a
document out.
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
CLASS_RESAMPLES = 2_000  # of figures over classes, each of which is dearer
CHUNK = 2_000_000  # resampled numbers held at a time
FEW_UNITS = 5  # with fewer, the levels lie beyond the last resample: Student's t on the jackknife
EXAMPLES = 20  # rows without a score that a document names

Floats = NDArray[np.float64]
Bounds = tuple[float | None, float | None]
Groups = Sequence[object] | None  # of each row what names its group, None for a row of its own


class PairOutcomeCounts(TypedDict):
    """Rows on which either model scores higher, and on which both score the same."""

    first_higher: int
    second_higher: int
    same: int


class WholeFigure(TypedDict, total=False):
    """What is said of a figure that no row has a share in."""

    value: float | None
    low: float | None
    high: float | None
    n: int
    why: str  # there is no interval
    details: dict[str, Any]


@dataclass
class RowScores:
    """`scores` [rows], NaN where there is none; `reasons`: place of a row without a score -> why.

    estimator: "mean", a key of ESTIMATORS, one of CLASS_FIGURES, or "whole" for a figure that no row has a
    share in (then `whole` holds its document). statistics [rows, counts]: what the estimator sums; of class
    figures the places of truth and answer in `labels`, from len(labels) on for none of them. failed: why
    nothing could be scored at all; traceback: for the log. details: what else the metric has to say.
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
        """The statistics of each row [rows, counts]; of a plain mean its score and 1."""
        if self.statistics is not None:
            return self.statistics
        return np.column_stack([self.scores, np.ones(len(self.scores))])

    @property
    def usable(self) -> NDArray[np.bool_]:
        """Rows that count in the figure."""
        sums = self.sums
        weighs = sums[:, 1] > 0 if self.estimator in estimators.RATIO_FIGURES else np.ones(len(sums), bool)
        finite: NDArray[np.bool_] = np.isfinite(sums.sum(axis=1))
        return finite & weighs

    def take(self, places: NDArray[np.int64]) -> RowScores:
        """These rows alone, as far as scores and statistics go."""
        statistics = None if self.statistics is None else self.statistics[places]
        return replace(
            self, row_ids=self.row_ids[places], scores=self.scores[places], statistics=statistics, reasons={}
        )


def aggregate_scores(scored: RowScores, groups: Groups = None, *, confidence: float = 0.95) -> Figure:
    """The document of one metric. Without a usable row value, low and high are None and n is 0."""
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
    """The figure of these rows with its interval; how many groups they come in, None where in none."""
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
    """The unit of each row, and how many; every row is one where there are no groups or none has two rows."""
    if groups is None:
        return np.arange(len(rows)), None
    places: dict[str, int] = {}
    unit_of = np.zeros(len(rows), np.int64)
    for place, row in enumerate(rows.tolist()):
        own = groups[row]
        name = f"row {row}" if own is None else f"group {own!r}"  # without a group it is one of its own
        unit_of[place] = places.setdefault(name, len(places))
    return (unit_of, None) if len(places) == len(rows) else (unit_of, len(places))


def _is_share(scored: RowScores, rows: NDArray[np.int64]) -> bool:
    """Whether the figure is a share of the rows: the mean of scores that are 0 or 1."""
    if scored.estimator == "mean" and scored.statistics is not None:
        return False
    of_rows = scored.estimator in ("mean", "accuracy", "recall_micro")
    return of_rows and bool(np.isin(scored.scores[rows], (0.0, 1.0)).all())


def _has_ties(scored: RowScores, rows: NDArray[np.int64]) -> bool:
    """Whether the figure is a mean of wins, ties and losses: of 1, 0.5 and 0."""
    plain = scored.estimator == "mean" and scored.statistics is None
    return plain and bool(np.isin(scored.scores[rows], (0.0, 0.5, 1.0)).all())


def _estimate_win_share(scores: Floats, confidence: float) -> Interval:
    """The share of wins, ties counting half, with Tango's limits: where most are ties, few rows decide, and a
    bootstrap is too sure of them."""
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
    """What is summed over rows [rows, counts], and the figure of such sums."""
    if scored.estimator not in CLASS_FIGURES:
        return sums, ESTIMATORS[scored.estimator]
    classes = len(scored.labels)
    return count_classes(sums[:, 0], sums[:, 1], classes), build_class_figure(scored.estimator, classes)


def estimate_interval(
    counts: Any, estimate: FigureOfSums, unit_of: Any, scored: RowScores, bounds: Bounds, confidence: float
) -> Interval:
    """`n` of the answer is the number of units."""
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
        by_student = Interval(value, value - quantile * se, value + quantile * se, units, se, detectable)
        return _clip_to_bounds(by_student, bounds)
    drawn = _bootstrap(summed, estimate, CLASS_RESAMPLES if scored.estimator in CLASS_FIGURES else RESAMPLES)
    if not np.isfinite(drawn).all() or not np.isfinite(left_out).all():
        return Interval(value, None, None, units)
    if np.ptp(drawn) <= 1e-12 * max(1.0, abs(value)):
        return _widen_for_unseen(Interval(value, value, value, units, 0.0, 0.0), bounds, confidence)
    low, high = bca_limits(value, drawn, left_out, units, confidence=confidence)
    return Interval(value, low, high, units, se, detectable)


def _sum_by_unit(counts: Any, unit_of: Any) -> Any:
    """The sums of each unit's rows [units, counts]."""
    every = np.arange(len(unit_of))
    shape = (int(unit_of.max()) + 1, len(every))
    return sparse.csr_array((np.ones(len(every)), (unit_of, every)), shape=shape) @ counts


def _leave_one_out(summed: Any, total: Floats, estimate: FigureOfSums) -> Floats:
    """The figure with each unit left out in turn."""
    at_once = max(1, CHUNK // total.shape[1])
    return np.concatenate(
        [estimate(total - _to_dense(summed[i : i + at_once])) for i in range(0, summed.shape[0], at_once)]
    )


def _to_dense(part: Any) -> Floats:
    return np.asarray(part.toarray() if sparse.issparse(part) else part, np.float64)


def _bootstrap(summed: Any, estimate: FigureOfSums, resamples: int, seed: int = 0) -> Floats:
    """The figure of each resample of the units."""
    generator = np.random.default_rng(seed)
    units = summed.shape[0]
    figures = []
    for draws in intervals.draw_batches(resamples, max(units, summed.shape[1]), CHUNK):
        drawn = generator.integers(0, units, (draws, units)) + units * np.arange(draws)[:, None]
        times = np.bincount(drawn.ravel(), minlength=draws * units).reshape(draws, units)
        figures.append(estimate(times.astype(np.float64) @ summed))
    return np.concatenate(figures)


def _widen_for_unseen(interval: Interval, bounds: Bounds, confidence: float) -> Interval:
    """Of units that all agree: what the others that were not seen could still change; else as it is."""
    low, high = bounds
    if interval.se or interval.n == 1 or low is None or high is None:
        return interval
    z = float(special.ndtri((1 + confidence) / 2))
    unseen = z * z / (interval.n + z * z)
    ends = [(1 - unseen) * interval.value + unseen * end for end in (low, high)]
    reach = max(ends[1] - interval.value, interval.value - ends[0])
    return replace(interval, low=ends[0], high=ends[1], detectable=reach)


def _clip_to_bounds(interval: Interval, bounds: Bounds) -> Interval:
    low, high = bounds
    least = interval.low if low is None or interval.low is None else max(low, interval.low)
    most = interval.high if high is None or interval.high is None else min(high, interval.high)
    return replace(interval, low=least, high=most)


EXACT_MAX_UNITS = 25  # units that differ, below which swaps decide
EXACT_SWAPS = 13  # units of which every swap is tried
SWAPS = 10_000


def compute_difference(
    first: RowScores, second: RowScores, groups: Groups = None, *, confidence: float = 0.95
) -> Difference:
    """`first` minus `second`; `groups` are those of the first's rows.

    Raises ValueError where the two are not the same metric.
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
    """Between which the difference lies: as far apart as the metric allows, else as the scores that occur."""
    low, high = first.bounds
    if low is None or high is None:
        seen = np.concatenate([first.scores, second.scores])
        seen = seen[np.isfinite(seen)]
        span = float(np.ptp(seen)) if len(seen) else 0.0
    else:
        span = high - low
    return (-span, span)


def _join_row_sums(a: Floats, b: Floats, scored: RowScores) -> tuple[Any, FigureOfSums]:
    """What is summed over rows for both models together, and their difference from such sums."""
    first, each = build_row_sums(a, scored)
    second, _ = build_row_sums(b, scored)
    width = first.shape[1]
    both = sparse.hstack([first, second], "csr") if sparse.issparse(first) else np.hstack([first, second])
    return both, lambda sums: each(sums[:, :width]) - each(sums[:, width:])


def _check_by_permutation(
    interval: Interval, a: Floats, b: Floats, scored: RowScores, unit_of: NDArray[np.int64], confidence: float
) -> Interval:
    """The interval, with 0 in it where so few units differ that swaps don't tell the models apart."""
    differ = np.unique(unit_of[(a != b).any(axis=1)])
    if not 0 < len(differ) < EXACT_MAX_UNITS or not (interval.above or interval.below):
        return interval
    if _compute_permutation_p(a, b, scored, unit_of, differ) <= 1 - confidence:
        return interval
    return replace(interval, low=min(interval.low or 0.0, 0.0), high=max(interval.high or 0.0, 0.0))


def _compute_permutation_p(
    a: Floats, b: Floats, scored: RowScores, unit_of: NDArray[np.int64], differ: NDArray[np.int64]
) -> float:
    """How often swapping the two models in units that differ gives a difference as large as theirs."""
    (first, each), (second, _) = build_row_sums(a, scored), build_row_sums(b, scored)
    own, others = (
        np.array([_sum_rows(part, unit_of == unit) for unit in differ]) for part in (first, second)
    )
    fixed = _sum_rows(first, ~np.isin(unit_of, differ))
    if len(differ) <= EXACT_SWAPS:
        stays = (np.arange(2 ** len(differ))[:, None] >> np.arange(len(differ))) & 1
    else:
        stays = np.random.default_rng(0).integers(0, 2, (SWAPS, len(differ)))
        stays[0] = 1  # as it was
    gap = each(fixed + stays @ own + (1 - stays) @ others) - each(fixed + stays @ others + (1 - stays) @ own)
    as_it_was = each(fixed + own.sum(axis=0)[None])[0] - each(fixed + others.sum(axis=0)[None])[0]
    return float((np.abs(gap) >= abs(as_it_was) * (1 - 1e-9)).mean())


def _sum_rows(counts: Any, rows: NDArray[np.bool_]) -> Floats:
    return np.asarray(counts[np.flatnonzero(rows)].sum(axis=0), np.float64).ravel()
