"""Decide checks from an interval and a limit: passed, failed or inconclusive, also with leaked training rows.

A check passes if the whole 95% interval lies on the good side of the limit, fails if all of it lies on the
other side, and is inconclusive in between. If rows may have been learned, the difference is computed
without those that raise it most. Simulated in `bench/truths`.
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

# A version that is truly at the limit or beyond it passes in at most 5 of 100 cases (2.5 if an interval is
# exact), and one that is truly within it fails as rarely. Binary rows use Tango's interval, which stays valid
# if no row differs; everything else uses the intervals of `statistics.metric_estimates`. Simulated in
# `bench/truths/models/gates.py`.

BROKEN_TEXT = 2.5  # nats per token by which a text may get worse
BYTES_PER_TOKEN = 4.0  # approximately, for English
MIN_TIMINGS = 6  # with fewer, no two ranks contain the median in 95 of 100 cases
BINS, MIN_BINS, IN_BIN = 15, 5, 30  # calibration error: maximum and minimum number of bins, and rows per bin
DRAWS = 1_000


def check_above(estimate: Estimate | None, limit: float) -> CheckAnswer:
    """Return "passed" if the interval lies above the limit, "failed" if it lies at or below it."""
    if estimate is None or estimate.low is None or estimate.high is None:
        return "cant_tell"
    if estimate.low > limit:
        return "passed"
    return "failed" if estimate.high <= limit else "cant_tell"


def check_above_despite_lift(estimate: Estimate | None, limit: float, lifted: float | None) -> CheckAnswer:
    """Return `check_above` for an estimate that may be inflated by `lifted`.

    It passes only if it would without that amount, and never if the amount is unknown (None).
    """
    answer = check_above(estimate, limit)
    if answer != "passed" or estimate is None or estimate.low is None:
        return answer
    return "passed" if lifted is not None and estimate.low - lifted > limit else "cant_tell"


def check_below(estimate: Estimate | None, limit: float) -> CheckAnswer:
    """Return "passed" if the interval lies below the limit, "failed" if it lies at or above it."""
    if estimate is None or estimate.low is None or estimate.high is None:
        return "cant_tell"
    if estimate.high < limit:
        return "passed"
    return "failed" if estimate.low >= limit else "cant_tell"


def extrapolate_to_all_texts(rise: Estimate) -> Estimate:
    """Generalize the rise of the loss on some texts to all such texts.

    The limits allow for a kind of text that isn't in the sample and that is broken (`allow_for_unseen`).

    A rise of 0.1, as 2% of texts rise by 2 nats, passed a limit of 0.1 in 57, 57 and 26 of 100 cases at
    20, 30 and 67 texts; at a size of 2.5 in none (`bench/truths/models/gates.py`).
    """
    return extrapolate_to_all_rows(rise, BROKEN_TEXT)


def extrapolate_to_all_rows(estimate: Estimate, size: float) -> Estimate:
    """Generalize an estimate from some rows to all rows.

    The limits allow for a kind of row that isn't in the sample and differs by `size`.
    """
    low, high, n = estimate.low, estimate.high, estimate.n
    seen = Interval(estimate.value, low, high, n, why=(estimate.why or ""))
    return allow_for_unseen(seen, size).to_estimate()


def estimate_unseen_rise(rise: Estimate) -> float:
    """Return how much an unseen kind of text may add, however small the rise on these texts is."""
    return BROKEN_TEXT * bound_unseen_share(rise.n)


def combine_answers(answers: Sequence[CheckAnswer]) -> CheckAnswer:
    """Combine answers: one failed check fails all, and all have to pass."""
    if "failed" in answers:
        return "failed"
    return "cant_tell" if "cant_tell" in answers else "passed"


def estimate_advantage(first: GateRow, second: GateRow) -> Estimate | None:
    """Estimate how much better the first is than the second on their common rows.

    Positive is better, whichever direction the metric has. Returns None without common rows.
    """
    own, other = convert_to_scored(first), convert_to_scored(second)
    _, mine, theirs = np.intersect1d(own.row_ids, other.row_ids, return_indices=True)
    groups = first.groups
    of_rows = None if groups is None else [groups.get(row) for row in own.row_ids.tolist()]
    own_scores, other_scores = own.scores[mine], other.scores[theirs]
    both = np.isfinite(own_scores) & np.isfinite(other_scores)
    before, after = other_scores[both], own_scores[both]
    plain = own.statistics is None and own.estimator in ("mean", "accuracy", "recall_micro")
    binary = plain and bool(np.isin(np.concatenate([before, after]), (0.0, 1.0)).all())
    if groups is None and binary and both.any():
        gap = estimate_answer_change(before, after).to_estimate()
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
    """Return how much an unseen kind of row may differ between two models; 0 if the metric is no mean of
    rows.
    """
    if own.estimator == "perplexity":
        return BROKEN_ROW * max(aggregate_scores(own).value or 0.0, aggregate_scores(other).value or 0.0)
    if own.estimator == "bits_per_byte":
        return BROKEN_ROW / math.log(2) / BYTES_PER_TOKEN
    low, high = own.bounds
    return high - low if own.estimator == "mean" and low is not None and high is not None else 0.0


def convert_to_scored(row: GateRow) -> RowScores:
    """Convert a gate's rows to those of a metric."""
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
    """Estimate the share of ratings that prefer the version, ties as half, over prompts and raters.

    Each prompt counts once regardless of its number of ratings, as in the round's statistics.

    A few raters say little about others, and hardly show how much people disagree: with fewer than five,
    the interval is at least as wide as Student's t over the raters' own shares, and one rater gives none.
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
    """Estimate the median over repeated measurements, with rank-based limits corrected for `looks`
    comparisons.

    Which values lie below a median is binomial for any distribution (Thompson 1936), so neither skew nor a
    few values that are ten times as slow affect it, unlike Student's t of a mean: a sample of ten may
    contain no slow value. Fewer than MIN_TIMINGS have no two ranks that are far enough apart.
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
    """Estimate the calibration error over 5 to 15 bins of equal mass with at least 30 rows each.

    On finite samples it is biased upward: chance alone separates confidence and accuracy. The upper limit
    is that of uncorrected resamples, which is conservative; the lower one subtracts the bias, estimated by
    how much resamples add again. Fewer bins would miss a model that is overconfident on some answers and
    underconfident on others, so there is no interval below 150 rows.
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
    drawn = np.sort(rng.integers(0, n, (DRAWS, n)), axis=1)  # sorted by confidence
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


# Inflation by leaked repeats. It isn't known which rows were learned, only their maximum number, so the
# difference is computed without that many rows, those without which it is smallest. Whatever was learned,
# this is at most the difference over the rows that were not, however long they are. For unbounded scores that
# isn't enough, as the new version may be far worse on just the rows that were learned. Simulated in
# `bench/truths/monitoring/slipped.py`.

Floats = NDArray[np.float64]
STEP = 1e-6  # fraction of a row's sums for the metric's numerical gradient
MAX_PASSES = 10  # each removes the rows that favor the first most, given the previous ones are removed


def estimate_lift(first: GateRow, second: GateRow, rows: int) -> float | None:
    """Return how much `rows` of the common rows may have inflated `estimate_advantage`, in the metric's unit.

    It is the value minus the value without those rows. Only rows with a score on both sides count. Returns
    None if it can't be determined.
    """
    if not rows:
        return 0.0
    if _is_unbounded(first):
        return None
    sums, advantage = _pair_rows(convert_to_scored(first), convert_to_scored(second))
    if rows >= len(sums):
        return None
    whole = sums.sum(axis=0)
    value = float(advantage(whole[None])[0])
    speaks = value - advantage(whole - sums)  # how much the difference drops without each row
    least = value
    for _ in range(MAX_PASSES):
        left = whole - sums[np.argsort(-speaks, kind="stable")[:rows]].sum(axis=0)
        without = float(advantage(left[None])[0])
        if without >= least:
            break
        least = without
        speaks = (advantage(left + STEP * sums) - without) / STEP  # exact for a ratio of sums
    return value - least


def explain_unknown_lift(first: GateRow) -> str:
    """Return why `estimate_lift` has no value, as a clause."""
    return "as the score of a row has no bounds" if _is_unbounded(first) else "as it may be all of them"


def _is_unbounded(row: GateRow) -> bool:
    return row.figure.estimator == "mean" and None in row.figure.bounds


def _pair_rows(own: RowScores, other: RowScores) -> tuple[Floats, Callable[[Floats], Floats]]:
    """Return each row's contribution to the sums of both sides [rows, counts], and the advantage as a
    function of such sums.
    """
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
    """Convert counts to a dense array; those of metrics over classes are sparse."""
    return np.asarray(counts.toarray() if sparse.issparse(counts) else counts, np.float64)
