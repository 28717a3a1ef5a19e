"""The task's own metric at each validation, higher is better: what counts beside the loss.

Three of the four kinds come from the same pass as the loss and cost nothing:
  accuracy  rows whose class is right (a classification head)
  label     rows whose every trained token is the model's first choice: answering greedily, it gives exactly
            the label, closing token included
  tokens    trained tokens that are the first choice, in supervised tuning
  pairs     pairs in which the chosen answer gained on the rejected one, against the base model
Beside them stands the score of answers that were generated for a few validation rows. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from engine.diagnostics.course.run_course import MetricValues
from engine.diagnostics.statistics.statistics import LEAST_ROWS, wilson_interval
from store.documents.figures.estimate import Estimate
from store.documents.figures.metric import ValidationSums
from store.documents.verdicts.overfitting import MetricPoint

MetricKind = Literal["accuracy", "label", "tokens", "pairs"]
CourseKind = Literal[MetricKind, "answers"]
WORDS: dict[MetricKind, str] = {
    "accuracy": "accuracy",
    "label": "exact label accuracy",
    "tokens": "token accuracy",
    "pairs": "the share of pairs with the chosen answer preferred",
}


def of_rows(
    kind: MetricKind, step: int, row_ids: ArrayLike, correct: ArrayLike, tokens: ArrayLike
) -> MetricValues:
    """The metric of one validation, from what each of its rows got right of so many tokens."""
    right, counted = np.asarray(correct, np.float64), np.asarray(tokens, np.float64)
    if kind == "tokens":
        values, weights = right / np.maximum(counted, 1), counted
    else:
        values, weights = (right == counted if kind == "label" else right).astype(np.float64), None
    every = np.ones(len(right)) if weights is None else weights
    return {"step": step, "row_ids": row_ids, "values": values, "weights": every}


def course(kind: CourseKind, steps: Iterable[ValidationSums]) -> list[MetricPoint]:
    """The metric at each step, with 95% intervals over rows, from sums over its rows
    (`store.queries.rows.task_metric_rows`)."""
    points: list[MetricPoint] = []
    for sums in steps:
        n, share = int(sums["n"]), kind in ("accuracy", "label", "pairs")
        if not n or not sums["w"]:
            continue
        if share:
            bounds = wilson_interval(int(sums["x"]), n).to_dict()
        else:
            bounds = _ratio(sums)
            if bounds["low"] is not None and bounds["low"] == bounds["high"]:
                bounds["low"], bounds["high"] = _agreed(bounds["value"], n, kind)
        points.append({"step": int(sums["step"]), **bounds})
    return points


def _agreed(value: float, n: int, kind: str) -> tuple[float, float] | tuple[None, None]:
    """Limits where all rows agree, which makes nothing certain: of a share, up to z²/(n + z²) of all rows may
    be otherwise; none of answers, as their metric may have no bounds."""
    if kind == "answers":
        return None, None
    z = float(special.ndtri(0.975))
    unseen = z * z / (n + z * z)
    return (1 - unseen) * value, (1 - unseen) * value + unseen


def _ratio(sums: ValidationSums) -> Estimate:
    """By linearisation (Cochran 1977, section 6.3) and Student's t at the effective number of rows, as sums
    allow; no limits of effectively under LEAST_ROWS."""
    n, x, w = int(sums["n"]), float(sums["x"]), float(sums["w"])
    xx, xw, ww = float(sums["xx"]), float(sums["xw"]), float(sums["ww"])
    value = x / w
    if w * w / ww < LEAST_ROWS:
        return {"value": value, "low": None, "high": None, "n": n}
    spread = max(0.0, xx - 2 * value * xw + value * value * ww)
    error = math.sqrt(n / (n - 1) * spread) / w
    half = float(special.stdtrit(w * w / ww - 1, 0.975)) * error
    return {"value": value, "low": value - half, "high": value + half, "n": n}
