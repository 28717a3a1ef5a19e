"""Whether a classifier is as often right as it is sure: reliability, calibration error, temperature.

Expected calibration error is never 0 on finitely many rows; beside it stands what a perfectly calibrated
model with the same probabilities would show on as many rows. The temperature divides the logits so that the
loss on these rows is lowest: above 1 the model is too sure. Pure: arrays in, a JSON document out.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from engine.diagnostics.statistics import resampling
from engine.diagnostics.statistics.statistics import ratio_interval, wilson_interval
from store.documents.figures.estimate import Estimate
from store.documents.verdicts.classification import CalibrationBin, CalibrationFigures

BINS = 15  # of equal mass
DRAWS = 2_000
CHUNK = 4_000_000
OVERCONFIDENT = 1.2  # a fitted temperature above it, whose interval lies above 1
LEAST, MOST = 0.05, 20.0  # of the temperatures that are looked at

Floats = NDArray[np.float64]
Places = NDArray[np.int64]


def calibration(log_probabilities: ArrayLike, truth: ArrayLike) -> CalibrationFigures:
    """The document of one classifier.

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
    temperature = fitted_temperature(logs, true)
    return {
        "ece": {
            "value": _ece(right[None], confidence, starts)[0],
            "null": _null(confidence, starts),
            "n": len(true),
        },
        "brier": ratio_interval(_brier(probabilities, true), np.ones(len(true))).to_dict(),
        "temperature": temperature,
        "overconfident": bool(
            temperature and temperature["value"] > OVERCONFIDENT and (temperature["low"] or 0) > 1
        ),
        "bins": _bins(right, confidence, starts),
    }


def _ece(right: NDArray[np.bool_], confidence: Floats, starts: Places) -> list[float]:
    """Mean gap between share right and confidence over the bins, of each draw [draws, rows in order]."""
    gaps = np.add.reduceat(right - confidence, starts, axis=1)
    errors: list[float] = (np.abs(gaps).sum(axis=1) / len(confidence)).tolist()
    return errors


def _null(confidence: Floats, starts: Places) -> float:
    generator = np.random.default_rng(0)
    n = len(confidence)
    draws = min(DRAWS, max(200, 50 * max(1, CHUNK // n)))
    errors: list[float] = []
    for count in resampling.parts(draws, n, CHUNK):
        errors += _ece(generator.random((count, n)) < confidence, confidence, starts)
    return float(np.quantile(errors, 0.95))


def _brier(probabilities: Floats, truth: NDArray[np.int64]) -> Floats:
    """Of each row the squared distance from the truth over all classes, 0 to 2."""
    labelled = truth >= 0
    squares: Floats = np.square(probabilities).sum(axis=1) + 1
    squares[labelled] -= 2 * probabilities[labelled, truth[labelled]]
    return squares


def _bins(right: NDArray[np.bool_], confidence: Floats, starts: Places) -> list[CalibrationBin]:
    bins: list[CalibrationBin] = []
    for first, end in zip(starts, [*starts[1:], len(confidence)], strict=True):
        n, hits = int(end - first), int(right[first:end].sum())
        share = wilson_interval(hits, n)
        bins.append(
            {
                "confidence": float(confidence[first:end].mean()),
                "accuracy": share.value,
                "low": share.low,
                "high": share.high,
                "n": n,
            }
        )
    return bins


def fitted_temperature(log_probabilities: ArrayLike, truth: ArrayLike) -> Estimate | None:
    """The temperature of the lowest loss, with a sandwich interval; None where the rows don't bound it, as
    when every row is right: then sharper would always be better.

    With b = 1/T the loss is convex: its slope is the expected minus the true logit, its curvature the
    variance of the logits.
    """
    labelled = np.asarray(truth) >= 0
    logs = np.maximum(np.asarray(log_probabilities, np.float64)[labelled], -1e4)
    true = np.asarray(truth)[labelled]
    if len(true) < 2:
        return None
    at_truth = logs[np.arange(len(true)), true]
    low, high = 1 / MOST, 1 / LEAST
    if _slope(logs, at_truth, high).mean() <= 0 or _slope(logs, at_truth, low).mean() >= 0:
        return None
    for _ in range(60):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if _slope(logs, at_truth, middle).mean() < 0 else (low, middle)
    inverse = math.sqrt(low * high)
    slopes = _slope(logs, at_truth, inverse)
    curvature = float(_curvature(logs, inverse).mean())
    error = math.sqrt(float(np.square(slopes).mean()) / len(true)) / (curvature * inverse)  # of log T
    value = 1 / inverse
    return {
        "value": value,
        "low": value * math.exp(-1.96 * error),
        "high": value * math.exp(1.96 * error),
        "n": len(true),
    }


def _slope(logs: Floats, at_truth: Floats, inverse: float) -> Floats:
    slopes: Floats = (special.softmax(inverse * logs, axis=1) * logs).sum(axis=1) - at_truth
    return slopes


def _curvature(logs: Floats, inverse: float) -> Floats:
    shares = special.softmax(inverse * logs, axis=1)
    mean = (shares * logs).sum(axis=1, keepdims=True)
    variances: Floats = (shares * np.square(logs - mean)).sum(axis=1)
    return variances
