"""Three answers out of an interval and a limit: passed, failed, can't be told; also where repeats slipped
into training.

A check passes where the whole 95% interval lies on the good side of the limit and fails where all of it
lies on the other. Rows that are right or wrong have Tango's interval. Of rows that were perhaps learned,
the difference is taken without those that lift it most. Simulated in `bench/truths`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse, special

from engine.evaluation.statistics import clustered
from engine.evaluation.statistics.clustered import RatingClusters
from engine.evaluation.statistics.intervals import BROKEN_ROW, Interval, allow_for_unseen, bound_unseen_share
from engine.evaluation.statistics.metric_estimates import (
    RowScores,
    aggregate_scores,
    build_row_sums,
    compute_difference,
)
from engine.evaluation.statistics.proportions import estimate_answer_change
from store.core.figure_schemas import Estimate
from store.registry.schemas import CheckAnswer, GateRow

# Three answers out of an interval and a limit: passed, failed, can't be told with these rows.
#
# A check passes where the whole 95% interval lies on the good side of the limit and fails where all of it
# lies on the other; between them it can't be told. So a version that is truly at the limit or beyond it
# passes in at most 5 of 100 cases (2.5 where an interval is exact), and one that is truly within it fails
# as seldom. Rows that are right or wrong are held by Tango's interval, which stays honest where no row
# differs; everything else by the intervals of `statistics.scored`. Simulated in
# `bench/truths/models/gates.py`.

BROKEN_TEXT = 2.5  # nats a token, by which a text may get worse
BYTES_PER_TOKEN = 4.0  # about, of English
MIN_TIMINGS = 6  # under which no two ranks hold a median in 95 of 100 cases
BINS, MIN_BINS, IN_BIN = 15, 5, 30  # of the calibration error: of equal mass, and rows of each
DRAWS = 1_000


def check_above(estimate: Estimate | None, limit: float) -> CheckAnswer:
    """Whether the truth surely lies above the limit; failed: surely not."""
    if estimate is None or estimate.low is None or estimate.high is None:
        return "cant_tell"
    if estimate.low > limit:
        return "passed"
    return "failed" if estimate.high <= limit else "cant_tell"


def check_above_despite_lift(estimate: Estimate | None, limit: float, lifted: float | None) -> CheckAnswer:
    """As `above`, of a figure that something may have lifted by as much: it passes where it would without,
    and nowhere where nobody knows by how much (None)."""
    answer = check_above(estimate, limit)
    if answer != "passed" or estimate is None or estimate.low is None:
        return answer
    return "passed" if lifted is not None and estimate.low - lifted > limit else "cant_tell"


def check_below(estimate: Estimate | None, limit: float) -> CheckAnswer:
    """Whether the truth surely lies under the limit; failed: surely not."""
    if estimate is None or estimate.low is None or estimate.high is None:
        return "cant_tell"
    if estimate.high < limit:
        return "passed"
    return "failed" if estimate.low >= limit else "cant_tell"


def extrapolate_to_all_texts(rise: Estimate) -> Estimate:
    """The rise of the loss on some texts as one of all such texts: its limits allow for a kind of text that
    is not among them and that is broken (`allow_for_unseen`).

    A rise of 0.1, as 2% of texts rise by 2 nats, passed a limit of 0.1 in 57, 57 and 26 of 100 cases at 20,
    30 and 67 texts; at a size of 2.5 in none (`bench/truths/models/gates.py`).
    """
    return extrapolate_to_all_rows(rise, BROKEN_TEXT)


def extrapolate_to_all_rows(estimate: Estimate, size: float) -> Estimate:
    """An estimate of some rows as one of all of them: with limits that allow for a kind of row that is not
    among these and differs by `size`."""
    low, high, n = estimate.low, estimate.high, estimate.n
    seen = Interval(estimate.value, low, high, n, why=(estimate.why or ""))
    return allow_for_unseen(seen, size).to_estimate()


def estimate_unseen_rise(rise: Estimate) -> float:
    """What a kind of text that is not among so many may add, however little these rose."""
    return BROKEN_TEXT * bound_unseen_share(rise.n)


def combine_answers(answers: Sequence[CheckAnswer]) -> CheckAnswer:
    """Of several: one that fails fails all, and all have to pass."""
    if "failed" in answers:
        return "failed"
    return "cant_tell" if "cant_tell" in answers else "passed"


def estimate_advantage(first: GateRow, second: GateRow) -> Estimate | None:
    """How much better the first is than the second over the rows of both: above 0 is better, whichever way
    the metric goes. None where no row is in both."""
    own, other = convert_to_scored(first), convert_to_scored(second)
    _, mine, theirs = np.intersect1d(own.row_ids, other.row_ids, return_indices=True)
    groups = first.groups
    of_rows = None if groups is None else [groups.get(row) for row in own.row_ids.tolist()]
    own_scores, other_scores = own.scores[mine], other.scores[theirs]
    both = np.isfinite(own_scores) & np.isfinite(other_scores)
    if groups is None and _is_binary(own, own_scores[both], other_scores[both]) and both.any():
        gap = estimate_answer_change(other_scores[both], own_scores[both]).to_estimate()
    else:
        compared = compute_difference(own, other, of_rows)
        if compared.value is None:
            return None
        gap = Estimate(value=compared.value, low=compared.low, high=compared.high, n=compared.n)
        if why := compared.why:
            gap.why = why
        gap = extrapolate_to_all_rows(gap, _compute_broken_row_difference(own, other))
    return gap if own.better == "higher" else _negate_estimate(gap)


def _compute_broken_row_difference(own: RowScores, other: RowScores) -> float:
    """By how much a row of a kind that is not among these may differ between two models; 0 where the figure
    is no mean of rows."""
    if own.estimator == "perplexity":
        return BROKEN_ROW * max(aggregate_scores(own).value or 0.0, aggregate_scores(other).value or 0.0)
    if own.estimator == "bits_per_byte":
        return BROKEN_ROW / math.log(2) / BYTES_PER_TOKEN
    low, high = own.bounds
    return high - low if own.estimator == "mean" and low is not None and high is not None else 0.0


def _is_binary(own: RowScores, first: NDArray[np.float64], second: NDArray[np.float64]) -> bool:
    plain = own.statistics is None and own.estimator in ("mean", "accuracy", "recall_micro")
    return plain and bool(np.isin(np.concatenate([first, second]), (0.0, 1.0)).all())


def convert_to_scored(row: GateRow) -> RowScores:
    """The rows of a gate as those of a metric."""
    figure = row.figure
    scores = np.array([np.nan if score is None else score for score in row.scores], float)
    statistics = None
    if lists := row.statistics:
        width = max((len(sums) for sums in lists if sums is not None), default=0)
        if width:
            statistics = np.array([[np.nan] * width if sums is None else sums for sums in lists], float)
    low, high = figure.bounds
    return RowScores(
        figure.metric,
        np.array(row.row_ids, np.int64),
        scores,
        estimator=figure.estimator,
        bounds=(low, high),
        better=figure.better,
        statistics=statistics,
        labels=figure.labels,
    )


def _negate_estimate(gap: Estimate) -> Estimate:
    low, high = gap.low, gap.high
    turned: Estimate = replace(
        gap,
        value=-gap.value,
        low=None if high is None else -high,
        high=None if low is None else -low,
    )
    return turned


def estimate_preference(outcomes: Sequence[float], items: Sequence[str], raters: Sequence[str]) -> Estimate:
    """The share of ratings that prefer the version, ties as half, over prompts and raters; each prompt counts
    once, however many rated it, as in the figures of its round.

    A few raters say little of what others would, and hardly show how far people part: under five the interval
    is as wide as Student's t over the raters' own shares at least, and one rater gives none.
    """
    places = [np.unique(np.array(names), return_inverse=True)[1] for names in (items, raters)]
    each = 1 / np.bincount(places[0])[places[0]]
    clusters = RatingClusters(places[0].astype(np.int64), places[1].astype(np.int64), each)
    values = np.array(outcomes, float)
    if clusters.raters < 2:
        why = "only one person rated, and others may disagree"
        return Estimate(value=clusters.mean(values), low=None, high=None, n=len(values), why=why)
    if np.isin(values, (0.0, 1.0)).all():
        share = clustered.estimate_share(values, clusters).to_estimate()
    else:
        share = clustered.estimate_mean(values, clusters, bounds=(0.0, 1.0)).to_estimate()
    if clusters.raters >= clustered.MIN_RATERS or share.low is None or share.high is None:
        return share
    own = np.bincount(places[1], values) / np.bincount(places[1])
    degrees = clusters.raters - 1
    reach = float(special.stdtrit(degrees, 0.975)) * float(own.std(ddof=1)) / clusters.raters**0.5
    share.low = max(0.0, min(share.low, share.value - reach))
    share.high = min(1.0, max(share.high, share.value + reach))
    return share


def estimate_median_seconds(seconds: Sequence[float], looks: int = 1) -> Estimate:
    """The median over repeated measurements, between two of them by rank, as sure as one of so many looks.

    Which values lie under a median is a coin's matter whatever they are distributed like (Thompson 1936), so
    that neither skew nor a few that are ten times as slow mislead it, as they do Student's t of a mean: among
    ten such values none may be slow. Fewer than MIN_TIMINGS have no two ranks that are far enough apart.
    """
    values = np.sort(np.array(seconds, float))
    n = len(values)
    median = float(np.median(values))
    least = max(MIN_TIMINGS, math.ceil(math.log2(looks / 0.025)))
    if n < least:
        return Estimate(
            value=median, low=None, high=None, n=n, why=f"{least} evaluations are needed, there are {n}"
        )
    outside = int(np.searchsorted(special.bdtr(np.arange(n), n, 0.5), 0.025 / looks, side="right"))
    return Estimate(value=median, low=float(values[outside - 1]), high=float(values[n - outside]), n=n)


def estimate_calibration_error(probability: ArrayLike, right: ArrayLike) -> Estimate:
    """The calibration error over 5 to 15 bins of equal mass, each of 30 rows at least.

    On finitely many rows it lies above the truth: chance alone parts how sure and how often right. The upper
    limit is that of resamples as they are, which is on the careful side; the lower one takes what chance adds
    off, as much as a resample adds once more. Fewer bins would not see a model that is too sure of some
    answers and too unsure of others, so fewer than 150 rows give no interval.
    """
    sure, hit = np.asarray(probability, np.float64), np.asarray(right, np.float64)
    n = len(sure)
    bins = min(BINS, n // IN_BIN)
    if bins < MIN_BINS:
        value = float(abs((sure - hit).mean())) if n else 0.0
        why = f"{MIN_BINS * IN_BIN} rows are needed, and there are {n}"
        return Estimate(value=value, low=None, high=None, n=n, why=why)
    order = np.argsort(sure, kind="stable")
    value = _gap((sure - hit)[order][None], bins)[0]
    rng = np.random.default_rng(0)
    drawn = np.sort(rng.integers(0, n, (DRAWS, n)), axis=1)  # in the order of how sure it was
    resampled = _gap((sure - hit)[order][drawn], bins)
    high = float(np.quantile(resampled, 0.975))
    reach = max(high, value) - value
    added = max(0.0, float(resampled.mean()) - value)
    least = max(0.0, float(2 * value - high - added))
    return Estimate(value=float(value), low=min(least, float(value)), high=float(value + reach), n=n)


def _gap(differences: NDArray[np.float64], bins: int) -> NDArray[np.float64]:
    starts = np.linspace(0, differences.shape[1], bins + 1).astype(int)[:-1]
    sums = np.abs(np.add.reduceat(differences, starts, axis=1)).sum(axis=1)
    return cast("NDArray[np.float64]", sums / differences.shape[1])


# By how much repeats that slipped into training may have lifted a difference that judges.
#
# Nobody knows which rows were learned, but of a number of them at most: so the difference is taken without as
# many rows, those without which it is least. Whatever was learned, it is no less than that over the rows that
# were not, however long they are. Of scores without bounds that is not enough, as the rows that were learned
# may be just those on which the new version is far worse. Simulated in `bench/truths/monitoring/slipped.py`.

Floats = NDArray[np.float64]
STEP = 1e-6  # of a row's sums, by which the slope of a figure is measured
MAX_PASSES = 10  # each takes the rows that speak most for the first where the ones before are gone


def estimate_lift(first: GateRow, second: GateRow, rows: int) -> float | None:
    """By how much so many of the rows may have lifted `decide.advantage`, in the metric's unit: its value
    less that without them. Of the rows that count there: of both, with a score in both. None where nobody
    knows."""
    if not rows:
        return 0.0
    if _is_unbounded(first):
        return None
    sums, advantage = _pair_rows(convert_to_scored(first), convert_to_scored(second))
    if rows >= len(sums):
        return None
    whole = sums.sum(axis=0)
    value = float(advantage(whole[None])[0])
    speaks = value - advantage(whole - sums)  # for the first: how far the difference falls without each row
    least = value
    for _ in range(MAX_PASSES):
        left = whole - sums[np.argsort(-speaks, kind="stable")[:rows]].sum(axis=0)
        without = float(advantage(left[None])[0])
        if without >= least:
            break
        least = without
        speaks = (advantage(left + STEP * sums) - without) / STEP  # of one sum over another this is exact
    return value - least


def explain_unknown_lift(first: GateRow) -> str:
    """Why `lift` has no answer, half a sentence."""
    return "as the score of a row has no bounds" if _is_unbounded(first) else "as it may be all of them"


def _is_unbounded(row: GateRow) -> bool:
    return row.figure.estimator == "mean" and None in row.figure.bounds


def _pair_rows(own: RowScores, other: RowScores) -> tuple[Floats, Callable[[Floats], Floats]]:
    """What each row adds to the sums of both [rows, counts], and the advantage by such sums."""
    _, mine, theirs = np.intersect1d(own.row_ids, other.row_ids, return_indices=True)
    both = np.flatnonzero(own.take(mine).usable & other.take(theirs).usable)
    (first, figure), (second, other_figure) = (
        build_row_sums(scored.sums[places[both]], scored) for scored, places in ((own, mine), (other, theirs))
    )
    width = first.shape[1]
    sign = 1.0 if own.better == "higher" else -1.0

    def advantage(sums: Floats) -> Floats:
        return sign * (figure(sums[:, :width]) - other_figure(sums[:, width:]))

    return np.hstack([_convert_to_dense(first), _convert_to_dense(second)]), advantage


def _convert_to_dense(counts: Any) -> Floats:
    """Of figures over classes they are sparse."""
    return np.asarray(counts.toarray() if sparse.issparse(counts) else counts, np.float64)
