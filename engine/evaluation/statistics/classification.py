"""Classifier performance per class, and calibration.

Shares of rows and the F1 of one class have Wilson's interval, averages over classes a bootstrap interval.
Calibration error is reported with the value that a perfectly calibrated model would show on as many rows.
Pure functions from arrays to JSON documents.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from engine.evaluation.statistics import intervals
from engine.evaluation.statistics.estimators import describe_rare_classes
from engine.evaluation.statistics.intervals import Interval, bca_limits, ratio_interval, wilson_interval
from engine.models.confusion import Confusion, compute_f1_averages
from store.core.figure_schemas import Estimate
from store.evaluation.schemas import (
    CalibrationBin,
    CalibrationError,
    CalibrationFigures,
    ClassConfusion,
    ClassFigures,
    ClassRates,
)

# Accuracy, precision, recall and F1 with intervals, and the confusion matrix.
#
# Rows are the unit. Shares of rows (accuracy, a class's recall and precision) have Wilson's interval; so has
# the F1 of one class, which is a function of such a share: J = tp / (tp + fp + fn), F1 = 2J / (1 + J). A
# bootstrap would call the F1 of a class with three rows, all right, certain. Averages over classes are
# resampled: 2,000 draws of the confusion counts, which is equivalent to resampling rows, with BCa limits: for
# 77 classes on 500 rows they covered the truth in 95 of 100 trials, plain percentiles in 76. The macro
# average has no interval if a class has fewer than MIN_CLASS_ROWS rows: it counts as much as any other, and
# no resample can represent a class without rows. A class that is neither present nor predicted has no F1 and
# is excluded from averages, as in scikit-learn.

RESAMPLES = 2_000
F1_CHUNK = 4_000_000  # resampled counts held in memory at a time
MAX_CLASSES = 200  # listed individually in a document
MAX_PAIRS = 400  # confusion matrix cells in a document; the rarest beyond it are dropped

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]


def compute_class_figures(truth: ArrayLike, predicted: ArrayLike, labels: Sequence[str]) -> ClassFigures:
    """Compute the figures of one classifier on one set of rows.

    truth and predicted: indices into `labels`, one per row. Micro F1 equals accuracy if every row has one
    label.
    """
    confusion = Confusion.of(truth, predicted, len(labels))
    right, support, guessed = (part[0] for part in confusion.sums())
    macro, weighted = compute_average_intervals(confusion, labels)
    present = np.flatnonzero(support + guessed)
    listed = present[np.argsort(-support[present], kind="stable")][:MAX_CLASSES]
    order = np.argsort(-confusion.count, kind="stable")[:MAX_PAIRS]
    return ClassFigures(
        n=confusion.n,
        accuracy=wilson_interval(int(right.sum()), confusion.n).to_estimate(),
        f1_macro=macro.to_estimate(),
        f1_weighted=weighted.to_estimate(),
        classes=[
            _compute_class_rates(labels[i], int(right[i]), int(support[i]), int(guessed[i]))
            for i in listed.tolist()
        ],
        class_count=len(present),
        confusion=[
            (labels[confusion.truth[i]], labels[confusion.predicted[i]], int(confusion.count[i]))
            for i in order.tolist()
        ],
        pair_count=len(confusion.count),
    )


def _compute_class_rates(label: str, right: int, support: int, guessed: int) -> ClassRates:
    """Compute the rates of one class. n is its rows for recall, the rows predicted as it for precision, and
    the union of both for F1.
    """
    union = support + guessed - right
    share = wilson_interval(right, union)
    return ClassRates(
        label=label,
        n=support,
        predicted=guessed,
        precision=wilson_interval(right, guessed).to_estimate() if guessed else None,
        recall=wilson_interval(right, support).to_estimate() if support else None,
        f1=Estimate(
            value=_f1(share.value),
            low=_f1(share.low or 0.0),
            high=_f1(share.high or 0.0),
            n=union,
        ),
    )


def _f1(jaccard: float) -> float:
    return 2 * jaccard / (1 + jaccard)


def compute_average_intervals(
    confusion: Confusion, labels: Sequence[str], *, seed: int = 0
) -> tuple[Interval, Interval]:
    """Compute macro and weighted F1 with intervals.

    If a class has too few rows, macro F1 has no interval and names the class. If every draw is the same,
    as with no row wrong, the interval ends where Wilson's does for accuracy: no errors in n rows doesn't
    mean that there never will be any.
    """
    value = [float(part[0]) for part in compute_f1_averages(*confusion.sums())]
    drawn = _bootstrap(confusion, seed)
    left_out = _jackknife(confusion)
    right = int(confusion.count[confusion.truth == confusion.predicted].sum())
    share = wilson_interval(right, confusion.n)
    averages = []
    for estimate, draws, without in zip(value, drawn, left_out, strict=True):
        if confusion.n == 1:
            averages.append(Interval(estimate, None, None, 1, why="there is only one row"))
        elif np.ptp(draws) < 1e-12:
            low, high = min(estimate, share.low or 0.0), max(estimate, share.high or 0.0)
            averages.append(Interval(estimate, low if right else estimate, high, confusion.n))
        else:
            low, high = bca_limits(estimate, draws, without, confusion.n)
            averages.append(Interval(estimate, low, high, confusion.n, float(draws.std())))
    if why := describe_rare_classes(confusion.sums()[1][0], labels):
        return Interval(value[0], None, None, confusion.n, why=why), averages[1]
    return averages[0], averages[1]


def _bootstrap(confusion: Confusion, seed: int) -> tuple[Floats, Floats]:
    generator = np.random.default_rng(seed)
    shares = confusion.count / confusion.n
    macro, weighted = [], []
    for count in intervals.draw_batches(RESAMPLES, len(shares) + confusion.classes, F1_CHUNK):
        draws = generator.multinomial(confusion.n, shares, size=count)
        of_classes, of_rows = compute_f1_averages(*confusion.sums(draws))
        macro.append(of_classes)
        weighted.append(of_rows)
    return np.concatenate(macro), np.concatenate(weighted)


def _jackknife(confusion: Confusion) -> tuple[Floats, Floats]:
    """Compute both averages with each row left out; rows of one cell give the same values."""
    cells, parts = len(confusion.count), []
    at_once = max(1, F1_CHUNK // (cells + confusion.classes))
    for start in range(0, cells, at_once):
        some = np.arange(start, min(cells, start + at_once))
        counts = np.tile(confusion.count, (len(some), 1))
        counts[np.arange(len(some)), some] -= 1
        parts.append(compute_f1_averages(*confusion.sums(counts)))
    macro, weighted = (np.concatenate([part[k] for part in parts]) for k in (0, 1))
    return np.repeat(macro, confusion.count), np.repeat(weighted, confusion.count)


def list_most_confused(confusion: Sequence[tuple[str, str, int]], most: int = 10) -> list[ClassConfusion]:
    """List the pairs of classes confused most often, in both directions, from the cells of a document:
    {"labels": [a, b], "rows", "forth": a predicted as b, "back": b predicted as a}.
    """
    pairs: dict[tuple[str, str], list[int]] = {}
    for label, predicted, count in confusion:
        if label != predicted:
            key = (min(label, predicted), max(label, predicted))
            pairs.setdefault(key, [0, 0])[int(label != key[0])] += int(count)
    confused: list[ClassConfusion] = []
    for (a, b), (forth, back) in pairs.items():
        labels = [a, b] if forth >= back else [b, a]
        most_ways, least_ways = max(forth, back), min(forth, back)
        confused.append(ClassConfusion(labels=labels, rows=forth + back, forth=most_ways, back=least_ways))
    return sorted(confused, key=lambda pair: (-int(pair.rows), pair.labels))[:most]


# Calibration: reliability, calibration error, temperature.
#
# Expected calibration error is never 0 on finitely many rows; it is reported with the value that a perfectly
# calibrated model with the same probabilities would show on as many rows. The temperature divides the logits
# so that the loss on these rows is lowest: above 1 the model is overconfident.

BINS = 15  # with equal numbers of rows
CALIBRATION_DRAWS = 2_000
CALIBRATION_CHUNK = 4_000_000
OVERCONFIDENT = 1.2  # fitted temperature above which a model is overconfident, if its interval lies above 1
MIN_TEMPERATURE, MAX_TEMPERATURE = 0.05, 20.0  # range of the temperature search


def compute_calibration(log_probabilities: ArrayLike, truth: ArrayLike) -> CalibrationFigures:
    """Compute the calibration document of one classifier.

    log_probabilities [rows, classes]; truth: index of each row's class, or -1 for one that the classifier
    doesn't have, which can't be right.
    """
    logs, true = np.asarray(log_probabilities, np.float64), np.asarray(truth, np.int64)
    if logs.ndim != 2 or len(logs) != len(true) or not len(true):
        raise ValueError(f"Probabilities of shape {logs.shape} do not fit {len(true)} rows.")
    probabilities = np.exp(logs)
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == true
    order = np.argsort(confidence, kind="stable")
    starts = np.unique(np.linspace(0, len(order), min(BINS, len(order)) + 1).astype(int)[:-1])
    confidence, right = confidence[order], right[order]
    temperature = fit_temperature(logs, true)
    return CalibrationFigures(
        ece=CalibrationError(
            value=_ece(right[None], confidence, starts)[0],
            null=_estimate_null_ece(confidence, starts),
            n=len(true),
        ),
        brier=ratio_interval(_brier(probabilities, true), np.ones(len(true))).to_estimate(),
        temperature=temperature,
        overconfident=bool(temperature and temperature.value > OVERCONFIDENT and (temperature.low or 0) > 1),
        bins=_build_bins(right, confidence, starts),
    )


def _ece(right: NDArray[np.bool_], confidence: Floats, starts: Counts) -> list[float]:
    """Return the mean gap between accuracy and confidence over the bins for each draw [draws, rows
    in order].
    """
    gaps = np.add.reduceat(right - confidence, starts, axis=1)
    errors: list[float] = (np.abs(gaps).sum(axis=1) / len(confidence)).tolist()
    return errors


def _estimate_null_ece(confidence: Floats, starts: Counts) -> float:
    generator = np.random.default_rng(0)
    n = len(confidence)
    draws = min(CALIBRATION_DRAWS, max(200, 50 * max(1, CALIBRATION_CHUNK // n)))
    errors: list[float] = []
    for count in intervals.draw_batches(draws, n, CALIBRATION_CHUNK):
        errors += _ece(generator.random((count, n)) < confidence, confidence, starts)
    return float(np.quantile(errors, 0.95))


def _brier(probabilities: Floats, truth: NDArray[np.int64]) -> Floats:
    """Return each row's squared distance from the truth over all classes, 0 to 2."""
    labelled = truth >= 0
    squares: Floats = np.square(probabilities).sum(axis=1) + 1
    squares[labelled] -= 2 * probabilities[labelled, truth[labelled]]
    return squares


def _build_bins(right: NDArray[np.bool_], confidence: Floats, starts: Counts) -> list[CalibrationBin]:
    bins: list[CalibrationBin] = []
    for first, end in zip(starts, [*starts[1:], len(confidence)], strict=True):
        n, hits = int(end - first), int(right[first:end].sum())
        share = wilson_interval(hits, n)
        bins.append(
            CalibrationBin(
                confidence=float(confidence[first:end].mean()),
                accuracy=share.value,
                low=share.low,
                high=share.high,
                n=n,
            )
        )
    return bins


def fit_temperature(log_probabilities: ArrayLike, truth: ArrayLike) -> Estimate | None:
    """Fit the temperature with the lowest loss, with a sandwich interval.

    Returns None if the rows don't bound it, for example if every row is right: then a lower temperature
    would always be better. With b = 1/T the loss is convex: its slope is the expected minus the true
    logit, its curvature the variance of the logits.
    """
    labelled = np.asarray(truth) >= 0
    logs = np.maximum(np.asarray(log_probabilities, np.float64)[labelled], -1e4)
    true = np.asarray(truth)[labelled]
    if len(true) < 2:
        return None
    at_truth = logs[np.arange(len(true)), true]
    low, high = 1 / MAX_TEMPERATURE, 1 / MIN_TEMPERATURE
    if _compute_slope(logs, at_truth, high).mean() <= 0 or _compute_slope(logs, at_truth, low).mean() >= 0:
        return None
    for _ in range(60):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if _compute_slope(logs, at_truth, middle).mean() < 0 else (low, middle)
    inverse = math.sqrt(low * high)
    slopes = _compute_slope(logs, at_truth, inverse)
    shares = special.softmax(inverse * logs, axis=1)
    mean = (shares * logs).sum(axis=1, keepdims=True)
    curvature = float((shares * np.square(logs - mean)).sum(axis=1).mean())
    error = math.sqrt(float(np.square(slopes).mean()) / len(true)) / (curvature * inverse)  # of log T
    value = 1 / inverse
    return Estimate(
        value=value,
        low=value * math.exp(-1.96 * error),
        high=value * math.exp(1.96 * error),
        n=len(true),
    )


def _compute_slope(logs: Floats, at_truth: Floats, inverse: float) -> Floats:
    slopes: Floats = (special.softmax(inverse * logs, axis=1) * logs).sum(axis=1) - at_truth
    return slopes
